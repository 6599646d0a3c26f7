"""The order of a group's channels, which everything that writes or reads them changes alike."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nasbench.space import Choice
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.elasticized.axes import Part
from nasbench.supernet.elasticized.layers import (
    OwnBatchNorm,
    OwnEmbedding,
    OwnVectors,
    OwnWeights,
    PartedTensor,
)
from nasbench.supernet.sharing import SharedWeight

if TYPE_CHECKING:
    from nasbench.supernet.elasticized.analysis import WidthGroup

Reorder = Callable[[Tensor], None]


class Readers:
    """Everything that reads the channels of a group, as one reader.

    The importance of a unit is the sum of the absolute weights that read it. Where nothing with
    weights does (queries and keys of one head), it is that of the weights that write it.

    Args:
        units: how many there are.
        columns: (weight, entries per unit) of those that read.
        rows: the same of those that write.
    """

    def __init__(
        self,
        units: int,
        columns: list[tuple[SharedWeight, int]],
        rows: list[tuple[SharedWeight, int, tuple[int, int]]],
    ) -> None:
        self.units, self.columns, self.rows = units, columns, rows

    @torch.no_grad()
    def input_importance(self) -> Tensor:
        """(units,)."""
        found = [
            shared.input_importance().view(self.units, repeats).sum(1)
            for shared, repeats in self.columns
        ] or [
            shared.leading(*shape)[0].abs().flatten(1).sum(1).view(self.units, repeats).sum(1)
            for shared, repeats, shape in self.rows
        ]
        return torch.stack(found).sum(0)

    def reorder(self, *, inputs: Tensor) -> None:
        """Put the units into another order in all that reads them."""
        for shared, repeats in self.columns:
            shared.reorder(inputs=_entries(inputs, repeats))


def channel_groups(group: "WidthGroup", layers: Iterable[nn.Module]) -> ChannelGroup:
    """The channels of one dimension, in all layers."""
    columns: list[tuple[SharedWeight, int]] = []
    rows: list[tuple[SharedWeight, int, tuple[int, int]]] = []
    writers: list[Reorder] = []

    def places(parts: tuple[Part, ...]) -> list[tuple[int, Part]]:
        return [(at, part) for at, part in enumerate(parts) if part.group == group.number]

    for layer in layers:
        if isinstance(layer, OwnWeights):
            for r, row in enumerate(layer.rows.parts):
                for c, column in enumerate(layer.columns.parts):
                    shared = layer.block(r, c)
                    if row.group == group.number:
                        rows.append((shared, row.repeats, (row.largest, column.largest)))
                        writers.append(partial(_reorder_outputs, shared, row.repeats))
                    if column.group == group.number:
                        columns.append((shared, column.repeats))
        elif isinstance(layer, OwnBatchNorm):
            for at, part in places(layer.axis.parts):
                norm = layer.norms[at]
                writers.append(partial(_reorder_by, norm.reorder, part.repeats))  # type: ignore[arg-type]
        elif isinstance(layer, OwnEmbedding):
            for _, part in places(layer.axis.parts):
                writers.append(partial(_reorder_inputs, layer.shared, part.repeats))
        elif isinstance(layer, OwnVectors | PartedTensor):
            tensors = layer.vectors.values() if isinstance(layer, OwnVectors) else [layer]
            for tensor in tensors:
                assert isinstance(tensor, PartedTensor)
                for at, part in places(tensor.axis.parts):
                    writers.append(partial(_reorder_part, tensor, at, part.repeats))
    widths_at: dict[Choice, tuple[int, ...]] = {
        choice: (choice // group.unit,) for choice in group.choices
    }
    return ChannelGroup(
        dimension=group.name,
        widths_at=widths_at,
        writers=writers,
        reader=Readers(group.units, columns, rows),
    )


def _entries(order: Tensor, repeats: int) -> Tensor:
    """The order of entries where each unit has several."""
    within = torch.arange(repeats, device=order.device)
    return (order[:, None] * repeats + within).flatten()


def _reorder_outputs(shared: SharedWeight, repeats: int, order: Tensor) -> None:
    shared.reorder(outputs=_entries(order, repeats))


def _reorder_inputs(shared: SharedWeight, repeats: int, order: Tensor) -> None:
    shared.reorder(inputs=_entries(order, repeats))


def _reorder_by(reorder: Reorder, repeats: int, order: Tensor) -> None:
    reorder(_entries(order, repeats))


@torch.no_grad()
def _reorder_part(tensor: PartedTensor, at: int, repeats: int, order: Tensor) -> None:
    part = tensor.parts[at]
    part.copy_(part.index_select(tensor.dim, _entries(order, repeats)))
