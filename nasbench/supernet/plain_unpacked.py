"""torch's fused transformer modules, unpacked into layers that can be traced one by one.

The same functions and weights as `nn.MultiheadAttention` and `nn.TransformerEncoderLayer`, with a
linear layer each for queries, keys and values. Nothing here knows of supernets.

Shape legend: B batch, T queries, S keys, C features, H heads, D features of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn


class UnpackedAttention(nn.Module):
    """What an `nn.MultiheadAttention` computes, without the attention weights."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = packed.num_heads
        self.head_size = packed.head_dim
        self.batch_first = packed.batch_first
        self.dropout = nn.Dropout(packed.dropout)
        separate: list[Any] = [packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight]
        joint: Any = packed.in_proj_weight
        weights = separate if joint is None else joint.detach().chunk(3)
        has_bias = packed.in_proj_bias is not None
        biases = packed.in_proj_bias.detach().chunk(3) if has_bias else (None, None, None)
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out = _linear(packed.out_proj.weight, packed.out_proj.bias)

    @staticmethod
    def can_unpack(packed: nn.MultiheadAttention) -> bool:
        """Not with the additional keys that few networks have."""
        return packed.bias_k is None and not packed.add_zero_attn

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: ARG002 - as in the packed module
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: ARG002
        is_causal: bool = False,  # noqa: ARG002 - a hint beside `attn_mask`
    ) -> tuple[Tensor, None]:
        """(B, T, C) or, where the batch is not first, (T, B, C); the weights are None."""
        if key_padding_mask is not None:
            raise NotImplementedError("attention with a padding mask is not unpacked")
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        queries_BHTD = self._split(self.query(query))
        keys_BHSD = self._split(self.key(key))
        values_BHSD = self._split(self.value(value))
        scores_BHTS = torch.matmul(queries_BHTD, keys_BHSD.transpose(2, 3)) * self.head_size**-0.5
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                scores_BHTS = scores_BHTS.masked_fill(attn_mask, float("-inf"))
            else:
                scores_BHTS = scores_BHTS + attn_mask
        shares_BHTS = self.dropout(torch.softmax(scores_BHTS, dim=-1))
        y_BTC = self.out(torch.matmul(shares_BHTS, values_BHSD).transpose(1, 2).flatten(2))
        return y_BTC if self.batch_first else y_BTC.transpose(0, 1), None

    def _split(self, x_BTC: Tensor) -> Tensor:
        return x_BTC.unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)


class UnpackedEncoderLayer(nn.Module):
    """What an `nn.TransformerEncoderLayer` computes, without masks."""

    def __init__(self, packed: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.norm_first = packed.norm_first
        self.self_attn = UnpackedAttention(packed.self_attn)
        self.linear1, self.linear2 = packed.linear1, packed.linear2
        self.norm1, self.norm2 = packed.norm1, packed.norm2
        self.dropout, self.dropout1 = packed.dropout, packed.dropout1
        self.dropout2 = packed.dropout2
        self.activation = packed.activation

    def forward(self, src: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), or as in the packed layer's order."""
        if self.norm_first:
            src = src + self._attend(self.norm1(src))
            return src + self._feed_forward(self.norm2(src))
        src = self.norm1(src + self._attend(src))
        return self.norm2(src + self._feed_forward(src))

    def _attend(self, x: Tensor) -> Tensor:
        attended, _ = self.self_attn(x, x, x)
        return self.dropout1(attended)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


def unpack(network: nn.Module) -> None:
    """Put the unpacked modules in the place of the packed ones, within a network."""
    for name, child in network.named_children():
        if isinstance(child, nn.MultiheadAttention) and UnpackedAttention.can_unpack(child):
            setattr(network, name, UnpackedAttention(child))
        elif isinstance(child, nn.TransformerEncoderLayer):
            setattr(network, name, UnpackedEncoderLayer(child))
        elif isinstance(child, nn.TransformerEncoder) and child.norm is None:
            layers = nn.Sequential(*child.layers)
            unpack(layers)
            setattr(network, name, layers)
        else:
            unpack(child)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
