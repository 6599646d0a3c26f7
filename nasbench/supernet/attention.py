"""Elastic multi-head attention, for every transformer family.

`ElasticAttention` holds four elastic linear layers (query, key, value, out) of the largest sizes
and computes with their leading slices; how it is used for self-attention, cross-attention and
incremental decoding stands in `nasbench.supernet.plain_attention`, whose `Attention` it extracts
to. The width of each sequence is read from the sequence itself; the one size that is an argument
is `heads`, of type `Heads`. The output is as wide as the sequence of the queries.

There are two kinds of elastic heads, which one attention must never mix, since the same weights
would mean different things. A family's spec holds one of them and asks it for `Heads`:

    FixedHeadSize(64)       num_heads=8 -> Heads(number=8, size=64)     the first 8 heads are kept
    FixedTotalWidth(512)    num_heads=8 -> Heads(number=8, size=64)
                            num_heads=4 -> Heads(number=4, size=128)    all 512 features stay

With the first (InstaTune, and DyNAS-T's BERT and ViT), head h is the same rows of the query, key
and value weights and the same columns of the output weight in every sub-network. With the second
(HAT), every sub-network uses all of them, and the number of heads says how they are grouped.

Keys have no bias: it would add the same number to all scores of a query, which softmax ignores.
So a published network that has one loses nothing but those parameters. With rotary positions it
would not be ignored, as it turns with the keys: `has_key_bias` gives them one.

MACs are those of the four layers, and num_queries x num_keys x W for the scores and again for
the weighted values; causal attention and masks are counted in full. That is what torch's flop
counter counts on its meta device, as `nasbench.cost.count_macs` does; on a CPU it does not see
into the fused attention kernel.

Shape legend: B batch, T queries, S keys, I width of the queries' sequence, J width of the keys'
sequence, W total width of the active heads.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.space import Choice
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import Counts, ElasticLinear
from nasbench.supernet.plain_attention import Attention, KeysValues, attend
from nasbench.supernet.rotary import Rotation


@dataclass(frozen=True, slots=True)
class Heads:
    """The active heads of one attention."""

    number: int
    size: int

    @property
    def width(self) -> int:
        """Features of all heads together."""
        return self.number * self.size

    @property
    def nested_sizes(self) -> tuple[int]:
        """What these heads use of the shared weights, however they divide it among them."""
        return (self.width,)


@dataclass(frozen=True, slots=True)
class FixedHeadSize:
    """The kind of elastic heads where k heads are the first k of the largest attention."""

    head_size: int

    def heads(self, num_heads: int) -> Heads:
        """The first `num_heads` heads."""
        return Heads(num_heads, self.head_size)


@dataclass(frozen=True, slots=True)
class FixedTotalWidth:
    """The kind of elastic heads that share out one width (HAT: Wang et al., ACL 2020)."""

    width: int

    def heads(self, num_heads: int) -> Heads:
        """The whole width in `num_heads` equal parts; RequestError where that is impossible."""
        if self.width % num_heads:
            raise RequestError(
                f"{num_heads} heads cannot share a total width of {self.width} equally"
            )
        return Heads(num_heads, self.width // num_heads)


HeadKind = FixedHeadSize | FixedTotalWidth


class ElasticAttention(nn.Module):
    """Multi-head attention with elastic heads between sequences of elastic width.

    Args:
        query_width: the largest width of the queries' sequence, and of the output.
        width: the largest total width of the heads.
        key_width: the largest width of the keys' sequence; None says that of the queries'.
        is_causal: no token sees a later one.
        has_key_bias: for rotary positions.
        dropout: of attention weights, while training; the same for every number of heads.
    """

    def __init__(
        self,
        query_width: int,
        width: int,
        *,
        key_width: int | None = None,
        is_causal: bool = False,
        has_key_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        key_width = query_width if key_width is None else key_width
        self.query = ElasticLinear(query_width, width)
        self.key = ElasticLinear(key_width, width, has_bias=has_key_bias)
        self.value = ElasticLinear(key_width, width)
        self.out = ElasticLinear(width, query_width)
        self.is_causal = is_causal
        self.dropout = dropout

    def project(
        self,
        source_BSJ: Tensor,
        heads: Heads,
        *,
        rotation: Rotation | None = None,
        with_bias: bool = True,
    ) -> KeysValues:
        """What the queries of these heads can attend to in a sequence.

        Args:
            rotation: the rotary positions of the sequence; None says it has none.
            with_bias: False leaves the biases out.
        """
        keys_BSW = self.key(source_BSJ, heads.width, with_bias=with_bias)
        if rotation is not None:
            keys_BSW = rotation.turn(keys_BSW, heads.number)
        return KeysValues(keys_BSW, self.value(source_BSJ, heads.width, with_bias=with_bias))

    def forward(
        self,
        x_BTI: Tensor,
        keys_values: KeysValues,
        heads: Heads,
        key_mask_BS: Tensor | None = None,
        *,
        rotation: Rotation | None = None,
        with_bias: bool = True,
    ) -> Tensor:
        """(B, T, I) -> (B, T, I).

        Args:
            keys_values: of the same heads, from `project`.
            key_mask_BS: bool, True where a key may be seen (False: padding); None shows all.
            rotation: the rotary positions of the queries; None says that there are none.
            with_bias: False leaves the biases out.
        """
        queries_BTW = self.query(x_BTI, heads.width, with_bias=with_bias)
        if rotation is not None:
            queries_BTW = rotation.turn(queries_BTW, heads.number)
        heads_BTW = attend(
            queries_BTW,
            keys_values,
            heads.number,
            is_causal=self.is_causal,
            key_mask_BS=key_mask_BS,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out(heads_BTW, x_BTI.shape[-1], with_bias=with_bias)

    def channel_group(
        self, dimension: str, widths_at: Mapping[Choice, Collection[int]], head_size: int
    ) -> ChannelGroup:
        """The heads of a fixed size, whose number follows from that dimension's choice."""
        return ChannelGroup(
            dimension=dimension,
            widths_at=widths_at,
            writers=[layer.reorder_outputs for layer in (self.query, self.key, self.value)],
            reader=self.out.shared,
            unit=head_size,
        )

    def extract(
        self,
        query_width: int,
        heads: Heads,
        *,
        key_width: int | None = None,
        with_bias: bool = True,
    ) -> Attention:
        """The plain attention of these sizes; `key_width` None says the queries' width."""
        key_width = query_width if key_width is None else key_width
        return Attention(
            self.query.extract(query_width, heads.width, with_bias=with_bias),
            self.key.extract(key_width, heads.width, with_bias=with_bias),
            self.value.extract(key_width, heads.width, with_bias=with_bias),
            self.out.extract(heads.width, query_width, with_bias=with_bias),
            num_heads=heads.number,
            is_causal=self.is_causal,
            dropout=self.dropout,
        )

    def count(
        self,
        query_width: int,
        heads: Heads,
        num_queries: int,
        num_keys: int,
        *,
        key_width: int | None = None,
        with_bias: bool = True,
    ) -> Counts:
        """Counts of the plain attention of these sizes, for sequences of these lengths."""
        key_width = query_width if key_width is None else key_width
        counts = Counts(num_macs=2 * num_queries * num_keys * heads.width)
        counts += self.query.count(query_width, heads.width, num_queries, with_bias=with_bias)
        counts += self.key.count(key_width, heads.width, num_keys, with_bias=with_bias)
        counts += self.value.count(key_width, heads.width, num_keys, with_bias=with_bias)
        return counts + self.out.count(heads.width, query_width, num_queries, with_bias=with_bias)
