"""Multi30k: pairs, one vocabulary, padding, and BLEU of translators of known quality."""

import gzip
import math
import sys

import pytest
import torch

from nasbench.errors import MissingExtraError, RequestError
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS
from nasbench.tasks.base import IGNORED
from nasbench.tasks.multi30k import BEGIN_ID, END_ID, PADDING_ID, multi30k

pytest.importorskip("tokenizers", reason="needs the extra text")
pytest.importorskip("sacrebleu", reason="needs the extra text")

SIZES = {"train": 40, "val": 8, "test_2016_flickr": 7, "test_2017_flickr": 6}


def german(sentence):
    """A language of the same sentences, read backwards and in capitals."""
    return " ".join(reversed(sentence.split())).upper()


@pytest.fixture(scope="module")
def texts(sentences):
    found = sentences(sum(SIZES.values()), 0)
    return {name: [found.pop() for _ in range(size)] for name, size in SIZES.items()}


def write(root, name, english, foreign):
    folder = root / "multi30k-en-de"
    folder.mkdir(exist_ok=True)
    for language, lines in (("en", english), ("de", foreign)):
        (folder / f"{name}.{language}.gz").write_bytes(
            gzip.compress("".join(f"{line}\n" for line in lines).encode())
        )


@pytest.fixture
def root(tmp_path, texts):
    for name, of_file in texts.items():
        write(tmp_path, name, of_file, [german(text) for text in of_file])
    return tmp_path


@pytest.fixture
def task(root):
    return multi30k(root, vocab_size=300)


class Translator(torch.nn.Module):
    """Has learned a list of translations by heart; its state is the answer and what is written."""

    def __init__(self, task, split, answers=None):
        super().__init__()
        pairs = task.pairs[split]
        indices = torch.arange(len(pairs))
        self.sources = pairs.source.padded(indices, PADDING_ID)
        self.answers = pairs.target.padded(indices, END_ID)[:, 1:] if answers is None else answers
        self.vocab_size = task.network_settings["vocab_size"]

    def encode(self, source_BS):
        width = source_BS.shape[1]
        is_same = (self.sources[None, :, :width] == source_BS[:, None]).all(-1)
        is_same &= (self.sources[None, :, width:] == PADDING_ID).all(-1)
        return self.answers[is_same.int().argmax(1)], torch.zeros(len(source_BS), 1).long()

    def decode(self, tokens_BT, state):
        answers_BN, written_B1 = state
        next_B1 = answers_BN.gather(1, written_B1.clamp(max=answers_BN.shape[1] - 1))
        return self.logits(next_B1), (answers_BN, written_B1 + 1)

    def forward(self, source_BS, target_BT):
        return self.logits(self.encode(source_BS)[0][:, : target_BT.shape[1]])

    def logits(self, tokens):
        return 50.0 * torch.nn.functional.one_hot(tokens, self.vocab_size).float()


def test_pairs_are_those_of_the_files(task, texts):
    names = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    for split, name in names.items():
        pairs = task.pairs[split]
        assert pairs.references == tuple(german(text) for text in texts[name])
        source = pairs.source.padded(torch.arange(len(pairs)), PADDING_ID).tolist()
        assert task.tokenizer.decode_batch(source) == texts[name]
        target = pairs.target.padded(torch.arange(len(pairs)), PADDING_ID).tolist()
        assert task.tokenizer.decode_batch(target) == list(pairs.references)


def test_languages_and_test_set_are_options(root, texts):
    task = multi30k(root, source="de", target="en", test="test_2017_flickr", vocab_size=300)
    assert task.pairs["test"].references == tuple(texts["test_2017_flickr"])


def test_a_batch_is_what_the_seq2seq_family_reads(task):
    (source_BS, target_in_BT), target_out_BT = task.load("train", torch.arange(9))
    assert target_in_BT.shape == target_out_BT.shape
    assert target_in_BT[:, 0].tolist() == [BEGIN_ID] * 9
    assert (source_BS == END_ID).sum(1).tolist() == [1] * 9
    is_target = target_out_BT != IGNORED
    assert (target_out_BT == END_ID).sum(1).tolist() == [1] * 9
    for row in range(9):
        count = int(is_target[row].sum())
        assert target_out_BT[row, count - 1] == END_ID
        assert torch.equal(target_in_BT[row, 1:count], target_out_BT[row, : count - 1])
    assert not is_target.all()
    assert (target_in_BT >= 0).all()


def test_it_is_the_same_each_time(root, task):
    assert TASKS["multi30k"](root, vocab_size=300).digests() == task.digests()


def test_the_vocabulary_is_of_the_training_text_alone(root, task):
    write(root, "val", ["zzz zzz zzz"], ["yyy yyy yyy"])
    other = multi30k(root, vocab_size=300)
    assert other.tokenizer.get_vocab() == task.tokenizer.get_vocab()
    assert other.digests()["validation"] != task.digests()["validation"]


def test_padding_never_counts(task, assert_padding_never_counts):
    build = SUPERNETS["seq2seq"].build
    assert_padding_never_counts(task, build(preset="tiny", seed=0, **task.network_settings))


def test_targets_are_counted(task, assert_targets_are_counted):
    assert_targets_are_counted(task)


class TestBleu:
    @pytest.mark.parametrize("batch_size", [3, 100])
    def test_of_a_perfect_translator_is_100(self, task, batch_size):
        found = task.evaluate(Translator(task, "validation"), "validation", batch_size)
        assert found["bleu"] == pytest.approx(100)
        assert found["cross_entropy"] == pytest.approx(0, abs=1e-6)
        assert found["perplexity"] == pytest.approx(1)

    def test_of_garbage_is_near_0(self, task):
        answers = torch.full((SIZES["val"], 60), 40)
        found = task.evaluate(Translator(task, "validation", answers), "validation", 3)
        assert found["bleu"] < 1
        assert found["perplexity"] > 1000

    def test_of_other_sentences_translations_is_between(self, task):
        answers = Translator(task, "validation").answers
        found = task.evaluate(
            Translator(task, "validation", torch.cat((answers[:4], answers[:4]))), "validation", 3
        )
        assert 5 < found["bleu"] < 80

    def test_of_the_first_samples_is_of_these_alone(self, task):
        answers = Translator(task, "validation").answers
        model = Translator(task, "validation", torch.cat((answers[:4], answers[:4])))
        assert task.evaluate(model, "validation", 3, num_samples=4)["bleu"] == pytest.approx(100)

    def test_says_how_it_was_computed(self, task):
        assert (
            task.conditions()["bleu"]
            .removeprefix("sacreBLEU ")
            .startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
        )

    def test_without_its_package_is_refused_before_training(self, root, monkeypatch):
        monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
        with pytest.raises(MissingExtraError, match="'sacrebleu', which is not installed"):
            multi30k(root, vocab_size=300)


def test_translations_stand_in_the_order_of_the_split(task):
    assert task.translate(Translator(task, "test"), "test", 2) == list(
        task.pairs["test"].references
    )


def test_a_supernet_translates(task):
    model = SUPERNETS["seq2seq"].build(preset="tiny", seed=0, **task.network_settings).eval()
    found = task.evaluate(model, "test", 4, num_samples=3)
    assert set(found) == set(task.metrics)
    assert all(math.isfinite(value) for value in found.values())


class TestLongSentences:
    def test_of_training_are_left_out_and_counted(self, root, texts):
        long = " ".join(["ba"] * 200)
        write(root, "train", [*texts["train"], long, "du"], [*texts["train"], "ke", long])
        task = multi30k(root, vocab_size=300, max_length=100)
        assert task.num_left_out == 2
        assert len(task.splits["train"]) == 40

    def test_fit_with_their_end(self, root):
        longest = max(
            int(sequences.lengths_N.max()) - extra
            for pairs in multi30k(root, vocab_size=300).pairs.values()
            for sequences, extra in ((pairs.source, 0), (pairs.target, 1))
        )
        assert multi30k(root, vocab_size=300, max_length=longest).num_left_out == 0

    @pytest.mark.parametrize(
        ("name", "split"), [("val", "validation"), ("test_2016_flickr", "test")]
    )
    def test_of_validation_and_test_are_refused(self, root, name, split):
        write(root, name, ["ba du", " ".join(["ba"] * 200)], ["ke", "lo"])
        said = f"1 pairs of the {split} split have a sentence of more than 100 tokens"
        with pytest.raises(RequestError, match=said):
            multi30k(root, vocab_size=300, max_length=100)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "de"}, "source and target are two languages, not both 'de'"),
        ({"target": "fr"}, r"there is no '.*train\.fr'; get it from https"),
        ({"test": "test_2016"}, "unknown test set of multi30k 'test_2016'; did you mean"),
        ({"vocab_size": 258}, "vocab_size is a whole number from 259 up, not 258"),
        ({"max_length": 1}, "max_length is a whole number from 2 up, not 1"),
        ({"beam_size": 0}, "beam_size is a whole number from 1 up, not 0"),
    ],
)
def test_what_cannot_be_is_refused(root, options, said):
    with pytest.raises(RequestError, match=said):
        multi30k(root, **options)


def test_files_of_different_lengths_are_refused(root):
    write(root, "val", ["ba", "du"], ["ke"])
    with pytest.raises(RequestError, match=r"val\.en' has 2 lines, but its translation has 1"):
        multi30k(root, vocab_size=300)


@pytest.mark.data
@pytest.mark.slow
def test_the_public_files_give_the_documented_splits(data_dir):
    task = multi30k(data_dir)
    assert [len(split) for split in task.splits.values()] == [29_000, 1014, 1000]
    assert task.num_left_out == 0
    assert task.network_settings == {"vocab_size": 6000, "padding_id": 0}
    seen = set()
    for pairs in task.pairs.values():
        sources = task.tokenizer.decode_batch(
            pairs.source.padded(torch.arange(len(pairs)), PADDING_ID).tolist()
        )
        found = set(zip(sources, pairs.references, strict=True))
        assert not found & seen
        seen |= found
