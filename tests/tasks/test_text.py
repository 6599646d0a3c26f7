"""Vocabularies are the same in every process; sequences are padded; batches are of one length."""

import os
import pickle
import subprocess
import sys

import pytest
import torch

from nasbench.errors import MissingExtraError, RequestError
from nasbench.tasks.text import (
    TextTask,
    TokenSequences,
    encoded,
    load_tokenizer,
    train_byte_pairs,
    train_word_pieces,
)

pytest.importorskip("tokenizers", reason="needs the extra text")

IN_TWO_PROCESSES = """
import os, sys
from pathlib import Path
from nasbench.tasks.text import TokenSequences, encoded, train_byte_pairs, train_word_pieces

texts = Path(sys.argv[1]).read_text().splitlines()

def digests():
    for train, vocab_size in ((train_word_pieces, 100), (train_byte_pairs, 300)):
        yield TokenSequences(encoded(train(texts, vocab_size), texts)).digest()

print(*digests(), flush=True)
child = os.fork()  # a data loader of a user; the library warns where it had used threads
if child == 0:
    print(*digests(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_every_process_trains_the_same_vocabulary_and_may_fork(tmp_path, sentences):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(sentences(300, 0)))
    lines = []
    for seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-c", IN_TWO_PROCESSES, str(file)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "tokenizers" not in process.stderr
        lines += process.stdout.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1


@pytest.mark.parametrize(
    ("train", "vocab_size"), [(train_word_pieces, 100), (train_byte_pairs, 300)]
)
def test_the_same_text_gives_the_same_vocabulary(train, vocab_size, sentences):
    texts = sentences(300, 0)
    vocabularies = [train(texts, vocab_size).get_vocab() for _ in range(4)]
    assert len(vocabularies[0]) == vocab_size
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_word_pieces_are_berts(sentences):
    tokenizer = train_word_pieces(sentences(50, 0), 100)
    assert [tokenizer.id_to_token(i) for i in range(4)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    plain, accented = encoded(tokenizer, ["bado steti", "BADO stéti"])
    assert plain == accented
    assert (plain[0], plain[-1]) == (2, 3)
    assert 1 not in plain
    assert encoded(tokenizer, ["漢"]) == [[2, 1, 3]]


def test_word_pieces_need_room_for_the_characters():
    with pytest.raises(RequestError, match="vocab_size is a whole number from 10 up, not 9"):
        train_word_pieces(["aba", "c"], 9)
    tokenizer = train_word_pieces(["aba", "c"], 10)
    assert tokenizer.get_vocab_size() == 10
    assert 1 not in encoded(tokenizer, ["abacab"])[0]


def test_byte_pairs_write_every_text_back(sentences):
    tokenizer = train_byte_pairs(sentences(50, 0), 300, ["<pad>"])
    text = "  Zwei Männer,\tund 漢字 🙂\n"
    (ids,) = encoded(tokenizer, [text])
    assert tokenizer.decode(ids) == text
    assert 0 not in ids


def test_byte_pairs_without_room_for_pairs_are_bytes():
    text = "Männer"
    (ids,) = encoded(train_byte_pairs([text], 256), [text])
    assert len(ids) == len(text.encode())
    with pytest.raises(RequestError, match="vocab_size is a whole number from 257 up, not 256"):
        train_byte_pairs([text], 256, ["<pad>"])


class TestLocalTokenizer:
    def test_is_the_one_that_was_saved(self, tmp_path):
        tokenizer = train_byte_pairs(["aa bb aa"], 258)
        tokenizer.enable_padding(length=50)
        tokenizer.enable_truncation(1)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        assert encoded(loaded, ["aa bb"]) == encoded(tokenizer, ["aa bb"])

    def test_that_is_missing_or_none_is_refused(self, tmp_path):
        with pytest.raises(RequestError, match=r"no tokenizer '.*absent\.json'"):
            load_tokenizer(tmp_path / "absent.json")
        (tmp_path / "bad.json").write_text('{"version": "1.0"}')
        with pytest.raises(RequestError, match=r"bad\.json' is no tokenizer\.json"):
            load_tokenizer(tmp_path / "bad.json")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasbench\[text\]'"):
        train_byte_pairs(["a"], 300)


class TestTokenSequences:
    def test_are_padded_to_the_longest_of_the_batch(self):
        sequences = TokenSequences([[5, 6, 7], [8], [9, 10]])
        assert sequences.padded(torch.tensor([2, 1]), -1).tolist() == [[9, 10], [8, -1]]
        assert sequences.padded(torch.tensor([1]), 0).tolist() == [[8]]
        assert sequences.padded(torch.tensor([0, 2, 0]), 0).tolist() == [
            [5, 6, 7],
            [9, 10, 0],
            [5, 6, 7],
        ]

    def test_have_a_digest_that_sees_where_one_ends(self):
        digests = {
            TokenSequences(rows).digest() for rows in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2], [4]])
        }
        assert len(digests) == 3

    def test_processes_share_the_tokens(self):
        sequences, buffers = TokenSequences([[1, 2, 3]] * 1000), []
        message = pickle.dumps(sequences, protocol=5, buffer_callback=buffers.append)
        assert len(message) < 1000
        received = pickle.loads(message, buffers=[bytes(buffer.raw()) for buffer in buffers])
        assert received.digest() == sequences.digest()
        assert received.padded(torch.tensor([999]), 0).tolist() == [[1, 2, 3]]


class Lengths(TextTask):
    """A task that is nothing but the lengths of its samples."""

    name, metrics, network_settings = "lengths", (), {}

    def __init__(self, lengths):
        self._lengths = torch.tensor(lengths)
        super().__init__(dict.fromkeys(("train", "validation", "test"), lengths))

    def lengths(self, split):
        return self._lengths

    def load(self, split, indices_B, draws_BR=None):
        raise NotImplementedError

    def evaluate(self, model, split, batch_size, *, num_samples=None):
        raise NotImplementedError


class TestBatchesOfSimilarLength:
    task = Lengths([(7 * i) % 40 for i in range(1003)])

    def shuffled(self, seed):
        return self.task.shuffled(8, torch.Generator().manual_seed(seed))

    def test_have_exactly_their_size_and_no_sample_twice(self):
        batches = self.shuffled(0)
        assert [len(batch) for batch in batches] == [8] * 125
        assert len(torch.cat(batches).unique()) == 1000

    def test_follow_from_the_generator_alone(self):
        first, again, other = (torch.cat(self.shuffled(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_hold_different_samples_together_in_each_epoch(self):
        first, other = ({frozenset(b.tolist()) for b in self.shuffled(seed)} for seed in (0, 1))
        assert len(first & other) < 10

    def test_have_little_padding_and_no_order(self):
        spans = [self.task.lengths("train")[batch] for batch in self.shuffled(0)]
        assert max(int(span.max() - span.min()) for span in spans) < 10
        means = torch.tensor([float(span.float().mean()) for span in spans])
        assert not torch.equal(means, means.sort().values)
        assert not torch.equal(means, means.sort(descending=True).values)

    @pytest.mark.parametrize("num_samples", [None, 50, 5000])
    def test_of_an_evaluation_cover_each_sample_once(self, num_samples):
        batches = self.task.in_order("test", 8, num_samples)
        count = min(num_samples or 1003, 1003)
        assert torch.cat(batches).sort().values.tolist() == list(range(count))
        assert all(len(batch) == 8 for batch in batches[:-1])
        lengths = self.task.lengths("test")[torch.cat(batches)]
        assert torch.equal(lengths, lengths.sort().values)
