"""Axes of tensors in terms of groups of channels, and the groups themselves.

A *group* is a run of units that every tensor has in the same order and as a whole: its leading
units can be kept and the others left out. An axis is one or several parts, each a group or a run
of what is static; the columns that read a concatenation are several.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nasbench.supernet.elasticized.ties import FROZEN, Ties

Widths = tuple[int, ...]
"""The active units of each group."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of an axis.

    Args:
        group: its number; None where all is static.
        units: the largest number of units, or all there is.
        repeats: entries per unit: pixels that were flattened, features of a head.
    """

    group: int | None
    units: int
    repeats: int = 1

    @property
    def largest(self) -> int:
        """The entries where all are active."""
        return self.units * self.repeats

    def size(self, widths: Widths) -> int:
        """The active entries, which are the leading ones."""
        return (self.units if self.group is None else widths[self.group]) * self.repeats


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a tensor, part by part."""

    parts: tuple[Part, ...]

    @property
    def largest(self) -> int:
        """The entries where all are active."""
        return sum(part.largest for part in self.parts)

    @property
    def sizes_at_largest(self) -> list[int]:
        """The entries of each part where all are active."""
        return [part.largest for part in self.parts]

    @property
    def is_static(self) -> bool:
        """Whether it is always as long."""
        return all(part.group is None for part in self.parts)

    def size(self, widths: Widths) -> int:
        """The active entries."""
        return sum(part.size(widths) for part in self.parts)

    def sizes(self, widths: Widths) -> list[int]:
        """The active entries of each part."""
        return [part.size(widths) for part in self.parts]

    def between(self, start: int, stop: int) -> "Axis | None":
        """A slice of the axis, if it cuts through no part of a group."""
        parts, at = [], 0
        for part in self.parts:
            begin, end = max(start, at), min(stop, at + part.largest)
            at += part.largest
            if begin >= end:
                continue
            if end - begin == part.largest:
                parts.append(part)
            elif part.group is None:
                parts.append(Part(None, end - begin))
            else:
                return None
        return Axis(tuple(parts))


def static_axis(size: int) -> Axis:
    """An axis that is always as long."""
    return Axis((Part(None, size),))


class Groups:
    """The groups of a network, found from the axes that its tensors have.

    Args:
        ties: what is tied.
        axes: the atoms along each axis that is sliced or measured, each as long as the axis.

    Attributes:
        units: the units of each group, in order.
    """

    def __init__(self, ties: Ties, axes: Iterable[Tensor]) -> None:
        self._ties = ties
        self._atoms = list(axes)
        is_found = False
        while not is_found:  # a freeze takes units out of other groups, too
            self.units = _chains([self._runs(atoms) for atoms in self._atoms])
            self._place = {
                unit: (group, position)
                for group, units in enumerate(self.units)
                for position, unit in enumerate(units)
            }
            is_found = all(self._can_be_read(atoms) for atoms in self._atoms)

    def axis(self, atoms: Tensor) -> Axis:
        """An axis by its atoms, which were among those that the groups were found from."""
        found = self._parts(atoms)
        assert found is not None
        return Axis(found)

    def _runs(self, atoms: Tensor) -> list[tuple[int, int]]:
        return _runs(np.broadcast_to(self._ties.elastic_units(atoms), tuple(atoms.shape)))

    def _can_be_read(self, atoms: Tensor) -> bool:
        if self._parts(atoms) is not None:
            return True
        self._ties.freeze(atoms, "they are read in an order that leading channels cannot give")
        return False

    def _parts(self, atoms: Tensor) -> tuple[Part, ...] | None:
        """None where an axis has a group otherwise than whole, in order and evenly."""
        runs = self._runs(atoms)
        parts: list[Part] = []
        at = 0
        while at < len(runs):
            unit, length = runs[at]
            if unit not in self._place:  # frozen, or alone
                if parts and parts[-1].group is None:
                    parts[-1] = replace(parts[-1], units=parts[-1].units + length)
                else:
                    parts.append(Part(None, length))
                at += 1
                continue
            group, position = self._place[unit]
            units = self.units[group]
            whole = runs[at : at + len(units)]
            if position or [u for u, _ in whole] != units or len({n for _, n in whole}) != 1:
                return None
            parts.append(Part(group, len(units), length))
            at += len(units)
        return tuple(parts)


def _runs(units: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(unit, how often in a row), along an axis; a frozen entry is a run of its own."""
    runs: list[tuple[int, int]] = []
    for unit in units.tolist():
        if runs and unit != FROZEN and runs[-1][0] == unit:
            runs[-1] = (unit, runs[-1][1] + 1)
        else:
            runs.append((unit, 1))
    return runs


def _chains(axes: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
    """Runs of two units or more that follow each other wherever one of them is."""
    after: dict[int, set[int]] = defaultdict(set)
    before: dict[int, set[int]] = defaultdict(set)
    first_seen: dict[int, None] = {}
    for runs in axes:
        units = [FROZEN, *(unit for unit, _ in runs), FROZEN]
        for left, right in pairwise(units):
            after[left].add(right)
            before[right].add(left)
            if right != FROZEN:
                first_seen.setdefault(right)
    follows = {
        unit: next(iter(after[unit]))
        for unit in first_seen
        if len(after[unit]) == 1 and len(before[next(iter(after[unit]))]) == 1
    }
    follows = {unit: other for unit, other in follows.items() if other != FROZEN and other != unit}
    followed = set(follows.values())
    starts = [unit for unit in first_seen if unit in follows and unit not in followed]
    chains = []
    for start in starts:
        chain = [start]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        chains.append(chain)
    return chains
