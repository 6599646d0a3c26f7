"""Elastic stacks of transformer blocks, which the ViT and the encoder families share.

A `StackSpec` says what is elastic; its dimensions, each where there is more than one choice:

    depth                           how many blocks run, always the first ones
    hidden_size                     features of a token, the leading ones
    layer1.hidden_size              instead, where blocks have bottlenecks: inside of that block
    layer1.num_heads                heads of a fixed size, the first ones
    layer1.num_partitioned_heads    instead, where no head size is fixed: the equal parts that the
                                    block's hidden size is divided into
    layer1.feed_forward_width       inner features of the feed-forward block, the leading ones
    layer1.feed_forward_ratio       instead: that number per feature of the block's hidden size

In a homogeneous stack these names have no `layer1.`, and one choice holds for all blocks.

The number of partitioned heads changes the output but neither parameters nor MACs; every other
dimension changes all three. A block's dimensions are inactive at depths that leave it out.

Shape legend: B batch, T tokens, C features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.space import ActiveWhen, Architecture, Choice, ElasticDimension
from nasbench.supernet.attention import ElasticAttention, FixedHeadSize, FixedTotalWidth, Heads
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import (
    ACTIVATIONS,
    Counts,
    ElasticDropout,
    ElasticFeedForward,
    ElasticLayerNorm,
    ElasticLinear,
)
from nasbench.supernet.plain_transformer import TransformerBlock, TransformerStack
from nasbench.supernet.sharing import ElasticLayer
from nasbench.supernet.stages import choice_of, elastic


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The active sizes of one block."""

    hidden_size: int
    heads: Heads
    feed_forward_width: int


@dataclass(frozen=True, slots=True)
class StackShape:
    """The active sizes of a stack: of the tokens that pass through it, and of its blocks."""

    hidden_size: int
    blocks: tuple[BlockShape, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StackSpec:
    """All about one stack. Either the widths or the ratios of the feed-forward blocks are given.

    Args:
        head_size: features of a head; None says that heads divide the block's hidden size.
        norm_first: whether normalization stands before attention and feed-forward (ViT) or after
            the residual around them (BERT).
        dropout: of attention weights, and of hidden states at the largest hidden size.
        activation: of the feed-forward blocks, a name in `ACTIVATIONS`.
        is_causal: whether no token sees a later one (GPT-2).
        exceptions: names of a block's dimensions, each with its own choices, which are some of
            those of the other blocks and hold the largest; one alone makes it static.
        is_homogeneous: whether all blocks have the same sizes.
        has_bottlenecks: whether each block has a hidden size of its own, between a linear layer
            that enters it and one that leaves it.
    """

    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    num_heads: tuple[int, ...]
    head_size: int | None
    feed_forward_widths: tuple[int, ...] = ()
    feed_forward_ratios: tuple[float, ...] = ()
    norm_first: bool
    norm_eps: float
    dropout: float = 0.0
    is_homogeneous: bool = False
    has_bottlenecks: bool = False
    activation: str = "gelu"
    is_causal: bool = False
    exceptions: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        for name, choices in self.exceptions:
            others = self._block_choices().get(name.rpartition(".")[2], ())
            if not set(choices) <= set(others) or max(others) not in choices:
                raise RequestError(
                    f"the choices of {name} are some of {others} with the largest, not {choices}"
                )
        if bool(self.feed_forward_widths) == bool(self.feed_forward_ratios):
            raise RequestError("a stack has either feed_forward_widths or feed_forward_ratios")
        if self.is_homogeneous and self.has_bottlenecks:
            raise RequestError("bottlenecks are for blocks that differ, not a homogeneous stack")
        for hidden_size in self.hidden_sizes:
            for number in self.num_heads:
                self.heads(hidden_size, number)

    def heads(self, hidden_size: int, number: int) -> Heads:
        """That many heads of a block; RequestError where they cannot divide its hidden size."""
        if self.head_size is None:
            return FixedTotalWidth(hidden_size).heads(number)
        return FixedHeadSize(self.head_size).heads(number)

    @property
    def largest_attention_width(self) -> int:
        """Features of all heads of the largest block."""
        return self.heads(max(self.hidden_sizes), max(self.num_heads)).width

    @property
    def largest_feed_forward_width(self) -> int:
        """Inner features of the largest block."""
        if self.feed_forward_widths:
            return max(self.feed_forward_widths)
        return int(max(self.hidden_sizes) * max(self.feed_forward_ratios))

    # -- elastic dimensions -------------------------------------------------------------------

    def dimensions(self) -> list[ElasticDimension]:
        """The properties with more than one choice."""
        found = elastic("depth", self.depths)
        if not self.has_bottlenecks:
            found += elastic("hidden_size", self.hidden_sizes)
        for layer in range(1, 2 if self.is_homogeneous else max(self.depths) + 1):
            deep_enough = tuple(depth for depth in self.depths if depth >= layer)
            condition = None if deep_enough == self.depths else ActiveWhen("depth", deep_enough)
            for name in self._block_choices():
                choices = self._choices_at(layer, name)
                if len(choices) > 1:
                    found.append(ElasticDimension(self._prefix(layer) + name, choices, condition))
        return found

    def _choices_at(self, layer: int, name: str) -> tuple[Choice, ...]:
        """The choices of one block's dimension."""
        own = dict(self.exceptions).get(self._prefix(layer) + name)
        return self._block_choices()[name] if own is None else own

    def head_choices(self, layer: int) -> tuple[str, dict[Choice, set[int]]] | None:
        """The dimension of a block's heads, and their total widths; None where that is no choice.

        Heads that share out a width are no choice of channels.
        """
        if self.head_size is None or len(self._choices_at(layer, "num_heads")) == 1:
            return None
        numbers = cast(tuple[int, ...], self._choices_at(layer, "num_heads"))
        return f"{self._prefix(layer)}num_heads", {n: {n * self.head_size} for n in numbers}

    def feed_forward_choices(self, layer: int) -> tuple[str, dict[Choice, set[int]]]:
        """The dimension of a block's inner features, and their numbers at each choice."""
        if self.feed_forward_widths:
            at_layer = cast(tuple[int, ...], self._choices_at(layer, "feed_forward_width"))
            widths: dict[Choice, set[int]] = {width: {width} for width in at_layer}
            return f"{self._prefix(layer)}feed_forward_width", widths
        sizes = self.hidden_sizes
        ratios: dict[Choice, set[int]] = {
            ratio: {int(size * ratio) for size in sizes} for ratio in self.feed_forward_ratios
        }
        return f"{self._prefix(layer)}feed_forward_ratio", ratios

    @property
    def _heads_name(self) -> str:
        return "num_partitioned_heads" if self.head_size is None else "num_heads"

    def _block_choices(self) -> dict[str, tuple[Choice, ...]]:
        """The names and choices of one block's properties, of those that have any."""
        possible = {
            "hidden_size": self.hidden_sizes if self.has_bottlenecks else (),
            self._heads_name: self.num_heads,
            "feed_forward_width": self.feed_forward_widths,
            "feed_forward_ratio": self.feed_forward_ratios,
        }
        return {name: choices for name, choices in possible.items() if choices}

    def _prefix(self, layer: int) -> str:
        return "" if self.is_homogeneous else f"layer{layer}."

    def shape_of(self, architecture: Architecture) -> StackShape:
        """The active sizes of every block that runs."""
        hidden_size = max(self.hidden_sizes)
        if not self.has_bottlenecks:
            hidden_size = choice_of(architecture, "hidden_size", self.hidden_sizes)
        layers = range(1, choice_of(architecture, "depth", self.depths) + 1)
        blocks = [self._block_shape(architecture, layer, hidden_size) for layer in layers]
        return StackShape(hidden_size, tuple(blocks))

    def _block_shape(self, architecture: Architecture, layer: int, hidden_size: int) -> BlockShape:
        def choice(name: str) -> Any:
            own_name = self._prefix(layer) + name
            return choice_of(architecture, own_name, self._choices_at(layer, name))

        if self.has_bottlenecks:
            hidden_size = choice("hidden_size")
        heads = self.heads(hidden_size, choice(self._heads_name))
        if self.feed_forward_widths:
            width = choice("feed_forward_width")
        else:
            width = int(hidden_size * choice("feed_forward_ratio"))
        return BlockShape(hidden_size, heads, width)


class ElasticTransformerBlock(nn.Module):
    """Self-attention, then a feed-forward block on each token; a residual around each.

    Where there are bottlenecks they start as identities, so that the largest block starts as one
    without them.
    """

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        hidden_size = max(spec.hidden_sizes)
        self.norm_first = spec.norm_first
        self.enter: ElasticLinear | None = None
        self.leave: ElasticLinear | None = None
        if spec.has_bottlenecks:
            self.enter = ElasticLinear(hidden_size, hidden_size, initialize=nn.init.eye_)
            self.leave = ElasticLinear(hidden_size, hidden_size, initialize=nn.init.eye_)
        self.attention = ElasticAttention(
            hidden_size,
            spec.largest_attention_width,
            is_causal=spec.is_causal,
            dropout=spec.dropout,
        )
        self.attention_norm = ElasticLayerNorm(hidden_size, eps=spec.norm_eps)
        self.feed_forward = ElasticFeedForward(
            hidden_size, spec.largest_feed_forward_width, spec.activation
        )
        self.feed_forward_norm = ElasticLayerNorm(hidden_size, eps=spec.norm_eps)
        self.dropout = ElasticDropout(spec.dropout, hidden_size)

    def forward(
        self, x_BTC: Tensor, shape: BlockShape, key_mask_BT: Tensor | None = None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); the mask is True where a token may be seen."""
        width = shape.feed_forward_width
        x = x_BTC if self.enter is None else self.enter(x_BTC, shape.hidden_size)
        if self.norm_first:
            x = x + self._attend(self.attention_norm(x), shape.heads, key_mask_BT)
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x), width))
        else:
            x = self.attention_norm(x + self._attend(x, shape.heads, key_mask_BT))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x, width)))
        return x if self.leave is None else self.leave(x, x_BTC.shape[-1])

    def _attend(self, x_BTC: Tensor, heads: Heads, key_mask_BT: Tensor | None) -> Tensor:
        own = self.attention.project(x_BTC, heads)
        return self.dropout(self.attention(x_BTC, own, heads, key_mask_BT))

    def extract(self, shape: BlockShape, stream_size: int) -> TransformerBlock:
        """The plain block of this shape, for tokens of `stream_size` features."""
        hidden_size = shape.hidden_size
        enter, leave = self.enter, self.leave
        return TransformerBlock(
            attention=self.attention.extract(hidden_size, shape.heads),
            attention_norm=self.attention_norm.extract(hidden_size),
            feed_forward=self.feed_forward.extract(hidden_size, shape.feed_forward_width),
            feed_forward_norm=self.feed_forward_norm.extract(hidden_size),
            dropout=self.dropout.extract(hidden_size),
            norm_first=self.norm_first,
            enter=None if enter is None else enter.extract(stream_size, hidden_size),
            leave=None if leave is None else leave.extract(hidden_size, stream_size),
        )

    def count(self, shape: BlockShape, stream_size: int, num_tokens: int) -> Counts:
        """Counts of the plain block of this shape."""
        hidden_size, width = shape.hidden_size, shape.feed_forward_width
        counts = self.attention.count(hidden_size, shape.heads, num_tokens, num_tokens)
        counts += self.feed_forward.count(hidden_size, width, num_tokens)
        counts += self.attention_norm.count(hidden_size)
        counts += self.feed_forward_norm.count(hidden_size)
        if self.enter is not None:
            counts += self.enter.count(stream_size, hidden_size, num_tokens)
        if self.leave is not None:
            counts += self.leave.count(hidden_size, stream_size, num_tokens)
        return counts


class ElasticTransformerStack(nn.Module):
    """The blocks of a stack, of which the first ones run."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.spec = spec
        for layer in range(1, max(spec.depths) + 1):
            self.add_module(f"layer{layer}", ElasticTransformerBlock(spec))

    def residual_ends(self) -> list[nn.Module]:
        """The output layers of each block's attention and feed-forward."""
        blocks = [cast(ElasticTransformerBlock, block) for block in self.children()]
        return [end for b in blocks for end in (b.attention.out, b.feed_forward.project)]

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """Each block's feed-forward."""
        blocks = [cast(ElasticTransformerBlock, block) for block in self.children()]
        return [block.feed_forward.layers for block in blocks]

    def channel_groups(self) -> list[ChannelGroup]:
        """The heads of a fixed size, and the inner features, of each block."""
        groups = []
        for layer, child in enumerate(self.children(), 1):
            block = cast(ElasticTransformerBlock, child)
            heads = self.spec.head_choices(layer)
            if heads is not None:
                assert self.spec.head_size is not None
                groups.append(block.attention.channel_group(*heads, self.spec.head_size))
            inner = self.spec.feed_forward_choices(layer)
            if len(inner[1]) > 1 or inner[0] not in dict(self.spec.exceptions):
                groups.append(block.feed_forward.channel_group(*inner))
        return groups

    def _running_blocks(
        self, shape: StackShape
    ) -> Iterator[tuple[ElasticTransformerBlock, BlockShape]]:
        for block, block_shape in zip(self.children(), shape.blocks, strict=False):
            yield cast(ElasticTransformerBlock, block), block_shape

    def forward(
        self, x_BTC: Tensor, shape: StackShape, key_mask_BT: Tensor | None = None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); the mask is True where a token may be seen."""
        for block, block_shape in self._running_blocks(shape):
            x_BTC = block(x_BTC, block_shape, key_mask_BT)
        return x_BTC

    def forward_exits(
        self, x_BTC: Tensor, shape: StackShape, key_mask_BT: Tensor | None = None
    ) -> dict[int, Tensor]:
        """What `forward` gives at each choice of depth up to the shape's: depth -> (B, T, C)."""
        found = {}
        for depth, (block, block_shape) in enumerate(self._running_blocks(shape), 1):
            x_BTC = block(x_BTC, block_shape, key_mask_BT)
            if depth in self.spec.depths:
                found[depth] = x_BTC
        return found

    def extract(self, shape: StackShape) -> TransformerStack:
        """The plain blocks that run."""
        return TransformerStack(
            block.extract(block_shape, shape.hidden_size)
            for block, block_shape in self._running_blocks(shape)
        )

    def count(self, shape: StackShape, num_tokens: int) -> Counts:
        """Counts of the plain blocks that run."""
        counts = Counts()
        for block, block_shape in self._running_blocks(shape):
            counts += block.count(block_shape, shape.hidden_size, num_tokens)
        return counts
