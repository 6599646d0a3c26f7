"""The translation supernet.

Shape legend: B batch, S source tokens, T target tokens, C features of a token, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.space import Architecture, Choice
from nasbench.supernet.attention import FixedTotalWidth
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.families.seq2seq.layers import ElasticDecoderLayer, ElasticEncoderLayer
from nasbench.supernet.families.seq2seq.presets import PRESETS
from nasbench.supernet.families.seq2seq.spec import (
    DecoderLayerShape,
    EncoderLayerShape,
    Seq2SeqShape,
    Seq2SeqSpec,
    layer_names,
)
from nasbench.supernet.layers import Counts, ElasticDropout, ElasticEmbedding
from nasbench.supernet.plain_seq2seq import (
    EncoderDecoder,
    TranslationState,
    embed,
    source_positions,
)
from nasbench.supernet.sharing import ElasticLayer


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
            for name, layer in zip(layer_names(stack, len(layers)), layers, strict=True)
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
            for layer in layer_names("encoder", sizes["encoder.depth"])
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
            for layer in layer_names("decoder", sizes["decoder.depth"])
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


SEQ2SEQ = SupernetFamily(
    name="seq2seq",
    presets=PRESETS,
    settings=("vocab_size", "max_length", "padding_id", "dropout"),
    supernet=Seq2SeqSupernet,
)
