"""The contract between a search and its algorithm: ask, evaluate elsewhere, tell.

An algorithm evaluates nothing and stores nothing: its whole state is the replay of what it was
told. The randomness of each `ask` comes from the seed and the numbers of trials told and
pending, so an instance that is told the trials of an interrupted search, in the same batches,
goes on as that one would have.

Shape legend: N architectures, D dimensions, M objectives.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.search.problem import CountedMetrics, Floats, SearchProblem, genome_keys
from nasbench.search.variation import Variation
from nasbench.space import Architecture, Genomes

__all__ = ["SearchAlgorithm", "SearchProblem"]

_MAX_ENUMERATED = 5_000  # a space up to this size is searched to its last architecture
_MAX_ROUNDS = 30  # of candidates to complete a batch from
_MIN_CANDIDATES = 64  # in a round


class SearchAlgorithm(ABC):
    """Proposes architectures and learns from their losses.

    An implementation says in `_propose` what it would like to evaluate; what is here keeps the
    promises of `ask`. A proposal that a counted constraint rules out gives way to others, as
    long as there are any.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.

    Attributes:
        counted: the metrics of any candidate that need no measurement.
    """

    def __init__(self, problem: SearchProblem, seed: int = 0) -> None:
        if seed < 0:
            raise RequestError(f"a seed is at least 0, but it was {seed}")
        self.problem = problem
        self.seed = seed
        self.counted = CountedMetrics(problem)
        self._genomes = _Rows(np.empty((0, len(problem.space)), dtype=np.int64))
        self._failed = _Rows(np.empty((0, len(problem.space)), dtype=np.int64))
        self._losses = _Rows(np.empty((0, len(problem.objectives))))
        self._violations = _Rows(np.empty(0))
        self._num_told = 0
        # Sets are asked for membership only: their order differs between processes.
        self._told: set[bytes] = set()
        self._measured: set[bytes] = set()
        self._pending: dict[bytes, Genomes] = {}

    @abstractmethod
    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        """Candidates of shape (N, D), best first, of which the first `count` new ones are taken.

        They may be known or repeat; where too few are new, random ones are added.
        """

    def ask(self, count: int) -> list[Architecture]:
        """Propose members of the space that were neither told nor proposed before.

        Returns:
            `count` distinct architectures. Fewer only where the space is all but exhausted (a
            small one: where it is), none in the end.

        Raises:
            RequestError: for a negative count.
        """
        if count < 0:
            raise RequestError(f"a number of proposals is at least 0, but it was {count}")
        if count == 0:
            return []
        rng = self._rng(self._num_told, len(self._pending))
        batch = _Batch(count, self.is_known, self.counted)
        batch.offer(self.problem.space.canonical_genomes(self._propose(count, rng)))
        for _ in range(_MAX_ROUNDS):
            if not batch.is_full:
                batch.offer(self._more_candidates(batch, rng))
        if not batch.is_full and self.problem.space.size <= _MAX_ENUMERATED:
            batch.offer(rng.permutation(self.every_genome))
        proposed = batch.best()
        self._pending.update(zip(genome_keys(proposed), proposed, strict=True))
        return self.problem.space.from_genomes(proposed)

    def expect(self, architectures: Sequence[Architecture]) -> None:
        """Take these for proposed: others, or an earlier process, had them evaluated.

        What was told or is pending stays as it is.

        Raises:
            RequestError: for an architecture of another space.
        """
        genomes = self.problem.space.to_genomes(architectures)
        for key, genome in zip(genome_keys(genomes), genomes, strict=True):
            if not self.is_known(key):
                self._pending[key] = genome

    def tell(
        self,
        architectures: Sequence[Architecture],
        losses: NDArray[Any],
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Learn from finished trials, proposed here or elsewhere, in any order.

        A trial whose losses are not all finite has failed: it is never proposed again, and
        nothing is learned from it. An architecture that is told again keeps its first losses.

        Args:
            architectures: N members of the space.
            losses: of shape (N, M), smaller is better in every column.
            violations: summed violation of the constraints, of shape (N,), 0 where feasible;
                can be left out where the problem has no constraint.

        Raises:
            RequestError: for another shape, an architecture of another space, or violations
                that are missing or negative. Nothing was learned then.
        """
        genomes = self.problem.space.to_genomes(architectures)
        losses, violations = _checked(self.problem, len(genomes), losses, violations)
        is_measured = np.isfinite(losses).all(axis=1) & np.isfinite(violations)
        news, failed = [], []
        for row, key in enumerate(genome_keys(genomes)):
            if key not in self._told and not is_measured[row]:
                failed.append(row)
            self._told.add(key)
            self._pending.pop(key, None)
            if is_measured[row] and key not in self._measured:
                self._measured.add(key)
                news.append(row)
        self._num_told += len(genomes)
        self._genomes.append(genomes[news])
        self._failed.append(genomes[failed])
        self._losses.append(losses[news])
        self._violations.append(violations[news])

    @property
    def genomes(self) -> Genomes:
        """What was measured so far, of shape (N, D), in the order told; without failed trials."""
        return self._genomes.array

    @property
    def failed(self) -> Genomes:
        """What could not be measured, of shape (any number, D), in the order told."""
        return self._failed.array

    @property
    def losses(self) -> Floats:
        """Of what was measured, of shape (N, M)."""
        return self._losses.array

    @property
    def violations(self) -> Floats:
        """Of what was measured, of shape (N,), 0 where feasible."""
        return self._violations.array

    def is_known(self, key: bytes) -> bool:
        """Whether the genome of this key was told or proposed before."""
        return key in self._told or key in self._pending

    @property
    def pending(self) -> Genomes:
        """What was proposed and not told yet, of shape (N, D)."""
        shape = len(self._pending), len(self.problem.space)
        return np.array(list(self._pending.values()), dtype=np.int64).reshape(shape)

    @cached_property
    def every_genome(self) -> Genomes:
        """All canonical genomes of a small space, of shape (size, D)."""
        return self.problem.space.to_genomes(list(self.problem.space.enumerate()))

    def _more_candidates(self, batch: "_Batch", rng: np.random.Generator) -> Genomes:
        """Random ones, and mutations of those that come closest to a counted constraint."""
        num_random = max(batch.count, _MIN_CANDIDATES)
        return np.concatenate(
            [
                self.problem.space.sample_choices(num_random, rng),
                Variation(self.problem.space).mutate(batch.least_infeasible(), rng),
            ]
        )

    def _rng(self, *state: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=state))


class _Rows:
    """An array that rows are appended to, at a cost that does not grow with it."""

    def __init__(self, empty: NDArray[Any]) -> None:
        self._buffer, self._count = empty, 0

    @property
    def array(self) -> NDArray[Any]:
        """All rows; what was handed out before stays as it is."""
        return self._buffer[: self._count]

    def append(self, rows: NDArray[Any]) -> None:
        end = self._count + len(rows)
        if end > len(self._buffer):
            larger = np.empty((2 * end, *self._buffer.shape[1:]), dtype=self._buffer.dtype)
            larger[: self._count] = self.array
            self._buffer = larger
        self._buffer[self._count : end] = rows
        self._count = end


class _Batch:
    """Collects candidates until `count` new ones violate no counted constraint."""

    def __init__(
        self, count: int, is_known: Callable[[bytes], bool], counted: CountedMetrics
    ) -> None:
        self.count = count
        self._is_known = is_known
        self._counted = counted
        self._keys: set[bytes] = set()
        self._genomes: list[Genomes] = []
        self._violations: list[float] = []

    @property
    def is_full(self) -> bool:
        return self._violations.count(0.0) >= self.count

    def offer(self, genomes: Genomes) -> None:
        news = []
        for row, key in enumerate(genome_keys(genomes)):
            if key not in self._keys and not self._is_known(key):
                self._keys.add(key)
                news.append(row)
        self._genomes.append(genomes[news])
        self._violations.extend(self._counted.violations(genomes[news]).tolist())

    def best(self) -> Genomes:
        """At most `count` genomes, the feasible ones first, each kind in the order offered."""
        return self._sorted()[: self.count]

    def least_infeasible(self) -> Genomes:
        """At most `count` genomes that violate a counted constraint, the least violated first."""
        return self._sorted()[self._violations.count(0.0) :][: self.count]

    def _sorted(self) -> Genomes:
        return np.concatenate(self._genomes)[np.argsort(self._violations, kind="stable")]


def _checked(
    problem: SearchProblem, count: int, losses: NDArray[Any], violations: NDArray[Any] | None
) -> tuple[Floats, Floats]:
    """Losses (N, M) and violations (N,) as float64, or RequestError that says what is wrong."""
    losses = np.asarray(losses, dtype=np.float64)
    expected = (count, len(problem.objectives))
    if losses.shape != expected:
        raise RequestError(
            f"expected losses of shape {expected}, (num_architectures, num_objectives), "
            f"but they had shape {losses.shape}"
        )
    if violations is None:
        if problem.constraints:
            raise RequestError(
                "the problem has constraints, so each trial is told with its violation: "
                "tell(architectures, losses, violations)"
            )
        violations = np.zeros(count)
    violations = np.asarray(violations, dtype=np.float64)
    if violations.shape != (count,):
        raise RequestError(
            f"expected violations of shape ({count},), one per architecture, "
            f"but they had shape {violations.shape}"
        )
    if (violations < 0).any():
        row = int(np.flatnonzero(violations < 0)[0])
        raise RequestError(
            f"a violation is 0 where feasible and positive otherwise, but that of row {row} "
            f"is {violations[row]}"
        )
    return losses, violations
