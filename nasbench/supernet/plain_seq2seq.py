"""Plain encoder-decoder transformer: what a seq2seq supernet's sub-networks are extracted to.

    logits_BTV = model(source_BS, target_BT)                all target tokens at once

    state = model.encode(source_BS)                         step by step: the same logits, from
    logits_BTV, state = model.decode(target_BT, state)      nothing but the new tokens
    logits_BTV, state = model.decode(more_BT, state)

The transformer of Vaswani et al. (NeurIPS 2017), whose decoder layers attend to one or more of
the last encoder layers.

Shape legend: B batch, S source tokens, T target tokens, C features of a token, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.plain_attention import Attention, KeysValues
from nasbench.supernet.plain_transformer import TransformerBlock


class TranslationState(NamedTuple):
    """What an encoder-decoder has read: the source, and the target so far.

    Attributes:
        source_mask_BS: bool, False where there is padding.
        memory: per decoder layer, what it attends to in the source.
        past: per decoder layer, what it attends to in the target; empty before the first token.
    """

    source_mask_BS: Tensor
    memory: tuple[KeysValues, ...]
    past: tuple[KeysValues, ...] = ()

    def next_positions(self, target_BT: Tensor) -> Tensor:
        """The positions of these tokens, which follow those that have been read: (1, T)."""
        first = self.past[0].keys_BSW.shape[1] if self.past else 0
        last = first + target_BT.shape[1]
        return torch.arange(first, last, device=target_BT.device)[None]


def source_positions(mask_BS: Tensor) -> Tensor:
    """The number of each token in its sequence, wherever its padding stands: (B, S)."""
    return (mask_BS.long().cumsum(1) - 1).clamp(min=0)


def embed(rows_BTC: Tensor, positions_BT: Tensor, largest_size: int) -> Tensor:
    """Rows of an embedding, scaled, plus their sinusoidal positions: (B, T, C).

    The scale and the waves of Vaswani et al. (section 3.4 and 3.5), sine and cosine in turn. A
    narrower embedding has the leading waves of the largest one, as in HAT.
    """
    size = rows_BTC.shape[-1]
    exponent = torch.arange(0, size, 2, device=rows_BTC.device) / largest_size
    angle_BTW = positions_BT[..., None] * 10_000**-exponent
    waves_BTC = torch.stack((angle_BTW.sin(), angle_BTW.cos()), dim=-1).flatten(2)
    return rows_BTC * math.sqrt(size) + waves_BTC.to(rows_BTC.dtype)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder, and feed-forward.

    Each is added to its input and then normalized.

    Args:
        num_attended: how many of the last encoder layers it attends to.
    """

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.LayerNorm,
        cross_attention: Attention,
        cross_attention_norm: nn.LayerNorm,
        feed_forward: nn.Module,
        feed_forward_norm: nn.LayerNorm,
        dropout: nn.Dropout,
        num_attended: int,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.cross_attention, self.cross_attention_norm = cross_attention, cross_attention_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm
        self.dropout = dropout
        self.num_attended = num_attended

    def remember(self, encoded: Sequence[Tensor]) -> KeysValues:
        """What it attends to in the outputs (B, S, C) of all encoder layers."""
        return self.cross_attention.project(torch.cat(tuple(encoded[-self.num_attended :]), dim=1))

    def forward(
        self, x_BTC: Tensor, memory: KeysValues, source_mask_BS: Tensor, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, C) -> (B, T, C), and what later tokens attend to."""
        own = self.attention.project(x_BTC)
        seen = own if past is None else past.extended(own)
        x_BTC = self.attention_norm(x_BTC + self.dropout(self.attention(x_BTC, seen)))
        mask = source_mask_BS.repeat(1, self.num_attended)
        crossed_BTC = self.cross_attention(x_BTC, memory, mask)
        x_BTC = self.cross_attention_norm(x_BTC + self.dropout(crossed_BTC))
        return self.feed_forward_norm(x_BTC + self.dropout(self.feed_forward(x_BTC))), seen


class EncoderDecoder(nn.Module):
    """A transformer that reads a source and gives the logits of a target's next tokens.

    Args:
        embedding: of source tokens, target tokens and outputs; as wide as the wider of encoder
            and decoder, of which the other uses the leading features.
        encoder_size: features of a source token.
        decoder_size: features of a target token.
        encoder_dropout: of embedded source tokens.
        decoder_dropout: of embedded target tokens.
        largest_size: the features for which positions are laid out.
        padding_id: the token that fills up sources.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        encoder: Sequence[TransformerBlock],
        decoder: Sequence[DecoderLayer],
        *,
        encoder_size: int,
        decoder_size: int,
        encoder_dropout: nn.Dropout,
        decoder_dropout: nn.Dropout,
        largest_size: int,
        padding_id: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.encoder_size, self.decoder_size = encoder_size, decoder_size
        self.encoder_dropout, self.decoder_dropout = encoder_dropout, decoder_dropout
        self.largest_size = largest_size
        self.padding_id = padding_id

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Source (B, S) and target tokens (B, T) -> logits (B, T, V)."""
        logits_BTV, _ = self.decode(target_BT, self.encode(source_BS))
        return logits_BTV

    def encode(self, source_BS: Tensor) -> TranslationState:
        """Read a source (B, S)."""
        mask_BS = source_BS != self.padding_id
        rows_BSC = self.embedding(source_BS)[..., : self.encoder_size]
        x_BSC = embed(rows_BSC, source_positions(mask_BS), self.largest_size)
        x_BSC = self.encoder_dropout(x_BSC)
        encoded = []
        for layer in self.encoder:
            x_BSC = layer(x_BSC, mask_BS)
            encoded.append(x_BSC)
        memory = (cast(DecoderLayer, layer).remember(encoded) for layer in self.decoder)
        return TranslationState(mask_BS, tuple(memory))

    def decode(self, target_BT: Tensor, state: TranslationState) -> tuple[Tensor, TranslationState]:
        """Logits (B, T, V) of the target tokens that follow the state, and the state after them."""
        rows_BTC = self.embedding(target_BT)[..., : self.decoder_size]
        positions_1T = state.next_positions(target_BT)
        x_BTC = self.decoder_dropout(embed(rows_BTC, positions_1T, self.largest_size))
        pasts = state.past or (None,) * len(self.decoder)
        longer = []
        for layer, memory, past in zip(self.decoder, state.memory, pasts, strict=True):
            x_BTC, seen = layer(x_BTC, memory, state.source_mask_BS, past)
            longer.append(seen)
        logits_BTV = F.linear(x_BTC, self.embedding.weight[:, : self.decoder_size])
        return logits_BTV, state._replace(past=tuple(longer))
