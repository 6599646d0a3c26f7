"""Language modeling: each token predicted once, windows that move, and exact perplexity."""

import math

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS
from nasbench.tasks.base import IGNORED, summed_cross_entropy
from nasbench.tasks.language_model import language_model
from nasbench.tasks.text import train_byte_pairs

pytest.importorskip("tokenizers", reason="needs the extra text")

LENGTH = 8


@pytest.fixture
def root(tmp_path, sentences):
    folder = tmp_path / "text"
    folder.mkdir()
    for seed, name in enumerate(("tinyshakespeare", "valid", "test")):
        (folder / f"{name}.txt").write_text("\n".join(sentences(60, seed)), encoding="utf-8")
    return tmp_path


@pytest.fixture
def task(root):
    return language_model(root, vocab_size=270, sequence_length=LENGTH)


class Uniform(torch.nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, tokens_BT):
        return torch.zeros(*tokens_BT.shape, self.vocab_size)


def test_one_file_is_cut_in_three(root, task):
    text = (root / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    parts = [
        task.tokenizer.decode(task.windows[name].tokens_Z.tolist())
        for name in ("train", "validation", "test")
    ]
    assert "".join(parts) == text
    assert [round(len(part) / len(text), 2) for part in parts] == [0.9, 0.05, 0.05]


def test_three_files_are_read_as_they_are(root):
    task = language_model(root, validation="valid.txt", test="test.txt", vocab_size=270)
    for split, name in (("train", "tinyshakespeare"), ("validation", "valid"), ("test", "test")):
        text = (root / "text" / f"{name}.txt").read_text(encoding="utf-8")
        assert task.tokenizer.decode(task.windows[split].tokens_Z.tolist()) == text


def test_the_vocabulary_is_of_the_training_text_alone(root, task):
    file = root / "text" / "tinyshakespeare.txt"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-5] + "zzzzz", encoding="utf-8")
    other = language_model(root, vocab_size=270, sequence_length=LENGTH)
    assert other.tokenizer.get_vocab() == task.tokenizer.get_vocab()
    assert other.digests()["train"] == task.digests()["train"]
    assert other.digests()["test"] != task.digests()["test"]


def test_it_is_the_same_each_time(root, task):
    options = {"vocab_size": 270, "sequence_length": LENGTH}
    assert TASKS["language_model"](root, **options).digests() == task.digests()
    options["sequence_length"] = 9
    assert TASKS["language_model"](root, **options).digests()["test"] != task.digests()["test"]


def test_a_vocabulary_of_256_is_bytes(root):
    task = language_model(root, vocab_size=256, sequence_length=LENGTH)
    text = (root / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    assert sum(len(split.tokens_Z) for split in task.windows.values()) == len(text.encode())
    assert task.network_settings == {"vocab_size": 256, "max_length": LENGTH}


@pytest.mark.parametrize("rest", range(LENGTH))
def test_evaluation_predicts_every_token_but_the_first_once(task, rest):
    tokens = task.windows["validation"].tokens_Z.long()
    tokens = tokens[: 3 * LENGTH + rest + 1]
    task.windows["validation"] = task.splits["validation"] = type(task.windows["test"])(
        tokens.int(), LENGTH, keeps_rest=True
    )
    seen, predicted = [], []
    for indices_B in task.in_order("validation", 3):
        (inputs_BT,), targets_BT = task.load("validation", indices_B)
        assert inputs_BT.shape == targets_BT.shape == (len(indices_B), LENGTH)
        is_target = targets_BT != IGNORED
        seen.append(inputs_BT[is_target])
        predicted.append(targets_BT[is_target])
    assert torch.equal(torch.cat(predicted), tokens[1:])
    assert torch.equal(torch.cat(seen), tokens[:-1])


def test_perplexity_is_exact(task):
    found = task.evaluate(Uniform(270), "validation", batch_size=3)
    assert found["perplexity"] == pytest.approx(270)
    assert found["cross_entropy"] == pytest.approx(math.log(270))


def test_perplexity_does_not_depend_on_the_batch_size(task):
    model = SUPERNETS["decoder"].build(preset="tiny", seed=0, **task.network_settings).eval()
    values = [task.evaluate(model, "test", size)["perplexity"] for size in (1, 4, 1000)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    alone = [task.load("test", index) for index in torch.arange(len(task.splits["test"])).split(1)]
    with torch.inference_mode():
        total = sum(float(summed_cross_entropy(model(*b.inputs), b.targets)) for b in alone)
    count = len(task.windows["test"].tokens_Z) - 1
    assert values[0] == pytest.approx(math.exp(total / count), rel=1e-5)


def test_targets_are_counted(task, assert_targets_are_counted):
    assert_targets_are_counted(task)


class TestTrainingWindows:
    def starts(self, task, draws):
        """Where each window begins: the text is replaced by its positions."""
        split = task.windows["train"]
        object.__setattr__(split, "tokens_Z", torch.arange(len(split.tokens_Z)).int())
        indices = torch.arange(len(split))
        (inputs_BT,), targets_BT = task.load("train", indices, draws)
        starts_B = inputs_BT[:, 0]
        steps = torch.arange(LENGTH)
        assert torch.equal(inputs_BT, starts_B[:, None] + steps)
        assert torch.equal(targets_BT, inputs_BT + 1)
        return starts_B - indices * LENGTH, targets_BT

    def test_start_up_to_a_window_later(self, task):
        draws = torch.rand(
            len(task.splits["train"]), 1, generator=torch.Generator().manual_seed(0)
        ).double()
        offsets_B, _ = self.starts(task, draws)
        assert set(offsets_B.tolist()) == set(range(LENGTH))

    def test_stay_inside_of_the_text(self, task):
        draws = torch.full((len(task.splits["train"]), 1), 0.999, dtype=torch.float64)
        offsets_B, targets_BT = self.starts(task, draws)
        assert set(offsets_B[:-1].tolist()) == {LENGTH - 1}
        assert int(targets_BT.max()) == len(task.windows["train"].tokens_Z) - 1

    def test_do_not_depend_on_the_batch(self, task):
        draws = torch.rand(3, 1, generator=torch.Generator().manual_seed(1)).double()
        indices = torch.tensor([4, 0, 2])
        together = task.load("train", indices, draws)
        for row in range(3):
            alone = task.load("train", indices[row : row + 1], draws[row : row + 1])
            assert torch.equal(alone.inputs[0][0], together.inputs[0][row])
            assert torch.equal(alone.targets[0], together.targets[row])

    def test_move_from_epoch_to_epoch(self, task):
        def inputs(number):
            return task.epoch(4, seed=0, epoch=number).load(0).inputs[0]

        assert torch.equal(inputs(1), inputs(1))
        assert not torch.equal(inputs(1), inputs(2))


def test_a_local_tokenizer_is_used(root, tmp_path):
    train_byte_pairs(["ba du ke ba du"], 260).save(str(tmp_path / "tokenizer.json"))
    task = language_model(root, tokenizer=str(tmp_path / "tokenizer.json"))
    assert task.network_settings["vocab_size"] == 260


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": "absent.txt"}, r"there is no '.*absent\.txt'; get it from https"),
        ({"folder": "absent"}, r"needs the folder '.*absent', which does not exist"),
        ({"validation": "valid.txt"}, "a file is named for validation but none for test"),
        ({"test": "test.txt"}, "a file is named for test but none for validation"),
        ({"validation": "test.txt", "test": "test.txt"}, "are three different files, not"),
        ({"sequence_length": 100_000}, "the train text has .* tokens, which is not even one win"),
        ({"sequence_length": 0}, "sequence_length is a whole number from 1 up, not 0"),
        ({"vocab_size": 255}, "vocab_size is a whole number from 256 up, not 255"),
        ({"tokenizer": "absent.json"}, r"there is no tokenizer 'absent\.json'"),
    ],
)
def test_what_cannot_be_is_refused(root, options, said):
    with pytest.raises(RequestError, match=said):
        language_model(root, **options)


def test_a_file_that_is_no_text_is_refused(root):
    (root / "text" / "tinyshakespeare.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=r"tinyshakespeare\.txt' is no UTF-8 text"):
        language_model(root)


@pytest.mark.data
@pytest.mark.parametrize(
    ("options", "num_tokens"),
    [
        ({}, [411_159, 24_515, 24_905]),
        ({"train": "wikitext2.test.tokens", "vocab_size": 256}, [1_130_825, 62_805, 62_819]),
    ],
)
def test_the_public_files_are_read(data_dir, options, num_tokens):
    task = language_model(data_dir, **options)
    assert [len(split.tokens_Z) for split in task.windows.values()] == num_tokens
