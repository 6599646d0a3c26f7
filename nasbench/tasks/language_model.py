"""Task `language_model`: each token of a text, predicted from those before it.

Reads plain UTF-8 files. The default is the shakespeare of Karpathy's char-rnn, from the folder
`text`; any other text is a matter of options:

    {folder: wikitext-2, train: wiki.train.tokens, validation: wiki.valid.tokens,
     test: wiki.test.tokens}                            three files
    {train: wikitext2.test.tokens}                      one file, cut in three

Perplexities are per token, so they compare networks of one vocabulary.

Shape legend: Z tokens of a text, B windows of a batch, T tokens of a window.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.tasks.base import (
    IGNORED,
    Batch,
    SplitName,
    Task,
    digest_of,
    mean_cross_entropy,
    perplexity,
)
from nasbench.tasks.files import data_folder, read_text
from nasbench.tasks.options import check_whole_number
from nasbench.tasks.text import (
    TOKENIZER,
    TokenSequences,
    encoded,
    load_tokenizer,
    train_byte_pairs,
)

if TYPE_CHECKING:
    from nasbench.tasks.text import Tokenizer

SOURCE = "https://github.com/karpathy/char-rnn (data/tinyshakespeare/input.txt)"
_PARTS = (0.0, 0.9, 0.95, 1.0)  # where one file is cut into train, validation and test


def language_model(
    data_dir: Path | None = None,
    *,
    folder: str = "text",
    train: str = "tinyshakespeare.txt",
    validation: str | None = None,
    test: str | None = None,
    vocab_size: int = 1024,
    sequence_length: int = 128,
    tokenizer: str | None = None,
) -> "LanguageModeling":
    """Windows of a text, each token of which is to be predicted.

    Args:
        data_dir: the folder that holds `folder`.
        folder: where the files are.
        train: the file of the training text. Without the next two it is cut by position: 90 % of
            its characters are for training, the next 5 % for validation, the last 5 % for test.
        validation, test: the files of the other texts.
        vocab_size: tokens of byte-pair encoding, trained on the training text alone; 256 are the
            bytes themselves.
        sequence_length: tokens of a window.
        tokenizer: a local `tokenizer.json` to use instead.

    Raises:
        RequestError: for missing files, texts that are too short, or a bad option.
    """
    where = data_folder("language_model", data_dir, folder, SOURCE)
    check_whole_number("sequence_length", sequence_length, 1)
    text_of = _texts(where, train, validation, test)
    if tokenizer is None:
        words = train_byte_pairs(_lines(text_of["train"]), vocab_size)
    else:
        words = load_tokenizer(tokenizer)
    splits = {
        name: TokenWindows(_tokens(words, text), sequence_length, keeps_rest=name != "train")
        for name, text in text_of.items()
    }
    for name, split in splits.items():
        if len(split) == 0:
            raise RequestError(
                f"the {name} text has {len(split.tokens_Z)} tokens, which is not even one window "
                f"of {sequence_length} and the next; lower sequence_length"
            )
    return LanguageModeling("language_model", splits, words, sequence_length)


@dataclass(frozen=True, slots=True)
class TokenWindows:
    """A text cut into windows, side by side.

    Args:
        tokens_Z: int32.
        length: T.
        keeps_rest: whether there is a last window of fewer tokens.
    """

    tokens_Z: Tensor
    length: int
    keeps_rest: bool

    def __len__(self) -> int:
        num_targets = max(0, len(self.tokens_Z) - 1)
        return -(-num_targets // self.length) if self.keeps_rest else num_targets // self.length

    def digest(self) -> str:
        """Hash of the tokens and the windows' length."""
        return digest_of(self.tokens_Z, torch.tensor(self.length))


class LanguageModeling(Task):
    """A text, each token of which is predicted from those before it in its window.

    In evaluation the windows stand side by side, so every token but the first is predicted exactly
    once. In training each starts up to a window's length later, by its own random number; so over
    the epochs a token is predicted from contexts of every length, once per epoch in the mean.

    Args:
        name: the task's name in `TASKS`.
        splits: "train" of whole windows, "validation" and "test" with their rests.
        tokenizer: what the texts were tokenized with.
        sequence_length: T.

    Raises:
        RequestError: for an empty split.
    """

    metrics = ("perplexity", "cross_entropy")
    num_draws = 1

    def __init__(
        self,
        name: str,
        splits: dict[SplitName, TokenWindows],
        tokenizer: "Tokenizer",
        sequence_length: int,
    ) -> None:
        self.name, self.windows = name, splits
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self.input_form = {"kind": "prompt"}
        super().__init__(splits)

    def attachments(self) -> dict[str, str]:
        """The tokenizer."""
        return {TOKENIZER: self.tokenizer.to_str()}

    @property
    def network_settings(self) -> dict[str, int]:
        """The vocabulary and the windows' length."""
        vocab_size = self.tokenizer.get_vocab_size()
        return {"vocab_size": vocab_size, "max_length": self.sequence_length}

    def num_targets(self, indices_B: Tensor) -> int:
        """One per token: training windows are whole."""
        return len(indices_B) * self.sequence_length

    def load(self, split: SplitName, indices_B: Tensor, draws_BR: Tensor | None = None) -> Batch:
        """Tokens (B, T) and the one after each (B, T), `IGNORED` behind the end of the text."""
        tokens_Z, length = self.windows[split].tokens_Z, self.sequence_length
        starts_B = indices_B * length
        if draws_BR is not None:
            latest = len(tokens_Z) - 1 - length
            starts_B = (starts_B + (draws_BR[:, 0] * length).long()).clamp(max=latest)
        positions = starts_B[:, None] + torch.arange(length + 1)
        tokens = tokens_Z[positions.clamp(max=len(tokens_Z) - 1)].long()
        targets_BT = tokens.masked_fill(positions >= len(tokens_Z), IGNORED)[:, 1:]
        return Batch((tokens[:, :-1].contiguous(),), targets_BT.contiguous())

    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        batch_size: int,
        *,
        num_samples: int | None = None,
    ) -> dict[str, float]:
        """Perplexity per token, and cross-entropy (nats per token)."""
        cross_entropy = mean_cross_entropy(self, model, split, batch_size, num_samples)
        return {"perplexity": perplexity(cross_entropy), "cross_entropy": cross_entropy}


def _texts(
    folder: Path, train: str, validation: str | None, test: str | None
) -> dict[SplitName, str]:
    if validation is None and test is None:
        whole = read_text(folder / train, SOURCE)
        cuts = pairwise(round(part * len(whole)) for part in _PARTS)
        first, second, third = (whole[start:end] for start, end in cuts)
        return {"train": first, "validation": second, "test": third}
    if validation is None or test is None:
        given, missing = ("test", "validation") if validation is None else ("validation", "test")
        raise RequestError(
            f"a file is named for {given} but none for {missing}; name both, or neither, so that "
            "the training file is cut into the three"
        )
    if len({train, validation, test}) < 3:
        raise RequestError(
            f"train, validation and test are three different files, not '{train}', "
            f"'{validation}' and '{test}'"
        )
    return {
        "train": read_text(folder / train, SOURCE),
        "validation": read_text(folder / validation, SOURCE),
        "test": read_text(folder / test, SOURCE),
    }


def _lines(text: str) -> list[str]:
    """The text in pieces that tokens never span."""
    return text.splitlines(keepends=True)


def _tokens(tokenizer: "Tokenizer", text: str) -> Tensor:
    return TokenSequences(encoded(tokenizer, _lines(text))).tokens_Z
