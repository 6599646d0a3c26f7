"""Task `multi30k`: captions of photographs, to be translated.

Elliott et al., Multi30K: Multilingual English-German Image Descriptions (2016). Reads the raw text
of its task 1, train, val and the test sets, one file per language, from the folder
`multi30k-en-de`.

Shape legend: N pairs of a split, B pairs of a batch, S source tokens, T target tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError, RequestError, unknown_name
from nasbench.tasks.base import (
    IGNORED,
    Batch,
    SplitName,
    device_of,
    digest_of,
    mean_cross_entropy,
    perplexity,
)
from nasbench.tasks.decoding import beam_search
from nasbench.tasks.files import data_folder, read_lines
from nasbench.tasks.options import check_whole_number
from nasbench.tasks.text import (
    TOKENIZER,
    TextTask,
    TokenSequences,
    encoded,
    train_byte_pairs,
)

if TYPE_CHECKING:
    from nasbench.tasks.text import Tokenizer

SOURCE = "https://github.com/multi30k/dataset (data/task1/raw)"
TEST_SETS = ("test_2016_flickr", "test_2017_flickr", "test_2018_flickr", "test_2017_mscoco")

_SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
PADDING_ID, BEGIN_ID, END_ID = range(3)


def multi30k(
    data_dir: Path | None = None,
    *,
    source: str = "en",
    target: str = "de",
    test: str = "test_2016_flickr",
    vocab_size: int = 6000,
    max_length: int = 64,
    beam_size: int = 4,
) -> "Translation":
    """29,000 pairs for training, 1,014 for validation and 1,000 of the 2016 test set.

    The published splits, as they are; no pair stands in two of them, but a handful share one of
    their sentences. Both languages have one vocabulary, of byte-pair encoding trained on the
    training text of both; translations are written back as plain text, with their case.

    Args:
        data_dir: the folder that holds `multi30k-en-de`.
        source, target: the languages, as the files' names end.
        test: one of `TEST_SETS`.
        vocab_size: tokens of the vocabulary.
        max_length: the most tokens of a sentence, with the one after it. Training pairs with a
            longer sentence are left out, none at the default settings; see
            `Translation.num_left_out`.
        beam_size: of the search for translations.

    Raises:
        RequestError: for missing or damaged files, a bad option, or a pair of validation or test
            with a longer sentence.
    """
    folder = data_folder("multi30k", data_dir, "multi30k-en-de", SOURCE)
    if source == target:
        raise RequestError(f"source and target are two languages, not both '{source}'")
    if test not in TEST_SETS:
        raise unknown_name("test set of multi30k", test, TEST_SETS)
    check_whole_number("max_length", max_length, 2)
    check_whole_number("beam_size", beam_size, 1)
    files: dict[SplitName, str] = {"train": "train", "validation": "val", "test": test}
    text_of = {name: _read(folder, file, source, target) for name, file in files.items()}
    tokenizer = train_byte_pairs(
        [sentence for sentences in text_of["train"] for sentence in sentences],
        vocab_size,
        _SPECIAL_TOKENS,
    )
    splits: dict[SplitName, SentencePairs] = {}
    num_left_out = 0
    for name, (sources, references) in text_of.items():
        pairs = SentencePairs.of(sources, references, tokenizer, max_length)
        num_longer = len(references) - len(pairs)
        if name == "train":
            num_left_out = num_longer
        elif num_longer > 0:
            raise RequestError(
                f"{num_longer} pairs of the {name} split have a sentence of more than {max_length} "
                "tokens, and only training pairs may be left out; raise max_length"
            )
        splits[name] = pairs
    return Translation("multi30k", splits, tokenizer, max_length, beam_size, num_left_out)


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Sentences of two languages.

    Args:
        source: token ids of each sentence and `END_ID`.
        target: `BEGIN_ID`, the token ids of its translation and `END_ID`.
        references: the translations as they stand in the files.
    """

    source: TokenSequences
    target: TokenSequences
    references: tuple[str, ...]

    @classmethod
    def of(
        cls, sources: list[str], references: list[str], tokenizer: "Tokenizer", max_length: int
    ) -> "SentencePairs":
        """The pairs whose sentences have up to `max_length` tokens, with the one at their end."""
        pairs = zip(
            encoded(tokenizer, sources), encoded(tokenizer, references), references, strict=True
        )
        kept = [pair for pair in pairs if max(len(pair[0]), len(pair[1])) < max_length]
        return cls(
            TokenSequences([[*source, END_ID] for source, _, _ in kept]),
            TokenSequences([[BEGIN_ID, *target, END_ID] for _, target, _ in kept]),
            tuple(reference for _, _, reference in kept),
        )

    def __len__(self) -> int:
        return len(self.references)

    def digest(self) -> str:
        """Hash of the token ids of both languages."""
        return digest_of(
            self.source.tokens_Z,
            self.source.lengths_N,
            self.target.tokens_Z,
            self.target.lengths_N,
        )


class Translation(TextTask):
    """Sentences and their translations.

    Args:
        name: the task's name in `TASKS`.
        splits: "train", "validation" and "test".
        tokenizer: of both languages; tokens 0 to 2 are padding, begin and end.
        max_length: the most tokens of a translation, with its end.
        beam_size: of the search for translations.
        num_left_out: training pairs that were too long.

    Raises:
        RequestError: for an empty split.
        MissingExtraError: where sacrebleu is not installed.
    """

    metrics = ("bleu", "cross_entropy", "perplexity")

    def __init__(
        self,
        name: str,
        splits: dict[SplitName, SentencePairs],
        tokenizer: "Tokenizer",
        max_length: int,
        beam_size: int,
        num_left_out: int,
    ) -> None:
        self.name, self.pairs, self.tokenizer = name, splits, tokenizer
        self.max_length, self.beam_size, self.num_left_out = max_length, beam_size, num_left_out
        self.input_form = {
            "kind": "sentence",
            "begin_id": BEGIN_ID,
            "end_id": END_ID,
            "max_length": max_length,
            "beam_size": beam_size,
        }
        super().__init__(splits)
        self._signature = str(_bleu(references=[["one sentence"]]).get_signature())

    def conditions(self) -> dict[str, str]:
        """SacreBLEU's signature, and how sentences are searched."""
        return {"bleu": f"sacreBLEU {self._signature}, beam search of {self.beam_size}"}

    def attachments(self) -> dict[str, str]:
        """The tokenizer."""
        return {TOKENIZER: self.tokenizer.to_str()}

    @property
    def network_settings(self) -> dict[str, int]:
        """The vocabulary and its padding.

        The length for which MACs are counted is the preset's; networks of the seq2seq family take
        longer sentences as well.
        """
        return {"vocab_size": self.tokenizer.get_vocab_size(), "padding_id": PADDING_ID}

    def lengths(self, split: SplitName) -> Tensor:
        """Tokens of each translation and, where equal, of its source."""
        target_N, source_N = self.pairs[split].target.lengths_N, self.pairs[split].source.lengths_N
        return target_N * (int(source_N.max()) + 1) + source_N

    def num_targets(self, indices_B: Tensor) -> int:
        """Tokens of the translations, with their ends."""
        return int((self.pairs["train"].target.lengths_N[indices_B] - 1).sum())

    def load(
        self,
        split: SplitName,
        indices_B: Tensor,
        draws_BR: Tensor | None = None,  # noqa: ARG002 - texts are not augmented
    ) -> Batch:
        """Source (B, S) and target tokens (B, T), and the one after each target token (B, T)."""
        pairs = self.pairs[split]
        target = pairs.target.padded(indices_B, IGNORED)
        target_in_BT = target[:, :-1].masked_fill(target[:, :-1] == IGNORED, PADDING_ID)
        source_BS = pairs.source.padded(indices_B, PADDING_ID)
        return Batch((source_BS, target_in_BT), target[:, 1:].contiguous())

    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        batch_size: int,
        *,
        num_samples: int | None = None,
    ) -> dict[str, float]:
        """BLEU of what beam search finds; cross-entropy (nats) and perplexity per target token."""
        translations = self.translate(model, split, batch_size, num_samples)
        references = self.pairs[split].references[: len(translations)]
        cross_entropy = mean_cross_entropy(self, model, split, batch_size, num_samples)
        return {
            "bleu": float(_bleu().corpus_score(translations, [list(references)]).score),
            "cross_entropy": cross_entropy,
            "perplexity": perplexity(cross_entropy),
        }

    @torch.inference_mode()
    def translate(
        self, model: Any, split: SplitName, batch_size: int, num_samples: int | None = None
    ) -> list[str]:
        """The translations of a split's first `num_samples` sentences, in its order, as plain text.

        Args:
            model: a network of the seq2seq family, in eval mode.
        """
        found: dict[int, str] = {}
        for indices_B in self.in_order(split, batch_size, num_samples):
            source_BS = self.pairs[split].source.padded(indices_B, PADDING_ID).to(device_of(model))
            hypotheses = beam_search(
                model,
                torch.full_like(source_BS[:, :1], BEGIN_ID),
                model.encode(source_BS),
                max_new_tokens=self.max_length,
                end_id=END_ID,
                beam_size=self.beam_size,
            )
            texts = self.tokenizer.decode_batch(hypotheses.tokens_BN.tolist())  # no special tokens
            found.update(zip(indices_B.tolist(), texts, strict=True))
        return [found[index] for index in sorted(found)]


def _bleu(**settings: Any) -> Any:
    """SacreBLEU's BLEU with its default tokenization and case (Post, WMT 2018)."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingExtraError("sacrebleu", "text", "task 'multi30k'") from None
    return BLEU(**settings)


def _read(folder: Path, file: str, source: str, target: str) -> tuple[list[str], list[str]]:
    """The sentences of both languages, line by line."""
    sources, targets = (read_lines(folder / f"{file}.{code}", SOURCE) for code in (source, target))
    if len(sources) != len(targets):
        raise RequestError(
            f"'{folder / file}.{source}' has {len(sources)} lines, but its translation has "
            f"{len(targets)}; get both again from {SOURCE}"
        )
    return sources, targets
