"""Encodings: genomes as features. The vocabulary is what the space declares, not what was seen.

An inactive dimension says the same whatever it stands at, so two genomes of one network have
one encoding. `ENCODINGS[name](space)` is an `Encoding`: a function with a list that says which
columns describe one thing together.

Some encodings *belong to* spaces that they know more about than the choices say: which operations
of a cell reach its output, how many layers a width is repeated in. A predictor takes the one that
belongs to its space, or else the general one that suits the predictor; its setting `encoding`
overrides both, with a name or with an `Encoding` of your own:

    PREDICTORS["ridge"](space, encoding="ordinal")
    PREDICTORS["gp"](space, encoding=joined(OneHot(space), Counted(space, supernet.count)))

Shape legend: N architectures, D dimensions, F features, G groups of features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.encoding import Floats, numbers_of, one_hot, ordinal, repeated_dimensions
from nasbench.registry import Registry
from nasbench.space import Architecture, Genomes, SearchSpace


class Encoding(ABC):
    """Turns canonical genomes of one space into features.

    Args:
        space: what the genomes belong to; RequestError if the encoding is not for it.

    Attributes:
        groups: int64 of shape (F,), 0 to G - 1: the thing that a column describes. The columns of
            one dimension's choices are one group.
    """

    groups: NDArray[np.int64]

    @abstractmethod
    def __init__(self, space: SearchSpace) -> None: ...

    def __call__(self, genomes: Genomes) -> Floats:
        """Canonical genomes of shape (N, D) as float64 of shape (N, F)."""
        return self._encode(genomes)

    @abstractmethod
    def _encode(self, genomes: Genomes) -> Floats:
        """As `__call__`."""

    @classmethod
    def belongs_to(cls, space: SearchSpace) -> bool:  # noqa: ARG003 - a general one ignores it
        """Whether this encoding was made for spaces like this one."""
        return False


ENCODINGS: Registry[type[Encoding]] = Registry(
    "encoding",
    {
        "one_hot": "nasbench.predictors.encoding:OneHot",
        "ordinal": "nasbench.predictors.encoding:Ordinal",
        "totals": "nasbench.predictors.encoding:Totals",
        "cell": "nasbench.predictors.cells:Cell",
        "cell_counts": "nasbench.predictors.cells:CellCounts",
        "cell_used": "nasbench.predictors.cells:CellUsed",
        "cell_used_counts": "nasbench.predictors.cells:CellUsedCounts",
        "hat_totals": "nasbench.predictors.hat:HATTotals",
        "hat": "nasbench.predictors.hat:HAT",
    },
)


def encodings_of(space: SearchSpace) -> list[str]:
    """Names of the encodings that belong to a space, the richest first; none for most spaces."""
    return [name for name in ENCODINGS if ENCODINGS[name].belongs_to(space)]


def build_encoding(space: SearchSpace, asked: str | Encoding | None, general: str) -> Encoding:
    """The encoding asked for; without one that which belongs to the space, or the general one."""
    if isinstance(asked, Encoding):
        return asked
    return ENCODINGS[asked or next(iter(encodings_of(space)), general)](space)


# -- general encodings --------------------------------------------------------------------------


class OneHot(Encoding):
    """A column per declared choice, 1 where taken; an inactive dimension is all zeros."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.groups = np.repeat(np.arange(len(space)), space.num_choices)

    def _encode(self, genomes: Genomes) -> Floats:
        return one_hot(self._space, genomes)


class Ordinal(Encoding):
    """A column per dimension, its choices spread over [0, 1]; -1 where inactive."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.groups = np.arange(len(space))

    def _encode(self, genomes: Genomes) -> Floats:
        return ordinal(self._space, genomes)


class Totals(Encoding):
    """Numbers as they are spaced, names one-hot, and what layers add up to.

    A number has a second column that says whether it is active; an inactive one stands in the
    middle, so that it differs from every choice by its activity above all. The totals are sums of
    dimensions that repeat, those whose names differ in their last number alone
    ("stage1.block2.kernel_size"), over the active ones. Where layers cost alike, one such column
    says what many dimensions say.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._numbers = np.flatnonzero([dimension.is_ordinal for dimension in space])
        by_choice = np.repeat(np.arange(len(space)), space.num_choices)
        self._named = np.flatnonzero(~np.isin(by_choice, self._numbers))
        self._repeated = repeated_dimensions(space)
        largest = numbers_of(space, space.to_genome(space.largest)[None])[0]
        self._largest = [np.abs(largest[columns]).sum() or 1.0 for columns in self._repeated]
        of_dimensions = np.concatenate([self._numbers, self._numbers, by_choice[self._named]])
        of_totals = len(space) + np.arange(len(self._repeated))
        self.groups = np.concatenate([of_dimensions, of_totals])

    def _encode(self, genomes: Genomes) -> Floats:
        active = self._space.active(genomes)[:, self._numbers]
        positions = ordinal(self._space, genomes)[:, self._numbers]
        named = one_hot(self._space, genomes)[:, self._named]
        numbers = numbers_of(self._space, genomes)
        totals = [
            numbers[:, columns].sum(axis=1) / largest
            for columns, largest in zip(self._repeated, self._largest, strict=True)
        ]
        return np.column_stack([np.where(active, positions, 0.5), active, named, *totals])


# -- encodings of the caller --------------------------------------------------------------------


class Counted(Encoding):
    """What is counted of each network: MACs, parameters, depth.

    Args:
        space: what the genomes belong to.
        count: gives the same metrics of every architecture, each above 0. They are relative to
            the largest architecture's, and their logarithms stand beside them, since costs are
            products of widths.
    """

    def __init__(
        self, space: SearchSpace, count: Callable[[Architecture], Mapping[str, float]]
    ) -> None:
        self._space = space
        self._count = count
        self._largest = np.array(list(count(space.largest).values()), dtype=np.float64)
        self.groups = np.tile(np.arange(len(self._largest)), 2)

    def _encode(self, genomes: Genomes) -> Floats:
        rows = [list(self._count(each).values()) for each in self._space.from_genomes(genomes)]
        shares = np.array(rows, dtype=np.float64).reshape(len(rows), -1) / self._largest
        return np.concatenate([shares, np.log(shares)], axis=1)


class Described(Encoding):
    """Any numbers of each network: zero-cost features, or measurements of another metric.

    Args:
        space: what the genomes belong to.
        describe: gives the same numbers of every architecture, by name. They are centered and
            scaled by what it says of sixteen random architectures and the two extremes.
    """

    def __init__(
        self, space: SearchSpace, describe: Callable[[Architecture], Mapping[str, float]]
    ) -> None:
        self._space, self._describe = space, describe
        self.groups = np.arange(len(describe(space.smallest)))
        some = space.from_genomes(space.sample_genomes(16, np.random.default_rng(0)))
        numbers = self._numbers([space.smallest, space.largest, *some])
        deviations = numbers.std(axis=0)
        self._center, self._scale = numbers.mean(axis=0), np.where(deviations > 0, deviations, 1.0)

    def _numbers(self, networks: Sequence[Architecture]) -> Floats:
        rows = [list(self._describe(each).values()) for each in networks]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.groups))

    def _encode(self, genomes: Genomes) -> Floats:
        numbers = self._numbers(self._space.from_genomes(genomes))
        return np.asarray((numbers - self._center) / self._scale)


class Joined(Encoding):
    """Several encodings side by side; made by `joined`."""

    def __init__(self, parts: Sequence[Encoding]) -> None:
        self._parts = tuple(parts)
        sizes = [int(part.groups.max(initial=-1)) + 1 for part in parts]
        starts = np.cumsum([0, *sizes[:-1]])
        self.groups = np.concatenate(
            [part.groups + start for part, start in zip(parts, starts, strict=True)]
        )

    def _encode(self, genomes: Genomes) -> Floats:
        return np.concatenate([part(genomes) for part in self._parts], axis=1)


def joined(*parts: Encoding) -> Encoding:
    """One encoding with the columns and the groups of all parts."""
    return Joined(parts)
