"""Encoder-decoder supernets for translation: the space of HAT.

The post-normalized transformer of Vaswani et al. (NeurIPS 2017) with the elasticity of HAT (Wang
et al., ACL 2020). Its dimensions:

    encoder.hidden_size                                     features of a source token
    encoder.depth                                           layers that run, the first ones
    encoder.layer1.num_partitioned_heads                    heads of its self-attention
    encoder.layer1.feed_forward_width                       inner features of its feed-forward
    decoder.hidden_size                                     features of a target token
    decoder.depth                                           layers that run, the first ones
    decoder.layer1.self_attention.num_partitioned_heads     heads of its self-attention
    decoder.layer1.cross_attention.num_partitioned_heads    heads of its attention to the encoder
    decoder.layer1.cross_attention.num_layers               how many of the last encoder layers it
                                                            attends to, all their tokens at once
    decoder.layer1.feed_forward_width                       inner features of its feed-forward

All heads share out one fixed width, so their number changes the output alone. The number of
attended encoder layers changes MACs and output; every other dimension parameters too. A layer's
dimensions are inactive at depths that leave it out.

HAT's spaces have 40 dimensions, 2 + 6 x 2 of the encoder, whose depth has the one choice 6, and
2 + 6 x 4 of the decoder. They have 2 x 6^6 architectures of the encoder (6 = 2 numbers of heads x
3 widths) times 2 x (36 + 36^2 + ... + 36^6) of the decoder (36 = 2 x 2 numbers of heads x 3
numbers of attended layers x 3 widths), about 4.2e14.

One table embeds the source and the target and is the output layer; where the encoder is narrower
than the decoder, or the other way round, it uses the leading features. Dropout is in proportion
to the active hidden size, that of attention weights is constant.

Sources may be padded at either end, or between, and have at least one token. Targets start at
their first column, and what stands after a target's end changes none of its logits.

Shape legend: B batch, S source tokens, T target tokens, C features of a token, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.attention import ElasticAttention, FixedTotalWidth, Heads
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import (
    Counts,
    ElasticDropout,
    ElasticEmbedding,
    ElasticFeedForward,
    ElasticLayerNorm,
)
from nasbench.supernet.plain_attention import KeysValues
from nasbench.supernet.plain_seq2seq import (
    DecoderLayer,
    EncoderDecoder,
    TranslationState,
    embed,
    source_positions,
)
from nasbench.supernet.plain_transformer import TransformerBlock
from nasbench.supernet.sharing import ElasticLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class Seq2SeqSpec:
    """All about one supernet.

    Args:
        attention_width: what the heads of every attention share out.
        num_attended: how many of the last encoder layers a decoder layer can attend to.
        max_length: tokens of the example sources and targets, for which MACs are counted;
            positions need no table, so longer ones are computed as well.
        padding_id: the token that fills up sources.
        dropout: of hidden states at the largest hidden size.
        attention_dropout: of attention weights.
    """

    encoder_hidden_sizes: tuple[int, ...]
    decoder_hidden_sizes: tuple[int, ...]
    encoder_depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    feed_forward_widths: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_attended: tuple[int, ...]
    attention_width: int
    vocab_size: int
    max_length: int
    padding_id: int
    dropout: float
    attention_dropout: float

    def __post_init__(self) -> None:
        for name, least in (("vocab_size", 2), ("max_length", 1), ("padding_id", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RequestError(f"{name} is a whole number from {least} up, not {value!r}")
        if self.padding_id >= self.vocab_size:
            raise RequestError(
                f"padding_id is {self.padding_id}, but the tokens are 0 to {self.vocab_size - 1}"
            )
        if not 0 <= self.dropout < 1:
            raise RequestError(f"dropout is a rate from 0 up and below 1, not {self.dropout!r}")
        if max(self.num_attended) > min(self.encoder_depths):
            raise RequestError(
                f"decoder layers cannot attend to the last {max(self.num_attended)} encoder "
                f"layers where only {min(self.encoder_depths)} run"
            )

    @property
    def largest_hidden_size(self) -> int:
        """Features of the embedding."""
        return max(*self.encoder_hidden_sizes, *self.decoder_hidden_sizes)

    def space(self) -> SearchSpace:
        """The elastic dimensions of the encoder, then of the decoder."""
        heads = self.num_heads
        encoder = _stack_dimensions(
            "encoder",
            self.encoder_hidden_sizes,
            self.encoder_depths,
            num_partitioned_heads=heads,
            feed_forward_width=self.feed_forward_widths,
        )
        decoder = _stack_dimensions(
            "decoder",
            self.decoder_hidden_sizes,
            self.decoder_depths,
            **{
                "self_attention.num_partitioned_heads": heads,
                "cross_attention.num_partitioned_heads": heads,
                "cross_attention.num_layers": self.num_attended,
                "feed_forward_width": self.feed_forward_widths,
            },
        )
        return SearchSpace([*encoder, *decoder])


def _stack_dimensions(
    stack: str,
    hidden_sizes: tuple[int, ...],
    depths: tuple[int, ...],
    **of_layer: tuple[Choice, ...],
) -> Iterator[ElasticDimension]:
    yield ElasticDimension(f"{stack}.hidden_size", hidden_sizes)
    yield ElasticDimension(f"{stack}.depth", depths)
    for layer, layer_name in enumerate(_layer_names(stack, max(depths)), 1):
        deep_enough = tuple(depth for depth in depths if depth >= layer)
        condition = None if deep_enough == depths else ActiveWhen(f"{stack}.depth", deep_enough)
        for name, choices in of_layer.items():
            yield ElasticDimension(f"{layer_name}.{name}", choices, condition)


def _layer_names(stack: str, depth: int) -> list[str]:
    return [f"{stack}.layer{layer}" for layer in range(1, depth + 1)]


@dataclass(frozen=True, slots=True)
class EncoderLayerShape:
    """The active sizes of one encoder layer."""

    hidden_size: int
    heads: Heads
    feed_forward_width: int


@dataclass(frozen=True, slots=True)
class DecoderLayerShape:
    """The active sizes of one decoder layer.

    Attributes:
        source_size: the features of what it attends to in the source.
        num_attended: how many of the last encoder layers it attends to.
    """

    hidden_size: int
    source_size: int
    self_heads: Heads
    cross_heads: Heads
    num_attended: int
    feed_forward_width: int


@dataclass(frozen=True, slots=True)
class Seq2SeqShape:
    """The active sizes of the network: as many layers as run."""

    encoder_size: int
    decoder_size: int
    encoder: tuple[EncoderLayerShape, ...]
    decoder: tuple[DecoderLayerShape, ...]


class ElasticEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to its input and then normalized."""

    def __init__(self, spec: Seq2SeqSpec) -> None:
        super().__init__()
        features = max(spec.encoder_hidden_sizes)
        self.attention = ElasticAttention(
            features, spec.attention_width, dropout=spec.attention_dropout
        )
        self.attention_norm = ElasticLayerNorm(features)
        self.feed_forward = ElasticFeedForward(features, max(spec.feed_forward_widths), "relu")
        self.feed_forward_norm = ElasticLayerNorm(features)
        self.dropout = ElasticDropout(spec.dropout, features)

    def forward(self, x_BSC: Tensor, shape: EncoderLayerShape, mask_BS: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C); the mask is False where there is padding."""
        own = self.attention.project(x_BSC, shape.heads)
        attended_BSC = self.attention(x_BSC, own, shape.heads, mask_BS)
        x_BSC = self.attention_norm(x_BSC + self.dropout(attended_BSC))
        forwarded_BSC = self.feed_forward(x_BSC, shape.feed_forward_width)
        return self.feed_forward_norm(x_BSC + self.dropout(forwarded_BSC))

    def extract(self, shape: EncoderLayerShape) -> TransformerBlock:
        """The plain layer of this shape."""
        size = shape.hidden_size
        return TransformerBlock(
            attention=self.attention.extract(size, shape.heads),
            attention_norm=self.attention_norm.extract(size),
            feed_forward=self.feed_forward.extract(size, shape.feed_forward_width),
            feed_forward_norm=self.feed_forward_norm.extract(size),
            dropout=self.dropout.extract(size),
            norm_first=False,
        )

    def count(self, shape: EncoderLayerShape, length: int) -> Counts:
        """Counts of the plain layer of this shape, for a source of that length."""
        size = shape.hidden_size
        counts = self.attention.count(size, shape.heads, length, length)
        counts += self.attention_norm.count(size) + self.feed_forward_norm.count(size)
        return counts + self.feed_forward.count(size, shape.feed_forward_width, length)


class ElasticDecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder, and feed-forward, each as in the encoder."""

    def __init__(self, spec: Seq2SeqSpec) -> None:
        super().__init__()
        features, width = max(spec.decoder_hidden_sizes), spec.attention_width
        self.attention = ElasticAttention(
            features, width, is_causal=True, dropout=spec.attention_dropout
        )
        self.attention_norm = ElasticLayerNorm(features)
        self.cross_attention = ElasticAttention(
            features,
            width,
            key_width=max(spec.encoder_hidden_sizes),
            dropout=spec.attention_dropout,
        )
        self.cross_attention_norm = ElasticLayerNorm(features)
        self.feed_forward = ElasticFeedForward(features, max(spec.feed_forward_widths), "relu")
        self.feed_forward_norm = ElasticLayerNorm(features)
        self.dropout = ElasticDropout(spec.dropout, features)

    def remember(self, encoded: Sequence[Tensor], shape: DecoderLayerShape) -> KeysValues:
        """What it attends to in the outputs (B, S, C) of all encoder layers."""
        attended = torch.cat(tuple(encoded[-shape.num_attended :]), dim=1)
        return self.cross_attention.project(attended, shape.cross_heads)

    def forward(
        self,
        x_BTC: Tensor,
        shape: DecoderLayerShape,
        memory: KeysValues,
        source_mask_BS: Tensor,
        past: KeysValues | None,
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, C) -> (B, T, C), and what later tokens attend to."""
        own = self.attention.project(x_BTC, shape.self_heads)
        seen = own if past is None else past.extended(own)
        attended_BTC = self.attention(x_BTC, seen, shape.self_heads)
        x_BTC = self.attention_norm(x_BTC + self.dropout(attended_BTC))
        mask = source_mask_BS.repeat(1, shape.num_attended)
        crossed_BTC = self.cross_attention(x_BTC, memory, shape.cross_heads, mask)
        x_BTC = self.cross_attention_norm(x_BTC + self.dropout(crossed_BTC))
        forwarded_BTC = self.feed_forward(x_BTC, shape.feed_forward_width)
        return self.feed_forward_norm(x_BTC + self.dropout(forwarded_BTC)), seen

    def extract(self, shape: DecoderLayerShape) -> DecoderLayer:
        """The plain layer of this shape."""
        size = shape.hidden_size
        return DecoderLayer(
            attention=self.attention.extract(size, shape.self_heads),
            attention_norm=self.attention_norm.extract(size),
            cross_attention=self.cross_attention.extract(
                size, shape.cross_heads, key_width=shape.source_size
            ),
            cross_attention_norm=self.cross_attention_norm.extract(size),
            feed_forward=self.feed_forward.extract(size, shape.feed_forward_width),
            feed_forward_norm=self.feed_forward_norm.extract(size),
            dropout=self.dropout.extract(size),
            num_attended=shape.num_attended,
        )

    def count(self, shape: DecoderLayerShape, source_length: int, length: int) -> Counts:
        """Counts of the plain layer of this shape, for a source and a target of these lengths."""
        size = shape.hidden_size
        counts = self.attention.count(size, shape.self_heads, length, length)
        counts += self.cross_attention.count(
            size,
            shape.cross_heads,
            length,
            shape.num_attended * source_length,
            key_width=shape.source_size,
        )
        counts += self.feed_forward.count(size, shape.feed_forward_width, length)
        counts += self.attention_norm.count(size) + self.cross_attention_norm.count(size)
        return counts + self.feed_forward_norm.count(size)


class Seq2SeqSupernet(Supernet[Seq2SeqShape]):
    """A translation transformer with the elasticity of HAT.

    `forward`, `encode` and `decode` are those of the `EncoderDecoder` that it extracts to.
    """

    spec: Seq2SeqSpec

    def __init__(self, spec: Seq2SeqSpec, settings: dict[str, Any]) -> None:
        super().__init__(spec.space(), settings, spec)
        self.embedding = ElasticEmbedding(spec.vocab_size, spec.largest_hidden_size)
        self.encoder_dropout = ElasticDropout(spec.dropout, max(spec.encoder_hidden_sizes))
        self.decoder_dropout = ElasticDropout(spec.dropout, max(spec.decoder_hidden_sizes))
        self.encoder = nn.ModuleList(
            ElasticEncoderLayer(spec) for _ in range(max(spec.encoder_depths))
        )
        self.decoder = nn.ModuleList(
            ElasticDecoderLayer(spec) for _ in range(max(spec.decoder_depths))
        )
        self.output_features = nn.Identity()  # what the tied output layer reads, for distillation
        self.activate(self.space.largest)

    @property
    def output_layer(self) -> nn.Module:
        """Passes the last features on to the output layer, which is the embedding's table."""
        return self.output_features

    def residual_ends(self) -> list[nn.Module]:
        """The output layers of every attention and feed-forward."""
        encoder = [cast(ElasticEncoderLayer, layer) for layer in self.encoder]
        decoder = [cast(ElasticDecoderLayer, layer) for layer in self.decoder]
        ends = [end for e in encoder for end in (e.attention.out, e.feed_forward.project)]
        for d in decoder:
            ends += [d.attention.out, d.cross_attention.out, d.feed_forward.project]
        return list[nn.Module](ends)

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """Each layer's feed-forward."""
        layers = [
            cast(ElasticEncoderLayer | ElasticDecoderLayer, x)
            for x in (*self.encoder, *self.decoder)
        ]
        return [layer.feed_forward.layers for layer in layers]

    def channel_groups(self) -> list[ChannelGroup]:
        """The inner features of each layer's feed-forward."""
        widths_at: dict[Choice, set[int]] = {w: {w} for w in self.spec.feed_forward_widths}
        stacks = {"encoder": self.encoder, "decoder": self.decoder}
        return [
            cast(ElasticEncoderLayer | ElasticDecoderLayer, layer).feed_forward.channel_group(
                f"{name}.feed_forward_width", widths_at
            )
            for stack, layers in stacks.items()
            for name, layer in zip(_layer_names(stack, len(layers)), layers, strict=True)
        ]

    def _encoder_layers(
        self, shape: Seq2SeqShape
    ) -> Iterator[tuple[ElasticEncoderLayer, EncoderLayerShape]]:
        """The encoder layers that a shape lets run, the first ones."""
        for layer, layer_shape in zip(self.encoder, shape.encoder, strict=False):
            yield cast(ElasticEncoderLayer, layer), layer_shape

    def _decoder_layers(
        self, shape: Seq2SeqShape
    ) -> Iterator[tuple[ElasticDecoderLayer, DecoderLayerShape]]:
        """The decoder layers that a shape lets run, the first ones."""
        for layer, layer_shape in zip(self.decoder, shape.decoder, strict=False):
            yield cast(ElasticDecoderLayer, layer), layer_shape

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Source (B, S) and target tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(target_BT, self.encode(source_BS))
        return logits_BTV

    def encode(self, source_BS: Tensor) -> TranslationState:
        """Read a source (B, S)."""
        spec, shape = self.spec, self.shape
        mask_BS = source_BS != spec.padding_id
        rows_BSC = self.embedding(source_BS, shape.encoder_size)
        positions_BS = source_positions(mask_BS)
        x_BSC = self.encoder_dropout(embed(rows_BSC, positions_BS, spec.largest_hidden_size))
        encoded = []
        for layer, layer_shape in self._encoder_layers(shape):
            x_BSC = layer(x_BSC, layer_shape, mask_BS)
            encoded.append(x_BSC)
        memory = (layer.remember(encoded, sizes) for layer, sizes in self._decoder_layers(shape))
        return TranslationState(mask_BS, tuple(memory))

    def decode(self, target_BT: Tensor, state: TranslationState) -> tuple[Tensor, TranslationState]:
        """Logits (B, T, V) of the target tokens that follow the state, and the state after them.

        The state is one that this architecture has made.
        """
        spec, shape = self.spec, self.shape
        rows_BTC = self.embedding(target_BT, shape.decoder_size)
        positions_1T = state.next_positions(target_BT)
        x_BTC = self.decoder_dropout(embed(rows_BTC, positions_1T, spec.largest_hidden_size))
        pasts = state.past or (None,) * len(shape.decoder)
        longer = []
        for (layer, layer_shape), memory, past in zip(
            self._decoder_layers(shape), state.memory, pasts, strict=True
        ):
            x_BTC, seen = layer(x_BTC, layer_shape, memory, state.source_mask_BS, past)
            longer.append(seen)
        x_BTC = self.output_features(x_BTC)
        logits_BTV = F.linear(x_BTC, self.embedding.table(spec.vocab_size, shape.decoder_size))
        return logits_BTV, state._replace(past=tuple(longer))

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Random sources, every other one with padding, and targets, on the weights' device."""
        spec = self.spec
        generator = torch.Generator().manual_seed(0)
        size = (2, batch_size, spec.max_length)
        tokens = torch.randint(spec.vocab_size - 1, size, generator=generator)
        source_BS, target_BT = tokens + (tokens >= spec.padding_id)  # no padding yet
        source_BS[1::2, (spec.max_length + 1) // 2 :] = spec.padding_id
        device = self.embedding.table(1, 1).device
        return source_BS.to(device), target_BT.to(device)

    def shape_of(self, architecture: Architecture) -> Seq2SeqShape:
        """The active sizes of the network and of every layer that runs."""
        sizes = cast(Mapping[str, int], architecture)
        encoder_size, decoder_size = sizes["encoder.hidden_size"], sizes["decoder.hidden_size"]
        kind = FixedTotalWidth(self.spec.attention_width)
        encoder = tuple(
            EncoderLayerShape(
                encoder_size,
                kind.heads(sizes[f"{layer}.num_partitioned_heads"]),
                sizes[f"{layer}.feed_forward_width"],
            )
            for layer in _layer_names("encoder", sizes["encoder.depth"])
        )
        decoder = tuple(
            DecoderLayerShape(
                decoder_size,
                encoder_size,
                kind.heads(sizes[f"{layer}.self_attention.num_partitioned_heads"]),
                kind.heads(sizes[f"{layer}.cross_attention.num_partitioned_heads"]),
                sizes[f"{layer}.cross_attention.num_layers"],
                sizes[f"{layer}.feed_forward_width"],
            )
            for layer in _layer_names("decoder", sizes["decoder.depth"])
        )
        return Seq2SeqShape(encoder_size, decoder_size, encoder, decoder)

    def extract_shape(self, shape: Seq2SeqShape) -> EncoderDecoder:
        """A plain encoder-decoder."""
        return EncoderDecoder(
            self.embedding.extract(max(shape.encoder_size, shape.decoder_size)),
            [layer.extract(layer_shape) for layer, layer_shape in self._encoder_layers(shape)],
            [layer.extract(layer_shape) for layer, layer_shape in self._decoder_layers(shape)],
            encoder_size=shape.encoder_size,
            decoder_size=shape.decoder_size,
            encoder_dropout=self.encoder_dropout.extract(shape.encoder_size),
            decoder_dropout=self.decoder_dropout.extract(shape.decoder_size),
            largest_size=self.spec.largest_hidden_size,
            padding_id=self.spec.padding_id,
        )

    def count_shape(self, shape: Seq2SeqShape) -> Counts:
        """Counts for a source and a target of `max_length` tokens."""
        length = self.spec.max_length
        counts = self.embedding.count(max(shape.encoder_size, shape.decoder_size))
        for encoder_layer, encoder_shape in self._encoder_layers(shape):
            counts += encoder_layer.count(encoder_shape, length)
        for decoder_layer, decoder_shape in self._decoder_layers(shape):
            counts += decoder_layer.count(decoder_shape, length, length)
        return counts + Counts(num_macs=length * shape.decoder_size * self.spec.vocab_size)


def _tiny() -> Seq2SeqSpec:
    """For a toy language; trains in seconds on one core."""
    return Seq2SeqSpec(
        encoder_hidden_sizes=(16, 24),
        decoder_hidden_sizes=(16, 24),
        encoder_depths=(2, 3),
        decoder_depths=(1, 2),
        feed_forward_widths=(16, 32, 48),
        num_heads=(1, 2, 4),
        num_attended=(1, 2),
        attention_width=16,
        vocab_size=32,
        max_length=8,
        padding_id=0,
        dropout=0.0,
        attention_dropout=0.0,
    )


def _hat(
    feed_forward_widths: tuple[int, ...], num_heads: tuple[int, ...], vocab_size: int
) -> Seq2SeqSpec:
    """A space of HAT: 40 dimensions; MACs are counted for 30 source and 30 target tokens.

    Words are those of both languages together, which for IWSLT differs from HAT's two tables.
    Keys have no bias, as everywhere here: HAT's changes no output.
    """
    return Seq2SeqSpec(
        encoder_hidden_sizes=(512, 640),
        decoder_hidden_sizes=(512, 640),
        encoder_depths=(6,),
        decoder_depths=(1, 2, 3, 4, 5, 6),
        feed_forward_widths=feed_forward_widths,
        num_heads=num_heads,
        num_attended=(1, 2, 3),
        attention_width=512,
        vocab_size=vocab_size,
        max_length=30,
        padding_id=1,
        dropout=0.3,
        attention_dropout=0.1,
    )


def _multi30k() -> Seq2SeqSpec:
    """For task `multi30k` on a few cores; MACs are counted for its mean sentence, 16 tokens."""
    return Seq2SeqSpec(
        encoder_hidden_sizes=(128, 192, 256),
        decoder_hidden_sizes=(128, 192, 256),
        encoder_depths=(2, 3),
        decoder_depths=(1, 2, 3),
        feed_forward_widths=(256, 512, 1024),
        num_heads=(2, 4),
        num_attended=(1, 2),
        attention_width=256,
        vocab_size=6000,
        max_length=16,
        padding_id=0,
        dropout=0.2,
        attention_dropout=0.1,
    )


SEQ2SEQ = SupernetFamily(
    name="seq2seq",
    presets={
        "tiny": _tiny(),
        "multi30k": _multi30k(),
        "hat_wmt": _hat((1024, 2048, 3072), (4, 8), vocab_size=32768),
        "hat_iwslt": _hat((512, 1024, 2048), (2, 4), vocab_size=10000),
    },
    settings=("vocab_size", "max_length", "padding_id", "dropout"),
    supernet=Seq2SeqSupernet,
)
