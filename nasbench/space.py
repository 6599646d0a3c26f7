"""Search spaces: which sub-networks a supernet contains, and how each is written down.

An architecture assigns one choice to every elastic dimension of its space. Its genome is the
vector of choice indices, int64 of shape (num_dimensions,), which the search algorithms use.

A dimension can be inactive: the fifth block's kernel size where the stage has four blocks. An
inactive dimension stands at its first choice in the canonical form, and everything a space
returns is canonical, so two architectures that describe one network are equal. Dimensions
form a forest (each is active under some choices of at most one other), which makes exact
counting and exactly uniform sampling of canonical architectures a product over dimensions.

Shape legend: N architectures, D dimensions.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError, unknown_name

Choice = int | float | str | bool
Genomes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ActiveWhen:
    """The condition under which a dimension matters: another one stands at one of some choices."""

    dimension: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        owner = f"a condition on '{self.dimension}'"
        object.__setattr__(self, "choices", _checked_choices(owner, self.choices))


@dataclass(frozen=True, slots=True)
class ElasticDimension:
    """One axis of variation: a name and its choices, in the order that genomes index them.

    Args:
        name: unique in its space, by convention dotted ("stage1.block2.kernel_size").
        choices: finite and distinct, ordered as written; numbers, texts or booleans.
        active_when: the condition under which this dimension changes the network; None says always.
    """

    name: str
    choices: tuple[Choice, ...]
    active_when: ActiveWhen | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RequestError(f"an elastic dimension's name is a text, not {self.name!r}")
        owner = f"elastic dimension '{self.name}'"
        object.__setattr__(self, "choices", _checked_choices(owner, self.choices))

    @property
    def is_ordinal(self) -> bool:
        """Whether the choices are numbers in rising order, so that neighbors mean something."""
        numbers = [
            choice
            for choice in self.choices
            if isinstance(choice, int | float) and not isinstance(choice, bool)
        ]
        return len(numbers) == len(self.choices) and all(a < b for a, b in pairwise(numbers))

    @property
    def rising(self) -> tuple[Choice, ...]:
        """The choices from the smallest to the largest; as written where they are no numbers."""
        if any(isinstance(choice, str) for choice in self.choices):
            return self.choices
        return tuple(sorted(self.choices))

    def index(self, choice: object) -> int:
        """The choice's position; RequestError if it is none of this dimension's choices."""
        try:
            return self.choices.index(choice)
        except ValueError:
            raise RequestError(
                f"'{self.name}' has no choice {choice!r}; possible: "
                + ", ".join(map(repr, self.choices))
            ) from None


def _checked_choices(owner: str, choices: object) -> tuple[Choice, ...]:
    """The choices as a tuple of plain Python values, or RequestError that says what is wrong."""
    if isinstance(choices, str) or not isinstance(choices, Sequence | np.ndarray):
        raise RequestError(f"{owner} needs a sequence of choices, but was given {choices!r}")
    plain = tuple(c.item() if isinstance(c, np.generic) else c for c in choices)
    if not plain:
        raise RequestError(f"{owner} has no choices; give at least one")
    for choice in plain:
        if not isinstance(choice, Choice) or (
            isinstance(choice, float) and not math.isfinite(choice)
        ):
            raise RequestError(
                f"{owner} has the choice {choice!r}; possible: finite numbers, texts, booleans"
            )
    if len(set(plain)) != len(plain):
        raise RequestError(f"{owner} repeats a choice in {plain}")
    return plain


class Architecture(Mapping[str, Choice]):
    """An immutable, hashable assignment of one choice to every dimension of a space.

    Obtained from a `SearchSpace`, which hands out canonical forms only; so equality of two
    architectures of a space is equality of the networks they describe.
    """

    __slots__ = ("_hash", "_values")

    def __init__(self, values: Mapping[str, Choice]) -> None:
        self._values = dict(values)
        self._hash = hash(frozenset(self._values.items()))  # equality knows no order either

    def __getitem__(self, name: str) -> Choice:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._values == other._values

    def __repr__(self) -> str:
        return f"Architecture({self._values})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Architecture, (self._values,))  # text hashes differ between processes

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this architecture in files and tables."""
        return _digest(self._values)[:12]

    def to_json(self) -> dict[str, Choice]:
        """A plain dictionary, in the order of the space's dimensions."""
        return dict(self._values)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class SearchSpace:
    """An ordered set of elastic dimensions.

    Args:
        dimensions: a dimension stands after the one that its activity depends on.

    Raises:
        RequestError: for a repeated name, or a condition on an unknown or later dimension or
            on a choice that the dimension does not have.
    """

    def __init__(self, dimensions: Sequence[ElasticDimension]) -> None:
        self.dimensions = tuple(dimensions)
        self._position: dict[str, int] = {}
        for position, dimension in enumerate(self.dimensions):
            if dimension.name in self._position:
                raise RequestError(f"two elastic dimensions are named '{dimension.name}'")
            if dimension.active_when is not None:
                self._check_condition(dimension)
            self._position[dimension.name] = position

    def _check_condition(self, dimension: ElasticDimension) -> None:
        condition = dimension.active_when
        assert condition is not None
        if condition.dimension not in self._position:
            raise RequestError(
                f"'{dimension.name}' is active depending on '{condition.dimension}', "
                "which is not a dimension declared before it"
            )
        parent = self.dimensions[self._position[condition.dimension]]
        for choice in condition.choices:
            if choice not in parent.choices:
                raise RequestError(
                    f"'{dimension.name}' is active where '{parent.name}' is {choice!r}, which is "
                    f"none of its choices: {', '.join(map(repr, parent.choices))}"
                )

    def __len__(self) -> int:
        return len(self.dimensions)

    def __iter__(self) -> Iterator[ElasticDimension]:
        return iter(self.dimensions)

    def __contains__(self, architecture: object) -> bool:
        """Whether it assigns a choice of this space to every dimension, and nothing else."""
        try:
            self._indices(architecture)  # type: ignore[arg-type]
        except RequestError:
            return False
        return True

    def __getitem__(self, name: str) -> ElasticDimension:
        if name not in self._position:
            raise unknown_name("elastic dimension", name, self._position)
        return self.dimensions[self._position[name]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.dimensions == other.dimensions

    def __hash__(self) -> int:
        return hash(self.dimensions)

    def __repr__(self) -> str:
        return f"SearchSpace({len(self)} dimensions, {self.size:,} architectures)"

    @cached_property
    def fingerprint(self) -> str:
        """Changes when a dimension, its choices or its condition changes."""
        return _digest(
            [
                [d.name, d.choices]
                + ([[d.active_when.dimension, d.active_when.choices]] if d.active_when else [])
                for d in self.dimensions
            ]
        )[:16]

    def to_json(self) -> list[dict[str, Any]]:
        """The dimensions as plain dictionaries, from which `from_json` makes an equal space."""
        return [
            {"name": d.name, "choices": list(d.choices)}
            | ({"active_when": asdict(d.active_when)} if d.active_when else {})
            for d in self.dimensions
        ]

    @classmethod
    def from_json(cls, dimensions: Sequence[Mapping[str, Any]]) -> "SearchSpace":
        """The space that `to_json` wrote; RequestError if the dimensions are impossible."""
        return cls(
            [
                ElasticDimension(
                    d["name"],
                    tuple(d["choices"]),
                    ActiveWhen(**d["active_when"]) if "active_when" in d else None,
                )
                for d in dimensions
            ]
        )

    @cached_property
    def num_choices(self) -> NDArray[np.int64]:
        """How many choices each dimension has, int64 of shape (D,)."""
        return np.array([len(d.choices) for d in self.dimensions], dtype=np.int64)

    # -- counting ---------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> list[list[int]]:
        """Per dimension and choice: how many canonical subtrees hang below that choice."""
        children: dict[str, list[int]] = {d.name: [] for d in self.dimensions}
        for position, dimension in enumerate(self.dimensions):
            if dimension.active_when is not None:
                children[dimension.active_when.dimension].append(position)
        weights: list[list[int]] = [[] for _ in self.dimensions]
        for position in reversed(range(len(self))):  # children stand after their parent
            dimension = self.dimensions[position]
            for choice in dimension.choices:
                weight = 1
                for child in children[dimension.name]:
                    condition = self.dimensions[child].active_when
                    assert condition is not None
                    if choice in condition.choices:
                        weight *= sum(weights[child])
                weights[position].append(weight)
        return weights

    @cached_property
    def size(self) -> int:
        """The exact number of canonical architectures."""
        size = 1
        for dimension, weights in zip(self.dimensions, self._weights, strict=True):
            if dimension.active_when is None:
                size *= sum(weights)
        return size

    # -- genomes ----------------------------------------------------------------------------

    @cached_property
    def _conditions(self) -> list[tuple[int, list[int], NDArray[np.bool_]]]:
        """(dimension, its K dependents, which its choices activate), a parent before its children.

        The last is of shape (num_choices, K).
        """
        dependents: dict[int, list[tuple[int, ActiveWhen]]] = {}
        for position, dimension in enumerate(self.dimensions):
            if dimension.active_when is not None:
                parent = self._position[dimension.active_when.dimension]
                dependents.setdefault(parent, []).append((position, dimension.active_when))
        conditions = []
        for parent, found in sorted(dependents.items()):
            choices = self.dimensions[parent].choices
            activates = [[choice in when.choices for _, when in found] for choice in choices]
            conditions.append((parent, [position for position, _ in found], np.array(activates)))
        return conditions

    def active(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which dimensions matter in each genome: (N, D) -> bool of shape (N, D)."""
        genomes = self.check_genomes(genomes)
        active = np.ones(genomes.shape, dtype=bool)
        for parent, children, activates in self._conditions:
            active[:, children] = active[:, parent, None] & activates[genomes[:, parent]]
        return active

    def canonical_genomes(self, genomes: Genomes) -> Genomes:
        """Set inactive dimensions to their first choice: (N, D) -> (N, D), a new array.

        Raises:
            RequestError: for another shape or an index that a dimension does not have.
        """
        genomes = self.check_genomes(genomes)
        return np.where(self.active(genomes), genomes, 0)

    def canonical(self, architecture: Mapping[str, Choice]) -> Architecture:
        """The canonical form of a complete assignment.

        Raises:
            RequestError: if a dimension is missing or unknown, or a value is none of its choices.
        """
        return self.from_genome(self._indices(architecture))

    @cached_property
    def _index_by_choice(self) -> dict[str, dict[Choice, int]]:
        return {d.name: {c: i for i, c in enumerate(d.choices)} for d in self.dimensions}

    def _indices(self, architecture: Mapping[str, Choice]) -> list[int]:
        """The choice index of every dimension, as written, canonical or not."""
        if isinstance(architecture, Architecture):
            architecture = architecture._values
        elif not isinstance(architecture, Mapping):
            raise RequestError(
                "an architecture maps every elastic dimension to one of its choices, but was "
                f"{architecture!r}"
            )
        if architecture.keys() != self._position.keys():
            for name in architecture:
                self[name]
            missing = next(d.name for d in self.dimensions if d.name not in architecture)
            raise RequestError(f"the architecture has no value for '{missing}'")
        try:
            return [index[architecture[name]] for name, index in self._index_by_choice.items()]
        except (KeyError, TypeError):  # TypeError: not hashable, so no choice either
            return [d.index(architecture[d.name]) for d in self.dimensions]

    def to_genome(self, architecture: Mapping[str, Choice]) -> Genomes:
        """The canonical genome, int64 of shape (D,).

        Raises:
            RequestError: if the architecture is not a member of this space.
        """
        genome: Genomes = self.to_genomes([architecture])[0]
        return genome

    def to_genomes(self, architectures: Sequence[Mapping[str, Choice]]) -> Genomes:
        """The canonical genomes of N architectures, int64 of shape (N, D)."""
        rows = [self._indices(architecture) for architecture in architectures]
        return self.canonical_genomes(np.array(rows, dtype=np.int64).reshape(len(rows), len(self)))

    def from_genome(self, genome: Sequence[int] | Genomes) -> Architecture:
        """The canonical architecture of one genome of shape (D,).

        Raises:
            RequestError: for another shape or an index that a dimension does not have.
        """
        return self.from_genomes(np.asarray(genome)[None])[0]

    def from_genomes(self, genomes: Genomes) -> list[Architecture]:
        """The canonical architectures of N genomes, int64 of shape (N, D).

        Raises:
            RequestError: for another shape or an index that a dimension does not have.
        """
        names = [d.name for d in self.dimensions]
        choices = [d.choices for d in self.dimensions]
        return [
            Architecture(dict(zip(names, map(getitem, choices, row), strict=True)))
            for row in self.canonical_genomes(genomes).tolist()
        ]

    def check_genomes(self, genomes: NDArray[Any]) -> Genomes:
        """The genomes as int64 of shape (N, D), or RequestError that says what is wrong."""
        genomes = np.asarray(genomes)
        if genomes.ndim != 2 or genomes.shape[1] != len(self):
            raise RequestError(
                f"expected genomes of shape (num_architectures, {len(self)}), one column per "
                f"elastic dimension, but they had shape {genomes.shape}"
            )
        if genomes.size and not np.issubdtype(genomes.dtype, np.integer):
            raise RequestError(f"genomes hold integer choice indices, not {genomes.dtype}")
        outside = (genomes < 0) | (genomes >= self.num_choices)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            dimension = self.dimensions[column]
            raise RequestError(
                f"'{dimension.name}' has choice indices 0 to {len(dimension.choices) - 1}, "
                f"but the genome in row {row} has {genomes[row, column]}"
            )
        checked: Genomes = genomes.astype(np.int64, copy=False)
        return checked

    # -- visiting ---------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """One architecture, uniform over the canonical ones."""
        return self.from_genome(self.sample_genomes(1, rng)[0])

    def sample_genomes(self, count: int, rng: np.random.Generator) -> Genomes:
        """Independent canonical genomes of shape (count, D), uniform over canonical architectures.

        Within a forest the choices of active dimensions are independent of each other once each
        is weighted by the number of canonical subtrees below it, so every column is drawn alone.
        """
        uniform = rng.random((count, len(self)))
        genomes = np.empty(uniform.shape, dtype=np.int64)
        for position, thresholds in enumerate(self._thresholds):
            genomes[:, position] = np.searchsorted(thresholds, uniform[:, position], side="right")
        return self.canonical_genomes(genomes)

    def sample_choices(self, count: int, rng: np.random.Generator) -> Genomes:
        """Canonical genomes of shape (count, D), every choice of a dimension as likely as others.

        Not uniform over architectures, and on purpose: where a depth decides how many dimensions
        are active, nearly all architectures have the largest depth (in Once-for-all's space six
        in ten have it in every stage), so a uniform sample says next to nothing about small
        networks.
        """
        return self.canonical_genomes(rng.integers(0, self.num_choices, size=(count, len(self))))

    @cached_property
    def _thresholds(self) -> list[NDArray[np.float64]]:
        """Per dimension: where a uniform number in [0, 1) passes from each choice to the next."""
        return [
            np.array([below / sum(weights) for below in accumulate(weights[:-1])])
            for weights in self._weights
        ]

    def enumerate(self) -> Iterator[Architecture]:
        """Every canonical architecture once, in lexicographic order of genomes."""
        genome = np.zeros(len(self), dtype=np.int64)
        while True:
            yield self.from_genome(genome)
            active = self.active(genome[None])[0]
            for position in reversed(range(len(self))):
                if active[position] and genome[position] + 1 < self.num_choices[position]:
                    genome[position] += 1
                    genome[position + 1 :] = 0
                    break
            else:
                return

    def neighbors(self, architecture: Mapping[str, Choice]) -> list[Architecture]:
        """Every architecture that differs in the choice of one active dimension.

        What that change activates stands at its first choice. In the order of dimensions and
        choices, without the architecture itself.
        """
        genome = self.to_genome(architecture)
        changes = [
            (position, index)
            for position in np.flatnonzero(self.active(genome[None])[0])
            for index in range(self.num_choices[position])
            if index != genome[position]
        ]
        genomes = np.tile(genome, (len(changes), 1))
        for row, (position, index) in enumerate(changes):
            genomes[row, position] = index
        return self.from_genomes(genomes)

    @cached_property
    def largest(self) -> Architecture:
        """Every dimension at its maximum (the last one written where choices are no numbers)."""
        return self._extreme(np.argmax, last=True)

    @cached_property
    def smallest(self) -> Architecture:
        """Every dimension at its minimum (the first one written where choices are no numbers)."""
        return self._extreme(np.argmin, last=False)

    def _extreme(self, extreme: Any, *, last: bool) -> Architecture:
        genome = []
        for dimension in self.dimensions:
            if any(isinstance(choice, str) for choice in dimension.choices):
                genome.append(len(dimension.choices) - 1 if last else 0)
            else:
                genome.append(int(extreme(np.array(dimension.choices, dtype=float))))
        return self.from_genome(genome)
