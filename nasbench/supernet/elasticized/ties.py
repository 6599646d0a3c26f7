"""Which channels of a network stand or fall together.

Every channel that a layer writes is an *atom*. What a tensor is made of is told by its *labels*: an
int64 tensor of its shape that holds, per element, the atom it stands for, expanded without memory
along the axes where all is alike. An operation that only moves data is applied to the labels as it
is to the data; one that needs two channels to be the same ties their atoms. What is tied in the end
is one *unit*: it is kept or left out everywhere at once.

A unit that cannot be left out is *frozen*, with the reason.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FROZEN = -1
"""The unit of everything that is static, where only elastic units are told apart."""


class Ties:
    """Atoms, and which of them are one unit: a union-find structure."""

    def __init__(self) -> None:
        self._parents = np.zeros(0, dtype=np.int64)
        self._reasons: dict[int, str] = {}
        self._heads: set[int] = set()

    def fresh(self, count: int) -> Tensor:
        """New atoms, tied to nothing: (count,)."""
        start = len(self._parents)
        atoms = np.arange(start, start + count)
        self._parents = np.concatenate([self._parents, atoms])
        return torch.from_numpy(atoms.copy())

    def static(self, shape: Sequence[int], reason: str) -> Tensor:
        """Labels of a tensor whose elements are always there."""
        atom = self.fresh(1)
        self.freeze(atom, reason)
        return atom.expand(tuple(shape))

    def units(self, labels: Tensor) -> NDArray[np.int64]:
        """The unit of each element, as the smallest atom in it; as large as what differs."""
        found = _without_repeats(labels).numpy()
        roots = self._parents[found]
        while not np.array_equal(roots, upper := self._parents[roots]):
            roots = upper
        self._parents[found] = roots
        return roots

    def elastic_units(self, labels: Tensor) -> NDArray[np.int64]:
        """The same with `FROZEN` for every frozen one."""
        units = self.units(labels)
        if not self._reasons:
            return units
        is_frozen = np.isin(units, np.fromiter(self._reasons, dtype=np.int64))
        return np.where(is_frozen, FROZEN, units)

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Let each element of the one be the same unit as that of the other; they broadcast."""
        first, second = torch.broadcast_tensors(first, second)
        for left, right in _distinct_pairs(self, first, second):
            low, high = sorted((self._root(left), self._root(right)))
            if low == high:
                continue
            self._parents[high] = low
            if high in self._reasons:
                reason = self._reasons.pop(high)
                self._reasons.setdefault(low, reason)
            if high in self._heads:
                self._heads.add(low)

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Let these always be there; the first reason stays."""
        for unit in np.unique(self.units(labels)):
            self._reasons.setdefault(int(unit), reason)

    def reason(self, labels: Tensor) -> str:
        """Why the first frozen unit of these is, or what else keeps them."""
        units = np.unique(self.units(labels))
        reasons = (self._reasons[int(unit)] for unit in units if int(unit) in self._reasons)
        return next(reasons, "there is one alone, which is always needed")

    def mark_heads(self, labels: Tensor) -> None:
        """Say of these units that they are heads of an attention."""
        self._heads.update(int(unit) for unit in np.unique(self.units(labels)))

    def are_heads(self, units: Iterable[int]) -> bool:
        """Whether these units were marked as heads."""
        return {int(self._root(unit)) for unit in units} <= {self._root(u) for u in self._heads}

    def _root(self, atom: int) -> int:
        parents = self._parents
        while parents[atom] != atom:
            atom = parents[atom]
        return int(atom)

    # -- along axes ---------------------------------------------------------------------------

    def varying_axes(self, labels: Tensor) -> list[int]:
        """Along which axes the elastic units differ."""
        units = self.elastic_units(labels)
        return [
            axis
            for axis in range(units.ndim)
            if units.shape[axis] > 1 and (units != units.take([0], axis)).any()
        ]

    def along(self, labels: Tensor, axis: int) -> Tensor:
        """Let the units depend on that axis alone: its atoms, (size of the axis,)."""
        axis %= labels.ndim
        at_axis = labels[tuple(slice(None) if d == axis else 0 for d in range(labels.ndim))]
        self.tie(labels, spread(at_axis, labels.shape, axis))
        return at_axis

    def alike_along(self, labels: Tensor, axis: int, reason: str) -> None:
        """Let the units not depend on that axis; where they depend on no other, they freeze."""
        varying = self.varying_axes(labels)
        if axis not in varying:
            return
        if varying == [axis]:
            self.freeze(labels, reason)
        else:
            self.tie(labels, labels.select(axis, 0).unsqueeze(axis))


def spread(atoms: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    """Labels of that shape that depend on one axis alone, (size of the axis,)."""
    view = [1] * len(shape)
    view[axis] = -1
    return atoms.view(view).expand(tuple(shape))


def _without_repeats(labels: Tensor) -> Tensor:
    """The same with size 1 along the axes where an expanded tensor repeats itself."""
    for axis, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[axis] > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def _distinct_pairs(ties: Ties, first: Tensor, second: Tensor) -> list[tuple[int, int]]:
    for axis in range(first.ndim):
        if first.stride(axis) == second.stride(axis) == 0 and first.shape[axis] > 1:
            first, second = first.narrow(axis, 0, 1), second.narrow(axis, 0, 1)
    shape = first.shape
    left = np.broadcast_to(ties.units(first), shape).ravel()
    right = np.broadcast_to(ties.units(second), shape).ravel()
    differ = left != right
    if not differ.any():
        return []
    pairs = np.unique(np.stack([left[differ], right[differ]], axis=1), axis=0)
    return [(int(a), int(b)) for a, b in pairs]
