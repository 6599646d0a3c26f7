"""Written programs as a network again, whatever runtime they run in.

What comes back has the methods of the network that was exported, so a task evaluates it and a
search for text uses it as it would the network itself: `forward`, and `decode` with `encode` where
there are such programs.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nasbench.export.programs import TensorSpec

Run = Callable[..., tuple[Tensor, ...]]
"""A program in its runtime: its inputs, of any batch size, in; all of its outputs out."""

Cache = tuple[Tensor, ...]


def as_network(runs: Mapping[str, Run], inputs: Mapping[str, Sequence[TensorSpec]]) -> nn.Module:
    """The network of these programs.

    Args:
        runs: name of a program -> the program in its runtime.
        inputs: name of a program -> its inputs.
    """
    if "decoder" not in runs:
        return ExportedNetwork(runs["model"])
    past = [spec for spec in inputs["decoder"] if spec.name.startswith("past_")]
    if "encoder" not in runs:
        return ExportedLanguageModel(runs["decoder"], past)
    return ExportedTranslator(runs["encoder"], runs["decoder"], past)


class ExportedNetwork(nn.Module):
    """A network of one program with one output."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network computes."""
        (output,) = self._run(*inputs)
        return output


class ExportedLanguageModel(nn.Module):
    """A decoder with its key-value cache."""

    def __init__(self, run: Run, past: Sequence[TensorSpec]) -> None:
        super().__init__()
        self._run, self._past = run, past

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(tokens_BT)
        return logits_BTV

    def decode(self, tokens_BT: Tensor, cache: Cache = ()) -> tuple[Tensor, Cache]:
        """Logits (B, T, V) of the tokens that follow those in the cache, and the longer cache."""
        past = cache or empty_cache(self._past, len(tokens_BT))
        logits_BTV, *longer = self._run(tokens_BT, *past)
        return logits_BTV, tuple(longer)


class ExportedTranslator(nn.Module):
    """An encoder, and a decoder with its key-value cache."""

    def __init__(self, encoder: Run, decoder: Run, past: Sequence[TensorSpec]) -> None:
        super().__init__()
        self._encoder, self._decoder, self._past = encoder, decoder, past

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Source (B, S) and target tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(target_BT, self.encode(source_BS))
        return logits_BTV

    def encode(self, source_BS: Tensor) -> tuple[Cache, Cache]:
        """What is remembered of a source (B, S), and a cache without tokens."""
        return self._encoder(source_BS), empty_cache(self._past, len(source_BS))

    def decode(
        self, target_BT: Tensor, state: tuple[Cache, Cache]
    ) -> tuple[Tensor, tuple[Cache, Cache]]:
        """Logits (B, T, V) of the target tokens that follow the state, and the state after them."""
        remembered, past = state
        logits_BTV, *longer = self._decoder(target_BT, *remembered, *past)
        return logits_BTV, (remembered, tuple(longer))


def empty_cache(past: Sequence[TensorSpec], batch_size: int) -> Cache:
    """The cache before the first token."""
    return tuple(torch.zeros(batch_size, 0, int(spec.shape[-1])) for spec in past)
