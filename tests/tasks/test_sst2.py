"""SST-2: disjoint splits, word pieces of the training text alone, and what is refused."""

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS
from nasbench.tasks.sst2 import sst2
from nasbench.tasks.text import train_byte_pairs, train_word_pieces

pytest.importorskip("tokenizers", reason="needs the extra text")


def write(folder, file, texts, header="label\tsentence", line_end="\r\n"):
    lines = [header, *(f"{i % 2}\t{text}" for i, text in enumerate(texts))]
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(line_end.join([*lines, ""]), encoding="utf-8", newline="")


@pytest.fixture(scope="module")
def texts(sentences):
    found = sentences(56, 0)
    return {"train": found[:40], "dev": found[40:48], "test": found[48:]}


@pytest.fixture
def root(tmp_path, texts):
    for part, of_part in texts.items():
        write(tmp_path / "sst2", f"{part}.tsv", of_part)
    return tmp_path


@pytest.fixture
def task(root):
    return sst2(root, vocab_size=120, max_length=40)


def test_texts_and_labels_are_those_of_the_files(task, texts):
    assert task.labeled["train"].texts == tuple(texts["train"])
    assert task.labeled["validation"].texts == tuple(texts["dev"])
    assert task.labeled["test"].texts == tuple(texts["test"])
    assert task.labeled["test"].labels.tolist() == [0, 1] * 4


def test_a_text_of_a_later_split_is_left_out_of_an_earlier_one(root, texts):
    write(root / "sst2", "train.tsv", [*texts["train"], texts["dev"][0], f" {texts['test'][0]} "])
    write(root / "sst2", "dev.tsv", [*texts["dev"], texts["test"][1]])
    task = sst2(root, vocab_size=120)
    assert task.labeled["train"].texts == tuple(texts["train"])
    assert task.labeled["validation"].texts == tuple(texts["dev"])
    assert task.labeled["test"].texts == tuple(texts["test"])


def test_the_vocabulary_is_of_the_training_text_alone(root, task, texts):
    write(root / "sst2", "test.tsv", ["quite new zzzz", *texts["test"]])
    other = sst2(root, vocab_size=120, max_length=40)
    assert other.tokenizer.get_vocab() == task.tokenizer.get_vocab()
    assert other.digests()["train"] == task.digests()["train"]
    assert other.digests()["test"] != task.digests()["test"]


def test_it_is_the_same_each_time(root, task):
    again = TASKS["sst2"](root, vocab_size=120, max_length=40)
    assert again.digests() == task.digests()
    assert again.digests() != sst2(root, vocab_size=119, max_length=40).digests()


def test_a_label_is_part_of_the_digest(root, task):
    file = root / "sst2" / "dev.tsv"
    file.write_text(file.read_text().replace("0\t", "1\t", 1))
    changed = sst2(root, vocab_size=120, max_length=40).digests()
    assert changed["validation"] != task.digests()["validation"]


def test_a_longer_text_loses_its_end(root):
    task = sst2(root, vocab_size=120, max_length=5)
    ids = task.load("train", torch.arange(40)).inputs[0]
    assert ids.shape == (40, 5)
    assert ids[:, 0].unique().tolist() == [2]
    assert ids[:, -1].unique().tolist() == [3]


def test_columns_may_be_the_other_way_round(root, task, texts):
    lines = [f"{text}\t{i % 2}" for i, text in enumerate(texts["dev"])]
    (root / "sst2" / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines]))
    assert sst2(root, vocab_size=120, max_length=40).digests() == task.digests()


def test_padding_never_counts(task, assert_padding_never_counts):
    build = SUPERNETS["encoder"].build
    assert_padding_never_counts(task, build(preset="tiny", seed=0, **task.network_settings))


def test_targets_are_counted(task, assert_targets_are_counted):
    assert_targets_are_counted(task)


def test_evaluation_counts_what_is_right(task):
    class Negative(torch.nn.Module):
        def forward(self, ids_BT):
            return torch.tensor([[20.0, 0.0]]).expand(len(ids_BT), 2)

    found = task.evaluate(Negative(), "validation", batch_size=3)
    assert found["top1_accuracy"] == 0.5
    assert found["top1_error"] == 0.5
    assert found["cross_entropy"] == pytest.approx(10)
    assert task.evaluate(Negative(), "validation", 3, num_samples=1)["top1_accuracy"] == 1.0


class TestLocalTokenizer:
    def test_is_used(self, root, tmp_path):
        train_word_pieces(["ba du ke"], 50).save(str(tmp_path / "tokenizer.json"))
        task = sst2(root, tokenizer=str(tmp_path / "tokenizer.json"), max_length=20)
        assert task.network_settings["vocab_size"] == task.tokenizer.get_vocab_size() < 50
        assert 1 in task.load("train", torch.arange(40)).inputs[0]  # a character it has never seen

    def test_may_have_another_token_for_padding(self, root, tmp_path, assert_padding_never_counts):
        tokens = ["<s>", "<pad>", "</s>"]  # RoBERTa's
        train_byte_pairs(["ba du ke"], 270, tokens).save(str(tmp_path / "tokenizer.json"))
        task = sst2(root, tokenizer=str(tmp_path / "tokenizer.json"), max_length=40)
        assert task.network_settings["padding_id"] == 1
        supernet = SUPERNETS["encoder"].build(preset="tiny", seed=0, **task.network_settings)
        assert_padding_never_counts(task, supernet)

    def test_without_padding_is_refused(self, root, tmp_path):
        train_byte_pairs(["a"], 256).save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(RequestError, match=r"has no token for padding, which is named \[PAD\]"):
            sst2(root, tokenizer=str(tmp_path / "tokenizer.json"))


def test_a_part_of_the_training_texts_is_always_the_same(root, task, texts):
    part, smaller = (sst2(root, vocab_size=120, train_size=size) for size in (9, 4))
    assert set(part.labeled["train"].texts) < set(texts["train"])
    assert part.labeled["train"].texts[:4] == smaller.labeled["train"].texts
    assert len(part.labeled["train"].labels.unique()) == 2
    assert part.labeled["test"].texts == task.labeled["test"].texts
    with pytest.raises(RequestError, match="train_size is a whole number from 1 to 40, not 41"):
        sst2(root, vocab_size=120, train_size=41)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "label\ttext\n0\tgood\n2\tbad",
            r"line 3 of '.*dev\.tsv' is '2\\tbad', but each has a lab",
        ),
        ("label\ttext\n0 good", r"line 2 of '.*dev\.tsv' is '0 good'"),
        ("label\ttext\n0\t ", "line 2 of"),
        ("label\ttext\n0\ta\tb", "line 2 of"),
        ("index\tsentence\n0\tgood", r"first line of '.*' is 'index\\tsentence', but it names two"),
        ("", r"first line of '.*dev\.tsv' is ''"),
    ],
)
def test_a_damaged_file_is_refused(root, content, said):
    (root / "sst2" / "dev.tsv").write_text(content)
    with pytest.raises(RequestError, match=said):
        sst2(root, vocab_size=120)


def test_a_missing_file_is_named(root):
    (root / "sst2" / "test.tsv").unlink()
    with pytest.raises(RequestError, match=r"there is no '.*test\.tsv'; get it from https"):
        sst2(root, vocab_size=120)


@pytest.mark.parametrize("max_length", [2, 64.0, True])
def test_a_bad_length_is_refused(root, max_length):
    with pytest.raises(RequestError, match="max_length is a whole number from 3 up, not"):
        sst2(root, vocab_size=120, max_length=max_length)


@pytest.mark.data
@pytest.mark.slow
def test_the_public_files_give_the_documented_splits(data_dir):
    task = sst2(data_dir)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 67348,
        "validation": 872,
        "test": 1821,
    }
    texts = [set(split.texts) for split in task.labeled.values()]
    assert [len(of_split) for of_split in texts] == [66977, 872, 1821]
    assert len(set.union(*texts)) == 66977 + 872 + 1821
    assert task.network_settings == {
        "vocab_size": 8000,
        "max_length": 64,
        "num_classes": 2,
        "padding_id": 0,
    }
    assert task.digests()["train"] == "2cd00f237037bc41"
