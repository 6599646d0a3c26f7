"""Elastic layers of an encoder and a decoder.

Shape legend: B batch, S source tokens, T target tokens, C features of a token, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench.supernet.attention import ElasticAttention
from nasbench.supernet.families.seq2seq.spec import (
    DecoderLayerShape,
    EncoderLayerShape,
    Seq2SeqSpec,
)
from nasbench.supernet.layers import Counts, ElasticDropout, ElasticFeedForward, ElasticLayerNorm
from nasbench.supernet.plain_attention import KeysValues
from nasbench.supernet.plain_seq2seq import DecoderLayer
from nasbench.supernet.plain_transformer import TransformerBlock


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
