"""Text as token ids: vocabularies, sequences of many lengths, and batches of similar lengths.

Vocabularies are trained by the package `tokenizers` (extra `text`), and the same text gives the
same vocabulary in every process; or they come from a local `tokenizer.json`.

Shape legend: N sequences of a split, B sequences of a batch, T tokens of the longest of a batch, Z
tokens of all sequences.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nasbench.errors import MissingExtraError, RequestError
from nasbench.tasks.base import SplitName, Task, digest_of, tensor_of
from nasbench.tasks.options import check_whole_number

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Tokenizer  # for the other tasks of text

_BATCHES_PER_GROUP = (
    64  # sorted by length together: little padding, and different batches each epoch
)


class TokenSequences:
    """Sequences of token ids, one behind the other.

    Attributes:
        tokens_Z: int32.
        lengths_N: tokens of each sequence, int64.

    Args:
        rows: the ids of each sequence.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.tokens_Z = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int32)
        self.lengths_N = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        self._starts_N = self.lengths_N.cumsum(0) - self.lengths_N

    def __len__(self) -> int:
        return len(self.lengths_N)

    def padded(self, indices_B: Tensor, filler: int) -> Tensor:
        """The sequences of these indices, each filled up to the longest: int64 (B, T)."""
        lengths_B1 = self.lengths_N[indices_B, None]
        columns_T = torch.arange(int(lengths_B1.max()))
        positions_BT = self._starts_N[indices_B, None] + columns_T
        tokens_BT = self.tokens_Z[positions_BT.clamp_(max=len(self.tokens_Z) - 1)].long()
        return tokens_BT.masked_fill_(columns_T >= lengths_B1, filler)

    def __getstate__(self) -> dict[str, np.ndarray]:
        """Arrays, which the processes of a machine can share: a tensor would be copied."""
        return {name: tensor.numpy() for name, tensor in vars(self).items()}

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        vars(self).update({name: tensor_of(array) for name, array in state.items()})

    def digest(self) -> str:
        """Hash of all sequences."""
        return digest_of(self.tokens_Z, self.lengths_N)


class TextTask(Task):
    """A task whose samples are texts of many lengths, each batched with others of about its own.

    Training batches are cut from groups of 64 batches of random samples, sorted by length within
    their group, and visited in random order. Evaluation goes from short to long.
    """

    @abstractmethod
    def lengths(self, split: SplitName) -> Tensor:
        """What the samples of a split are sorted by: int64 (N,)."""

    def shuffled(self, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """One epoch of training: the indices of each batch, all of exactly `batch_size`."""
        num_batches, lengths_N = self.num_batches(batch_size), self.lengths("train")
        order = torch.randperm(len(lengths_N), generator=generator)[: num_batches * batch_size]
        batches = [
            batch
            for group in order.split(batch_size * _BATCHES_PER_GROUP)
            for batch in group[lengths_N[group].argsort(stable=True)].split(batch_size)
        ]
        return [batches[i] for i in torch.randperm(num_batches, generator=generator).tolist()]

    def in_order(
        self, split: SplitName, batch_size: int, num_samples: int | None = None
    ) -> list[Tensor]:
        """Indices of batches of at most `batch_size` that cover the first `num_samples` once."""
        return list(self.lengths(split)[:num_samples].argsort(stable=True).split(batch_size))


TOKENIZER = "tokenizer.json"
"""The attachment of a task of text."""


def encoded(tokenizer: "Tokenizer", texts: Iterable[str]) -> list[list[int]]:
    """The token ids of each text, with what the tokenizer puts around it."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def train_word_pieces(texts: Sequence[str], vocab_size: int) -> "Tokenizer":
    """A tokenizer into word pieces as BERT's: of lower case, without accents.

    Tokens 0 to 3 are padding, what the vocabulary cannot write, and what stands before and after
    each text.

    Args:
        texts: what the vocabulary is trained on.
        vocab_size: the most tokens it has.

    Raises:
        RequestError: if the vocabulary has no room for the text's characters.
    """
    library = _tokenizers()
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

    def of_vocabulary(vocabulary: dict[str, int]) -> "Tokenizer":
        model = library.models.WordPiece(vocabulary, unk_token="[UNK]")
        tokenizer = library.Tokenizer(model)
        tokenizer.normalizer = library.normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        return tokenizer

    learner = of_vocabulary({})
    in_text = "".join(sorted({*chain.from_iterable(texts)}))
    characters = sorted({*learner.normalizer.normalize_str(in_text)} - {" "})
    check_whole_number("vocab_size", vocab_size, len(special_tokens) + 2 * len(characters))
    # The trainer numbers the pieces inside of words in the order of a hash table, another one in
    # each process, and breaks ties between pairs by these numbers. Here their order is given.
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special_tokens, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    tokenizer = of_vocabulary(learner.get_vocab())
    tokenizer.add_special_tokens(special_tokens)
    tokenizer.post_processor = library.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def train_byte_pairs(
    texts: Sequence[str], vocab_size: int, special_tokens: Sequence[str] = ()
) -> "Tokenizer":
    """A tokenizer by byte-pair encoding of UTF-8, as GPT-2's: it can write every text.

    Args:
        texts: what the vocabulary is trained on.
        vocab_size: the most tokens it has; 256 and the special ones leave the bytes themselves.
        special_tokens: the first ids.
    """
    check_whole_number("vocab_size", vocab_size, 256 + len(special_tokens))
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: str | Path) -> "Tokenizer":
    """The tokenizer of a local `tokenizer.json`, without padding and truncation of its own.

    Raises:
        RequestError: if there is no such file, or it describes no tokenizer.
    """
    library = _tokenizers()
    path = Path(path).expanduser()
    if not path.is_file():
        raise RequestError(f"there is no tokenizer '{path}'; name a local tokenizer.json")
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise RequestError(f"'{path}' is no tokenizer.json: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _tokenizers() -> Any:
    """The package, on one core unless the environment says otherwise.

    Its threads do not survive a fork, of which versions of it warn, and take no account of how
    many cores a worker may use.
    """
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError("tokenizers", "text", "a task of text") from None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return tokenizers
