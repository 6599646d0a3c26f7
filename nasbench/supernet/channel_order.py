"""The order of channels: which of them a narrower sub-network keeps.

A sub-network uses leading channels. Before narrow ones are trained, the channels between two layers
are sorted by importance, so that the first ones matter most; as every layer that writes them and
every layer that reads them is permuted alike, the largest sub-network computes what it did.

The importance of a channel is the sum of the absolute weights that read it, as in Once-for-all (Cai
et al., ICLR 2020); where inputs are given, times the root mean square of what the channel carries,
as in Wanda (Sun et al., ICLR 2024). The channels of an attention head stay together and in their
order: a head's importance is the sum of theirs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from nasbench.space import Choice


class ChannelReader(Protocol):
    """What reads channels: the weight of a layer, or several as one."""

    def input_importance(self) -> Tensor:
        """How much each channel matters, (channels,)."""

    def reorder(self, *, inputs: Tensor) -> None:
        """Put the channels into another order: position i gets what was at `inputs[i]`."""


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels that may stand in any order, if all who touch them agree.

    Args:
        dimension: the elastic dimension that says how many of them are active.
        widths_at: those numbers for each of the dimension's choices; several, where they follow
            from another dimension as well.
        writers: each puts the channels that a layer writes into the given order.
        reader: what they are the inputs of.
        unit: channels in a row that stay together, such as a head's.
    """

    dimension: str
    widths_at: Mapping[Choice, Collection[int]]
    writers: Sequence[Callable[[Tensor], None]]
    reader: ChannelReader
    unit: int = 1

    def importance(self, carried_C: Tensor | None = None) -> Tensor:
        """Of each unit.

        Args:
            carried_C: the root mean square of what each channel carries; None leaves it out.
        """
        importance_C = self.reader.input_importance()
        if carried_C is not None:
            importance_C = importance_C * carried_C
        return importance_C.unflatten(0, (-1, self.unit)).sum(dim=1)

    def sort(self, trained: Sequence[Choice] = (), carried_C: Tensor | None = None) -> None:
        """Most important first, but only among channels that the same trained choices use."""
        importance = self.importance(carried_C)
        of_trained = (width // self.unit for c in trained for width in self.widths_at[c])
        edges = sorted({0, len(importance), *of_trained})
        units = torch.cat(
            [
                start + importance[start:end].argsort(descending=True, stable=True)
                for start, end in pairwise(edges)
            ]
        )
        within = torch.arange(self.unit, device=units.device)
        order = (self.unit * units[:, None] + within).flatten()
        for write in self.writers:
            write(order)
        self.reader.reorder(inputs=order)
