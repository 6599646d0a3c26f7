"""Rotary position embeddings (RoFormer: Su et al., 2021) of a part of each attention head.

Turning queries and keys by angles that grow with their positions makes their products depend on
the distance between them alone. The first features of every head are turned and the others left
as they are (GPT-NeoX: Black et al., 2022), so a head means the same in every sub-network.

Shape legend: B batch, T tokens, W width of all heads, R pairs of turned features per head.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10_000


class Rotation(NamedTuple):
    """The angles of some consecutive positions."""

    cos_TR: Tensor
    sin_TR: Tensor

    @classmethod
    def of_positions(
        cls, first: int, count: int, num_features: int, device: torch.device
    ) -> "Rotation":
        """The angles of `count` positions from `first` on, for `num_features` of each head."""
        exponent_R = torch.arange(0, num_features, 2, device=device) / num_features
        position_T = torch.arange(first, first + count, device=device)
        angle_TR = position_T[:, None] * BASE**-exponent_R
        return cls(angle_TR.cos(), angle_TR.sin())

    def turn(self, x_BTW: Tensor, num_heads: int) -> Tensor:
        """The same heads with feature i and feature R + i of each turned by angle i."""
        num_pairs = self.cos_TR.shape[-1]
        x_BTHD = x_BTW.unflatten(-1, (num_heads, -1))
        first = x_BTHD[..., :num_pairs]
        second = x_BTHD[..., num_pairs : 2 * num_pairs]
        cos_T1R, sin_T1R = (x[:, None].to(x_BTW.dtype) for x in self)
        turned = (first * cos_T1R - second * sin_T1R, first * sin_T1R + second * cos_T1R)
        return torch.cat((*turned, x_BTHD[..., 2 * num_pairs :]), dim=-1).flatten(2)
