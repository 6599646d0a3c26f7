"""Plain causal language model: what a decoder supernet's sub-networks are extracted to.

    logits_BTV = model(tokens_BT)                         all tokens at once

    logits_BTV, cache = model.decode(tokens_BT)           step by step: the same logits, from
    logits_BTV, cache = model.decode(more_BT, cache)      nothing but the new tokens

Shape legend: B batch, T tokens, C features of a token, V vocabulary.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.plain_attention import Attention, KeysValues
from nasbench.supernet.rotary import Rotation

Cache = tuple[KeysValues, ...]  # one entry per block; empty before the first token


def num_cached(cache: Cache) -> int:
    """How many tokens a cache holds."""
    return cache[0].keys_BSW.shape[1] if cache else 0


class GatedFeedForward(nn.Module):
    """Feed-forward block whose inner features are scaled by a gate (SwiGLU: Shazeer, 2020)."""

    def __init__(self, gate: nn.Linear, expand: nn.Linear, project: nn.Linear) -> None:
        super().__init__()
        self.gate, self.expand, self.project = gate, expand, project

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.project(F.silu(self.gate(x_BTC)) * self.expand(x_BTC))


class ParallelBlock(nn.Module):
    """Transformer block that adds attention and feed-forward of one input to it at once."""

    def __init__(
        self,
        attention_norm: nn.LayerNorm,
        attention: Attention,
        feed_forward_norm: nn.LayerNorm,
        feed_forward: GatedFeedForward,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.feed_forward_norm, self.feed_forward = feed_forward_norm, feed_forward

    def forward(
        self, x_BTC: Tensor, rotation: Rotation, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, C) -> (B, T, C), and what later tokens attend to."""
        normed_BTC = self.attention_norm(x_BTC)
        own = self.attention.project(normed_BTC, rotation)
        seen = own if past is None else past.extended(own)
        attended_BTC = self.attention(normed_BTC, seen, rotation=rotation)
        return x_BTC + attended_BTC + self.feed_forward(self.feed_forward_norm(x_BTC)), seen


class CausalLanguageModel(nn.Module):
    """Embeds tokens, runs them through blocks, and gives the next token's logits at each.

    Args:
        rotary_size: how many features of each head carry the position.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        blocks: Sequence[ParallelBlock],
        norm: nn.LayerNorm,
        head: nn.Linear,
        rotary_size: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head
        self.rotary_size = rotary_size

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(tokens_BT)
        return logits_BTV

    def decode(self, tokens_BT: Tensor, cache: Cache = ()) -> tuple[Tensor, Cache]:
        """Logits (B, T, V) of the tokens that follow those in the cache, and the longer cache."""
        x_BTC = self.embedding(tokens_BT)
        rotation = Rotation.of_positions(
            num_cached(cache), tokens_BT.shape[1], self.rotary_size, tokens_BT.device
        )
        longer = []
        for block, past in zip(self.blocks, cache or (None,) * len(self.blocks), strict=True):
            x_BTC, seen = block(x_BTC, rotation, past)
            longer.append(seen)
        return self.head(self.norm(x_BTC)), tuple(longer)
