"""Task `sst2`: whether a sentence of a film review is positive.

Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank (EMNLP
2013), in the binary form of GLUE. Reads train.tsv, dev.tsv and test.tsv, with a header and their
labels, from the folder `sst2`.

Shape legend: N texts of a split, B texts of a batch, T tokens of the longest of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.tasks.base import Batch, SplitName, digest_of
from nasbench.tasks.classification import METRICS, evaluate_classifier
from nasbench.tasks.files import data_folder, read_lines
from nasbench.tasks.options import check_whole_number
from nasbench.tasks.text import (
    TOKENIZER,
    TextTask,
    TokenSequences,
    encoded,
    load_tokenizer,
    train_word_pieces,
)

if TYPE_CHECKING:
    from nasbench.tasks.text import Tokenizer

SOURCE = "https://github.com/awake020/pytorch_Bert_sst2 (SST-2)"  # GLUE's has no labels of its test
_PADDING = ("[PAD]", "<pad>")  # BERT's and RoBERTa's
_ORDER_SEED = 0

_LABELS = {"0": 0, "1": 1}
_CLASSES = ("negative", "positive")

LabeledText = tuple[str, int]


def sst2(
    data_dir: Path | None = None,
    *,
    vocab_size: int = 8000,
    max_length: int = 64,
    train_size: int | None = None,
    tokenizer: str | None = None,
) -> "TextClassification":
    """67,348 phrases and sentences for training, 872 sentences for validation and 1,821 for test.

    The official files, where a text that also stands in a later split is left out: one of
    train.tsv. Validation is dev.tsv and not a part of train.tsv, whose 66,978 different texts are
    phrases of 6,920 sentences and overlap each other (some stand there twice). A short phrase may
    occur inside of a sentence of validation or test as well, as in every use of this data. An
    accuracy of 85 % has a standard error of 1.2 points on validation, and of 0.8 on test.

    Args:
        data_dir: the folder that holds `sst2`.
        vocab_size: word pieces, trained on the training texts alone.
        max_length: the most tokens of a text, with the one before and the one after it; the end of
            a longer text is cut off.
        train_size: how many training texts to use, the first ones of a fixed random order; None is
            all.
        tokenizer: a local `tokenizer.json` to use instead, with a token for padding.

    Raises:
        RequestError: for missing or damaged files, or a tokenizer that does not fit.
    """
    folder = data_folder("sst2", data_dir, "sst2", SOURCE)
    check_whole_number("max_length", max_length, 3)
    test = _read(folder / "test.tsv")
    validation = _without(test, _read(folder / "dev.tsv"))
    train = _without(validation + test, _read(folder / "train.tsv"))
    if train_size is not None:
        check_whole_number("train_size", train_size, 1, len(train))
        order = np.random.default_rng(_ORDER_SEED).permutation(len(train))
        train = [train[index] for index in order[:train_size]]
    texts_of: dict[SplitName, list[LabeledText]] = {
        "train": train,
        "validation": validation,
        "test": test,
    }
    if tokenizer is None:
        pieces = train_word_pieces([text for text, _ in train], vocab_size)
    else:
        pieces = load_tokenizer(tokenizer)
    padding_ids = [pieces.token_to_id(token) for token in _PADDING]
    padding_id = next((id_ for id_ in padding_ids if id_ is not None), None)
    if padding_id is None:
        raise RequestError(
            f"'{tokenizer}' has no token for padding, which is named {' or '.join(_PADDING)}"
        )
    pieces.enable_truncation(max_length)
    splits = {name: LabeledTexts.of(texts, pieces) for name, texts in texts_of.items()}
    return TextClassification(
        "sst2", len(_LABELS), splits, pieces, padding_id, max_length, _CLASSES
    )


@dataclass(frozen=True, slots=True)
class LabeledTexts:
    """Texts of one purpose, each of one class.

    Args:
        texts: as they stand in the files.
        sequences: their token ids.
        labels: int64 (N,).
    """

    texts: tuple[str, ...]
    sequences: TokenSequences
    labels: Tensor

    @classmethod
    def of(cls, labeled: list[LabeledText], tokenizer: "Tokenizer") -> "LabeledTexts":
        """Texts with their labels, tokenized."""
        texts = tuple(text for text, _ in labeled)
        labels = torch.tensor([label for _, label in labeled], dtype=torch.int64)
        return cls(texts, TokenSequences(encoded(tokenizer, texts)), labels)

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Hash of token ids and labels."""
        return digest_of(self.sequences.tokens_Z, self.sequences.lengths_N, self.labels)


class TextClassification(TextTask):
    """Texts, each of one class.

    Args:
        name: the task's name in `TASKS`.
        num_classes: labels are 0 to this number less 1.
        splits: "train", "validation" and "test".
        tokenizer: what the texts were tokenized with.
        padding_id: its token for padding.
        max_length: the most tokens of a text.
        classes: their names, in the order of the labels; their numbers by default.

    Raises:
        RequestError: for an empty split or a label outside of the classes.
    """

    metrics = METRICS

    def __init__(
        self,
        name: str,
        num_classes: int,
        splits: dict[SplitName, LabeledTexts],
        tokenizer: "Tokenizer",
        padding_id: int,
        max_length: int,
        classes: Sequence[str] = (),
    ) -> None:
        self.name, self.num_classes, self.labeled = name, num_classes, splits
        self.tokenizer, self.padding_id, self.max_length = tokenizer, padding_id, max_length
        names = list(classes) or [str(number) for number in range(num_classes)]
        self.input_form = {"kind": "text", "max_length": max_length, "classes": names}
        super().__init__(splits)
        self.check_labels({name: split.labels for name, split in splits.items()}, num_classes)

    def attachments(self) -> dict[str, str]:
        """The tokenizer."""
        return {TOKENIZER: self.tokenizer.to_str()}

    @property
    def network_settings(self) -> dict[str, int]:
        """The vocabulary with its padding, the longest text and the classes."""
        return {
            "vocab_size": self.tokenizer.get_vocab_size(),
            "max_length": self.max_length,
            "num_classes": self.num_classes,
            "padding_id": self.padding_id,
        }

    def lengths(self, split: SplitName) -> Tensor:
        """Tokens of each text."""
        return self.labeled[split].sequences.lengths_N

    def load(
        self,
        split: SplitName,
        indices_B: Tensor,
        draws_BR: Tensor | None = None,  # noqa: ARG002 - texts are not augmented
    ) -> Batch:
        """Token ids (B, T), filled up with padding, and labels (B,)."""
        samples = self.labeled[split]
        ids_BT = samples.sequences.padded(indices_B, self.padding_id)
        return Batch((ids_BT,), samples.labels[indices_B])

    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        batch_size: int,
        *,
        num_samples: int | None = None,
    ) -> dict[str, float]:
        """Top-1 accuracy, top-1 error and cross-entropy (nats)."""
        return evaluate_classifier(self, model, split, batch_size, num_samples)


def _read(path: Path) -> list[LabeledText]:
    """The texts of a file with their labels, in its order."""
    header, *lines = read_lines(path, SOURCE)
    columns = header.split("\t")
    if len(columns) != 2 or "label" not in columns:
        raise RequestError(
            f"the first line of '{path}' is {header!r}, but it names two columns, of which one is "
            f"'label'; get it from {SOURCE}"
        )
    found = []
    for number, line in enumerate(lines, 2):
        first, _, second = line.partition("\t")
        label, text = (first, second) if columns[0] == "label" else (second, first)
        if label not in _LABELS or not text.strip() or "\t" in second:
            raise RequestError(
                f"line {number} of '{path}' is {line!r}, but each has a label, 0 or 1, a tab and a "
                "text, in the order of the first line"
            )
        found.append((text.strip(), _LABELS[label]))
    return found


def _without(later: list[LabeledText], labeled: list[LabeledText]) -> list[LabeledText]:
    """What does not stand in a later split, whatever its label."""
    taken = {text for text, _ in later}
    return [(text, label) for text, label in labeled if text not in taken]
