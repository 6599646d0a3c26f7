"""Chains of nested sub-networks: each is contained in the next, and costs more.

Containment is what makes one set of weights a ladder without a search: the first blocks, the
leading widths, the first heads (Valipour et al., SortedNet, 2023). It is a partial order: of
(depth 12, half the width) and (depth 6, full width) neither contains the other, and no chain has
both.

    NestedChain.grown(supernet, 16)                          all dimensions grow together
    NestedChain.grown(supernet, dimensions=("depth",))       only these grow, the others are largest
    NestedChain.through(supernet, found, 16)                 by way of given architectures
    NestedChain(supernet, members)                           by hand
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, Protocol, overload

import numpy as np

from nasbench.errors import RequestError, unknown_name
from nasbench.space import Architecture, Choice, SearchSpace

DEFAULT_NUM_MEMBERS = 16


class Subnetworks(Protocol):
    """What a chain knows of a supernet."""

    space: SearchSpace

    def count(self, architecture: Mapping[str, Choice], /) -> Mapping[str, int]:
        """Exact `num_macs` and `num_parameters`."""

    def shape_of(self, architecture: Architecture, /) -> Any:
        """Every size of a sub-network, as numbers in tuples and dataclasses."""


class NestedChain(Sequence[Architecture]):
    """Sub-networks of one supernet, from the smallest to the largest, each within the next.

    Args:
        subnetworks: the supernet.
        members: at least one architecture of its space, in order.

    Raises:
        RequestError: if a member does not contain the one before it, or has no more
            multiply-accumulates; names the pair, and what breaks it.
    """

    def __init__(self, subnetworks: Subnetworks, members: Sequence[Mapping[str, Choice]]) -> None:
        if not members:
            raise RequestError("a chain has at least one member, but was given none")
        self.subnetworks = subnetworks
        self.members = tuple(subnetworks.space.canonical(member) for member in members)
        for number, (smaller, larger) in enumerate(pairwise(self.members)):
            broken = why_not_below(subnetworks, smaller, larger)
            if broken:
                raise RequestError(f"members {number} and {number + 1} are no chain: {broken}")

    @classmethod
    def grown(
        cls,
        subnetworks: Subnetworks,
        num_members: int | None = None,
        *,
        dimensions: Collection[str] | None = None,
    ) -> "NestedChain":
        """Grow from small to large, one choice at a time, those first that have come least far.

        Args:
            num_members: evenly among those steps, both ends included; None is 16, or as many as
                there are.
            dimensions: which grow, by name, or by the name's last part for all of that kind; the
                others stand at their largest choice. None is all.

        Raises:
            RequestError: for an unknown dimension, or more members than there are.
        """
        space = subnetworks.space
        largest, start = space.largest, space.smallest
        fixed: set[str] = set()
        if dimensions is not None:
            grow = {name for given in dimensions for name in _named(space, given)}
            fixed = set(largest) - grow
            start = space.canonical({**start, **{name: largest[name] for name in fixed}})
        steps = _nested(subnetworks, steps_between(space, start, largest, fixed))
        return cls._among(subnetworks, steps, [0, len(steps) - 1], num_members)

    @classmethod
    def through(
        cls,
        subnetworks: Subnetworks,
        stops: Sequence[Mapping[str, Choice]],
        num_members: int | None = None,
    ) -> "NestedChain":
        """A chain that has these architectures among its members, and steps between them.

        Args:
            stops: a chain by themselves.
            num_members: how many; what the stops leave is shared out evenly among the steps.
                None is 16, or as many as there are, and never fewer than the stops.

        Raises:
            RequestError: if the stops are no chain, or for more members than there are, or fewer
                than stops.
        """
        known = cls(subnetworks, stops)
        steps, at = [known[0]], [0]
        for start, end in pairwise(known):
            steps += _nested(subnetworks, steps_between(subnetworks.space, start, end))[1:]
            at.append(len(steps) - 1)
        return cls._among(subnetworks, steps, at, num_members)

    @classmethod
    def _among(
        cls,
        subnetworks: Subnetworks,
        steps: Sequence[Architecture],
        at: Sequence[int],
        num_members: int | None,
    ) -> "NestedChain":
        """So many of the steps, with those at the given positions."""
        at = sorted(set(at))
        if num_members is None:
            num_members = max(len(at), min(DEFAULT_NUM_MEMBERS, len(steps)))
        if num_members > len(steps):
            raise RequestError(
                f"num_members={num_members}, but a chain in this space has at most {len(steps)}"
            )
        if num_members < len(at):
            raise RequestError(
                f"num_members={num_members}, but the chain is to pass {len(at)} architectures"
            )
        return cls(subnetworks, [steps[position] for position in _spread(at, num_members)])

    @property
    def num_macs(self) -> list[int]:
        """Multiply-accumulates of each member, rising."""
        return [self.subnetworks.count(member)["num_macs"] for member in self.members]

    @overload
    def __getitem__(self, position: int) -> Architecture: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Architecture]: ...
    def __getitem__(self, position: int | slice) -> Architecture | Sequence[Architecture]:
        return self.members[position]

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        macs = self.num_macs
        return f"NestedChain({len(self)} members, {macs[0]:,} to {macs[-1]:,} MACs)"


def why_not_below(
    subnetworks: Subnetworks, smaller: Architecture, larger: Architecture
) -> str | None:
    """What keeps `smaller` from standing before `larger` in a chain; None if nothing does."""
    space = subnetworks.space
    ranks = choice_ranks(space, [smaller, larger])
    above = np.flatnonzero(ranks[0] > ranks[1])
    if len(above):
        dimension = space.dimensions[above[0]]
        in_larger = repr(larger[dimension.name]) if ranks[1, above[0]] >= 0 else "inactive"
        return (
            f"'{dimension.name}' is {smaller[dimension.name]!r} in the smaller one and "
            f"{in_larger} in the larger"
        )
    differing = ", ".join(f"'{name}'" for name in larger if larger[name] != smaller[name])
    size = larger_size(subnetworks.shape_of(smaller), subnetworks.shape_of(larger))
    if size:
        return f"{size}; they differ in {differing or 'nothing'}"
    before, after = (subnetworks.count(a)["num_macs"] for a in (smaller, larger))
    if before >= after:
        return (
            f"multiply-accumulates go from {before:,} to {after:,} and so do not rise; "
            f"they differ in {differing or 'nothing'}"
        )
    return None


def choice_ranks(space: SearchSpace, architectures: Sequence[Architecture]) -> np.ndarray:
    """How large each choice is among its dimension's, -1 where inactive: int64 (N, D).

    Within the same space, a network that another contains has no larger rank anywhere; so this
    is quick to check, and necessary, but where dimensions act on each other not sufficient.
    """
    genomes = space.to_genomes(architectures)
    ranks = np.empty_like(genomes)
    for column, dimension in enumerate(space):
        rank = [dimension.rising.index(choice) for choice in dimension.choices]
        ranks[:, column] = np.array(rank)[genomes[:, column]]
    return np.where(space.active(genomes), ranks, -1)


def larger_size(smaller: Any, larger: Any, where: str = "") -> str | None:
    """The first size of the shape `smaller` that exceeds that of `larger`, in words, or None.

    A shape is made of numbers, tuples and dataclasses; of a longer tuple the first parts are
    compared. `where` is what they are a part of.
    """
    if hasattr(smaller, "nested_sizes") and hasattr(larger, "nested_sizes"):
        smaller, larger = smaller.nested_sizes, larger.nested_sizes
    if is_dataclass(smaller) and type(smaller) is type(larger):
        names = [field.name for field in fields(smaller)]
        parts = [(getattr(smaller, n), getattr(larger, n), f"{where}.{n}") for n in names]
        return next((found for part in parts if (found := larger_size(*part))), None)
    if isinstance(smaller, tuple) and isinstance(larger, tuple) and len(smaller) <= len(larger):
        pairs = enumerate(zip(smaller, larger, strict=False))
        parts = [(small, large, f"{where}.{n}") for n, (small, large) in pairs]
        return next((found for part in parts if (found := larger_size(*part))), None)
    are_numbers = isinstance(smaller, int | float) and isinstance(larger, int | float)
    if smaller == larger or (are_numbers and smaller < larger):
        return None
    return f"the size{where} is {smaller} in the smaller one and {larger} in the larger"


def steps_between(
    space: SearchSpace, start: Architecture, end: Architecture, fixed: Collection[str] = ()
) -> list[Architecture]:
    """From one architecture to another that is larger, one choice of one dimension at a time.

    Of the dimensions that are active and not where they are to end, the one that has come the
    least far goes next, so that all grow together.

    Args:
        fixed: dimensions that stand where they are to end as soon as they are active.
    """
    first, last = choice_ranks(space, [start, end])
    names = [dimension.name for dimension in space]
    position = np.where([name in fixed for name in names], last, first).clip(0)
    distance = np.maximum(last - position, 1)
    steps = [start]
    while True:
        (is_active,) = space.active(space.to_genome(steps[-1])[None])
        is_open = is_active & (position < last)
        if not is_open.any():
            return steps
        position[np.argmax(np.where(is_open, (last - position) / distance, -1.0))] += 1
        choices = {n: space[n].rising[i] for n, i in zip(names, position, strict=True)}
        steps.append(space.canonical(choices))


def _nested(subnetworks: Subnetworks, steps: Sequence[Architecture]) -> list[Architecture]:
    """Those steps that make a chain with both ends; others are left out.

    Such as a step that costs nothing, or one that adds a block whose narrow output shrinks what
    comes after it.
    """
    kept = [steps[0]]
    for step in steps[1:]:
        if why_not_below(subnetworks, kept[-1], step) is None:
            kept.append(step)
    if kept[-1] != steps[-1]:
        while len(kept) > 1 and why_not_below(subnetworks, kept[-1], steps[-1]) is not None:
            kept.pop()
        kept.append(steps[-1])
    return kept


def _spread(stops: Sequence[int], count: int) -> list[int]:
    """`count` positions that have all of these among them, evenly between each two."""
    lengths = np.diff(stops)
    parts = np.ones_like(lengths)
    for _ in range(count - len(stops)):
        parts[np.argmax(np.where(parts < lengths, lengths / parts, 0))] += 1
    chosen = {stops[0]}
    for (start, end), number in zip(pairwise(stops), parts.tolist(), strict=True):
        chosen.update(np.linspace(start, end, number + 1).round().astype(int).tolist())
    return sorted(chosen)


def _named(space: SearchSpace, given: str) -> list[str]:
    """The dimensions of that name, or whose name ends in it."""
    found = [d.name for d in space if given in (d.name, d.name.rpartition(".")[2])]
    if not found:
        kinds = {part for d in space for part in (d.name, d.name.rpartition(".")[2])}
        raise unknown_name("elastic dimension", given, kinds)
    return found
