"""Plain multi-head attention: what elastic attention computes with, and what it extracts to.

Attention is done in two steps, so that one code path serves every use:

    own = attention.project(x_BTI)                      self-attention
    y_BTI = attention(x_BTI, own)

    memory = attention.project(encoded_BSJ)             cross-attention; projected once, and used
    y_BTI = attention(x_BTI, memory)                    at every step of decoding

    past = past.extended(attention.project(x_BTI))      incremental decoding: x_BTI are the T new
    y_BTI = attention(x_BTI, past)                      tokens, the last ones of `past`

Nothing here knows of supernets: what leaves is an ordinary network.

Shape legend: B batch, T queries, S keys, I width of the queries' sequence, J width of the keys'
sequence, W total width of all heads, H heads, D head size (W = H x D).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.rotary import Rotation


class KeysValues(NamedTuple):
    """What queries attend to: the projected keys and values of a sequence, heads side by side."""

    keys_BSW: Tensor
    values_BSW: Tensor

    def extended(self, later: "KeysValues") -> "KeysValues":
        """These and then the later ones, as a new value: a step of a key-value cache."""
        return KeysValues(*(torch.cat(pair, dim=1) for pair in zip(self, later, strict=True)))


def attend(
    queries_BTW: Tensor,
    keys_values: KeysValues,
    num_heads: int,
    *,
    is_causal: bool = False,
    key_mask_BS: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al., NeurIPS 2017) of all heads: (B, T, W).

    Args:
        is_causal: no query sees a later key, where the queries are the last T of the S tokens.
        key_mask_BS: bool, True where a key may be seen (False: padding); None shows all.
        dropout: the share of attention weights that are dropped.
    """
    keys_BSW, values_BSW = keys_values
    num_queries, num_keys = queries_BTW.shape[1], keys_BSW.shape[1]
    # An export is one graph for all sizes and decides nothing by them; where TorchScript traces,
    # a size is a tensor.
    has_past = torch.compiler.is_exporting() or bool(num_queries != num_keys)
    is_plainly_causal = is_causal and key_mask_BS is None and not has_past
    mask = None
    if not is_plainly_causal:
        mask = _visible(num_queries, num_keys, is_causal, key_mask_BS, queries_BTW.device)
    heads_BHTD = F.scaled_dot_product_attention(
        _split(queries_BTW, num_heads),
        _split(keys_BSW, num_heads),
        _split(values_BSW, num_heads),
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_plainly_causal,
    )
    return heads_BHTD.transpose(1, 2).flatten(2)


def _split(x_BTW: Tensor, num_heads: int) -> Tensor:
    """(B, T, W) -> (B, H, T, D): head h is the h-th run of D features."""
    return x_BTW.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _visible(
    num_queries: int,
    num_keys: int,
    is_causal: bool,
    key_mask_BS: Tensor | None,
    device: torch.device,
) -> Tensor | None:
    """True where a query sees a key, to broadcast to (B, H, T, S); None where all see all."""
    mask = None if key_mask_BS is None else key_mask_BS[:, None, None, :]
    is_one_query = not torch.compiler.is_exporting() and num_queries == 1
    if not is_causal or is_one_query:  # the last token sees every token
        return mask
    positions_T1 = torch.arange(num_queries, device=device)[:, None] + (num_keys - num_queries)
    causal_TS = torch.arange(num_keys, device=device) <= positions_T1
    return causal_TS if mask is None else mask & causal_TS


class Attention(nn.Module):
    """Multi-head attention with an output as wide as the sequence of its queries.

    Args:
        query: I -> W.
        key: J -> W.
        value: J -> W.
        out: W -> I.
        dropout: of attention weights, while training.
    """

    def __init__(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        out: nn.Linear,
        *,
        num_heads: int,
        is_causal: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out
        self.num_heads = num_heads
        self.is_causal = is_causal
        self.dropout = dropout

    def project(self, source_BSJ: Tensor, rotation: Rotation | None = None) -> KeysValues:
        """What queries can attend to in a sequence, with its rotary positions if it has some."""
        keys_BSW = self.key(source_BSJ)
        if rotation is not None:
            keys_BSW = rotation.turn(keys_BSW, self.num_heads)
        return KeysValues(keys_BSW, self.value(source_BSJ))

    def forward(
        self,
        x_BTI: Tensor,
        keys_values: KeysValues,
        key_mask_BS: Tensor | None = None,
        *,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """(B, T, I) -> (B, T, I).

        Args:
            key_mask_BS: bool, True where a key may be seen (False: padding); None shows all.
            rotation: the rotary positions of the queries; None says that there are none.
        """
        queries_BTW = self.query(x_BTI)
        if rotation is not None:
            queries_BTW = rotation.turn(queries_BTW, self.num_heads)
        heads_BTW = attend(
            queries_BTW,
            keys_values,
            self.num_heads,
            is_causal=self.is_causal,
            key_mask_BS=key_mask_BS,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out(heads_BTW)
