"""Decoder supernets: causal language models with elastic depth, width, heads and feed-forward.

The network of HW-GPT-Bench (Sukthanker et al., NeurIPS 2024): a token embedding, pre-normalized
blocks that compute attention and a gated feed-forward side by side, a final normalization and an
output layer of its own weights; positions are rotary. Its dimensions:

    hidden_size                 features of a token; changes parameters, MACs and output
    depth                       how many blocks run, always the first ones; changes all three
    has_bias                    whether the blocks' linear layers have biases; changes parameters
                                and output, but not MACs
    layer1.num_heads            attention heads of a fixed size, the first ones; changes all three
    layer1.feed_forward_ratio   inner features of the feed-forward per feature of a token; changes
                                all three

A block's dimensions are inactive at depths that leave it out. So there are as many architectures
as hidden sizes times 2 times the sum, over the depths d, of (numbers of heads x ratios)^d:
3 x 2 x (9^10 + 9^11 + 9^12), about 1.9e12, in `gpt_s`.

Sequences of a batch start at its first column; what stands after the end of one (padding) changes
none of its logits.

Shape legend: B batch, T tokens, C features of a token, V vocabulary.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.attention import ElasticAttention, FixedHeadSize, Heads
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import Counts, ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from nasbench.supernet.plain_attention import KeysValues
from nasbench.supernet.plain_decoder import (
    Cache,
    CausalLanguageModel,
    GatedFeedForward,
    ParallelBlock,
    num_cached,
)
from nasbench.supernet.rotary import Rotation
from nasbench.supernet.sharing import ElasticLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec:
    """All about one supernet.

    Args:
        rotary_size: how many features of each head carry the position.
        max_length: tokens of the example inputs, for which MACs are counted; positions need no
            table, so longer sequences are computed as well.
    """

    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    biases: tuple[bool, ...]
    num_heads: tuple[int, ...]
    feed_forward_ratios: tuple[int, ...]
    head_size: int
    rotary_size: int
    vocab_size: int
    max_length: int

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_length"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise RequestError(f"{name} is a whole number from 1 up, not {value!r}")

    def space(self) -> SearchSpace:
        """The elastic dimensions, those of blocks in the order of computation."""
        dimensions = [
            ElasticDimension("hidden_size", self.hidden_sizes),
            ElasticDimension("depth", self.depths),
            ElasticDimension("has_bias", self.biases),
        ]
        for layer in range(1, max(self.depths) + 1):
            deep_enough = tuple(depth for depth in self.depths if depth >= layer)
            condition = None if deep_enough == self.depths else ActiveWhen("depth", deep_enough)
            dimensions += [
                ElasticDimension(f"layer{layer}.num_heads", self.num_heads, condition),
                ElasticDimension(
                    f"layer{layer}.feed_forward_ratio", self.feed_forward_ratios, condition
                ),
            ]
        return SearchSpace(dimensions)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The active sizes of one block, but for the features of its tokens."""

    heads: Heads
    feed_forward_width: int
    with_bias: bool


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The active sizes of the network: as many blocks as run."""

    hidden_size: int
    blocks: tuple[BlockShape, ...]


class ElasticGatedFeedForward(nn.Module):
    """Gated feed-forward of elastic width: see `GatedFeedForward`."""

    def __init__(self, features: int, feed_forward_width: int) -> None:
        super().__init__()
        self.gate = ElasticLinear(features, feed_forward_width)
        self.expand = ElasticLinear(features, feed_forward_width)
        self.project = ElasticLinear(feed_forward_width, features)

    @property
    def layers(self) -> tuple[ElasticLinear, ElasticLinear, ElasticLinear]:
        """The linear layers."""
        return self.gate, self.expand, self.project

    def forward(self, x_BTC: Tensor, shape: BlockShape) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        inner, with_bias = shape.feed_forward_width, shape.with_bias
        gate = F.silu(self.gate(x_BTC, inner, with_bias=with_bias))
        gated = gate * self.expand(x_BTC, inner, with_bias=with_bias)
        return self.project(gated, x_BTC.shape[-1], with_bias=with_bias)

    def channel_group(
        self, dimension: str, widths_at: Mapping[Choice, Collection[int]]
    ) -> ChannelGroup:
        """The inner features, whose number follows from that dimension's choice."""
        return ChannelGroup(
            dimension=dimension,
            widths_at=widths_at,
            writers=[self.gate.reorder_outputs, self.expand.reorder_outputs],
            reader=self.project.shared,
        )

    def extract(self, features: int, shape: BlockShape) -> GatedFeedForward:
        """The plain feed-forward of this shape."""
        inner, with_bias = shape.feed_forward_width, shape.with_bias
        return GatedFeedForward(
            self.gate.extract(features, inner, with_bias=with_bias),
            self.expand.extract(features, inner, with_bias=with_bias),
            self.project.extract(inner, features, with_bias=with_bias),
        )

    def count(self, features: int, shape: BlockShape, num_tokens: int) -> Counts:
        """Counts of the plain feed-forward of this shape."""
        inner, with_bias = shape.feed_forward_width, shape.with_bias
        widen = self.gate.count(features, inner, num_tokens, with_bias=with_bias)
        narrow = self.project.count(inner, features, num_tokens, with_bias=with_bias)
        return widen + widen + narrow


class ElasticParallelBlock(nn.Module):
    """Block of elastic width, heads and feed-forward: see `ParallelBlock`."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        features = max(spec.hidden_sizes)
        self.attention_norm = ElasticLayerNorm(features)
        self.attention = ElasticAttention(
            features,
            max(spec.num_heads) * spec.head_size,
            is_causal=True,
            has_key_bias=True,
        )
        self.feed_forward_norm = ElasticLayerNorm(features)
        feed_forward_width = features * max(spec.feed_forward_ratios)
        self.feed_forward = ElasticGatedFeedForward(features, feed_forward_width)

    def forward(
        self, x_BTC: Tensor, shape: BlockShape, rotation: Rotation, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, C) -> (B, T, C), and what later tokens attend to."""
        heads, with_bias = shape.heads, shape.with_bias
        normed_BTC = self.attention_norm(x_BTC)
        own = self.attention.project(normed_BTC, heads, rotation=rotation, with_bias=with_bias)
        seen = own if past is None else past.extended(own)
        attended_BTC = self.attention(
            normed_BTC, seen, heads, rotation=rotation, with_bias=with_bias
        )
        forwarded_BTC = self.feed_forward(self.feed_forward_norm(x_BTC), shape)
        return x_BTC + attended_BTC + forwarded_BTC, seen

    def extract(self, features: int, shape: BlockShape) -> ParallelBlock:
        """The plain block of this shape."""
        return ParallelBlock(
            self.attention_norm.extract(features),
            self.attention.extract(features, shape.heads, with_bias=shape.with_bias),
            self.feed_forward_norm.extract(features),
            self.feed_forward.extract(features, shape),
        )

    def count(self, features: int, shape: BlockShape, num_tokens: int) -> Counts:
        """Counts of the plain block of this shape."""
        counts = self.attention_norm.count(features) + self.feed_forward_norm.count(features)
        counts += self.attention.count(
            features, shape.heads, num_tokens, num_tokens, with_bias=shape.with_bias
        )
        return counts + self.feed_forward.count(features, shape, num_tokens)


class DecoderSupernet(Supernet[DecoderShape]):
    """A causal language model with elastic depth, width, biases, heads and feed-forward.

    `forward` and `decode` are those of the `CausalLanguageModel` that it extracts to.
    """

    spec: DecoderSpec

    def __init__(self, spec: DecoderSpec, settings: dict[str, Any]) -> None:
        super().__init__(spec.space(), settings, spec)
        features = max(spec.hidden_sizes)
        self.embedding = ElasticEmbedding(spec.vocab_size, features)
        self.blocks = nn.ModuleList(ElasticParallelBlock(spec) for _ in range(max(spec.depths)))
        self.norm = ElasticLayerNorm(features)
        self.head = ElasticLinear(features, spec.vocab_size, has_bias=False)
        self.activate(self.space.largest)

    def _running_blocks(
        self, shape: DecoderShape
    ) -> Iterator[tuple[ElasticParallelBlock, BlockShape]]:
        """The blocks that a shape lets run, the first ones."""
        for block, block_shape in zip(self.blocks, shape.blocks, strict=False):
            yield cast(ElasticParallelBlock, block), block_shape

    @property
    def output_layer(self) -> nn.Module:
        """The layer that gives the next token's logits."""
        return self.head

    def residual_ends(self) -> list[nn.Module]:
        """The output layers of each block's attention and feed-forward."""
        blocks = [cast(ElasticParallelBlock, block) for block in self.blocks]
        return [end for b in blocks for end in (b.attention.out, b.feed_forward.project)]

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """Each block's feed-forward."""
        return [cast(ElasticParallelBlock, block).feed_forward.layers for block in self.blocks]

    def channel_groups(self) -> list[ChannelGroup]:
        """The inner features of each block's feed-forward."""
        widths_at: dict[Choice, set[int]] = {
            ratio: {size * ratio for size in self.spec.hidden_sizes}
            for ratio in self.spec.feed_forward_ratios
        }
        return [
            cast(ElasticParallelBlock, block).feed_forward.channel_group(
                f"layer{layer}.feed_forward_ratio", widths_at
            )
            for layer, block in enumerate(self.blocks, 1)
        ]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(tokens_BT)
        return logits_BTV

    def decode(self, tokens_BT: Tensor, cache: Cache = ()) -> tuple[Tensor, Cache]:
        """Logits (B, T, V) of the tokens that follow those in the cache, and the longer cache.

        The cache is one that this architecture has made.
        """
        longer = []
        for x_BTC, seen in self._states(tokens_BT, cache):  # noqa: B007 - the last one is used
            longer.append(seen)
        return self._logits(x_BTC), tuple(longer)

    def _exits(self, tokens_BT: Tensor) -> dict[int, Tensor]:
        """Depth -> logits (B, T, V), with the one normalization and output layer.

        Kavehzadeh et al., Sorted LLaMA (2023).
        """
        states = enumerate(self._states(tokens_BT, ()), 1)
        return {
            depth: self._logits(x_BTC) for depth, (x_BTC, _) in states if depth in self.spec.depths
        }

    def _states(self, tokens_BT: Tensor, cache: Cache) -> Iterator[tuple[Tensor, KeysValues]]:
        """What leaves each block that runs, (B, T, C), and what later tokens attend to in it."""
        x_BTC = self.embedding(tokens_BT, self.shape.hidden_size)
        rotation = Rotation.of_positions(
            num_cached(cache), tokens_BT.shape[1], self.spec.rotary_size, tokens_BT.device
        )
        pasts = cache or (None,) * len(self.shape.blocks)
        for (block, shape), past in zip(self._running_blocks(self.shape), pasts, strict=True):
            x_BTC, seen = block(x_BTC, shape, rotation, past)
            yield x_BTC, seen

    def _logits(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return self.head(self.norm(x_BTC), self.spec.vocab_size)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Random tokens, on the device of the weights."""
        tokens_BT = torch.randint(
            self.spec.vocab_size,
            (batch_size, self.spec.max_length),
            generator=torch.Generator().manual_seed(0),
        )
        return (tokens_BT.to(self.norm.weight.device),)

    def shape_of(self, architecture: Architecture) -> DecoderShape:
        """The active sizes of the network and of every block that runs."""
        sizes = cast(Mapping[str, int], architecture)
        kind = FixedHeadSize(self.spec.head_size)
        blocks = tuple(
            BlockShape(
                kind.heads(sizes[f"layer{layer}.num_heads"]),
                sizes["hidden_size"] * sizes[f"layer{layer}.feed_forward_ratio"],
                bool(architecture["has_bias"]),
            )
            for layer in range(1, sizes["depth"] + 1)
        )
        return DecoderShape(sizes["hidden_size"], blocks)

    def extract_shape(self, shape: DecoderShape) -> CausalLanguageModel:
        """A plain causal language model."""
        features = shape.hidden_size
        return CausalLanguageModel(
            self.embedding.extract(features),
            [block.extract(features, sizes) for block, sizes in self._running_blocks(shape)],
            self.norm.extract(features),
            self.head.extract(features, self.spec.vocab_size),
            self.spec.rotary_size,
        )

    def count_shape(self, shape: DecoderShape) -> Counts:
        """Counts for one sequence of `max_length` tokens."""
        features, num_tokens = shape.hidden_size, self.spec.max_length
        counts = self.embedding.count(features) + self.norm.count(features)
        for block, block_shape in self._running_blocks(shape):
            counts += block.count(features, block_shape, num_tokens)
        return counts + self.head.count(features, self.spec.vocab_size, num_tokens)


def _tiny() -> DecoderSpec:
    """For characters; trains in seconds on one core."""
    return DecoderSpec(
        hidden_sizes=(16, 24, 32),
        depths=(1, 2, 3),
        biases=(False, True),
        num_heads=(1, 2, 4),
        feed_forward_ratios=(1, 2, 4),
        head_size=8,
        rotary_size=4,
        vocab_size=64,
        max_length=16,
    )


def _shakespeare() -> DecoderSpec:
    """For task `language_model` on a few cores: up to two million parameters."""
    return DecoderSpec(
        hidden_sizes=(64, 128, 192),
        depths=(2, 3, 4),
        biases=(False, True),
        num_heads=(2, 4, 6),
        feed_forward_ratios=(1, 2, 3),
        head_size=32,
        rotary_size=16,
        vocab_size=1024,
        max_length=128,
    )


def _gpt_s() -> DecoderSpec:
    """HW-GPT-Bench's small space, with the parameters and MACs of its tables.

    Those count an output layer of its own and three matrices per feed-forward, and no MACs of
    attention's scores and weighted values, which we count.
    """
    return DecoderSpec(
        hidden_sizes=(192, 384, 768),
        depths=(10, 11, 12),
        biases=(False, True),
        num_heads=(4, 8, 12),
        feed_forward_ratios=(2, 3, 4),
        head_size=64,
        rotary_size=32,
        vocab_size=50254,
        max_length=1024,
    )


DECODER = SupernetFamily(
    name="decoder",
    presets={"tiny": _tiny(), "shakespeare": _shakespeare(), "gpt_s": _gpt_s()},
    settings=("vocab_size", "max_length"),
    supernet=DecoderSupernet,
)
