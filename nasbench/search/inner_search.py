"""The search inside a search: NSGA-II over a surrogate, ten thousand candidates in a moment.

Everything works on whole populations of genomes, because here a candidate costs microseconds;
`evolution.py` has the algorithms for candidates that cost minutes.

Shape legend: N candidates, D dimensions, M objectives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nasbench.search.problem import Floats, genome_keys
from nasbench.search.selection import Rows, best_rows
from nasbench.search.variation import Variation
from nasbench.space import Genomes, SearchSpace

Score = Callable[[Genomes], tuple[Floats, Floats]]

_POPULATION = 100
_CROSSOVER_RATE = 0.9


@dataclass(frozen=True)
class Candidates:
    """Genomes (N, D) with the losses (N, M) and violations (N,) that they were scored with."""

    genomes: Genomes
    losses: Floats
    violations: Floats

    @classmethod
    def scored(cls, genomes: Genomes, score: Score) -> Self:
        """The candidates as `score` sees them."""
        return cls(genomes, *score(genomes))

    def take(self, rows: Rows) -> "Candidates":
        """The candidates in these rows."""
        return Candidates(self.genomes[rows], self.losses[rows], self.violations[rows])

    def best(self, count: int) -> "Candidates":
        """The `count` best, best first, by rank and crowding distance."""
        return self.take(best_rows(self.losses, self.violations, count))

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> Self:
        """All candidates of the parts, in order."""
        return cls(
            np.concatenate([part.genomes for part in parts]),
            np.concatenate([part.losses for part in parts]),
            np.concatenate([part.violations for part in parts]),
        )


def evolve_candidates(
    space: SearchSpace,
    score: Score,
    start: Genomes,
    num_evaluations: int,
    rng: np.random.Generator,
) -> Candidates:
    """Everything that NSGA-II scores on its way to the front, each candidate once.

    Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (IEEE TEC 2002);
    the operators are those of `Variation`.

    Args:
        space: what to search.
        score: losses and violations of a population.
        start: of shape (N, D), N >= 1.
        num_evaluations: children to breed; those that were scored before are not again.
        rng: of all randomness.
    """
    variation = Variation(space)
    seen: set[bytes] = set()
    archive = [Candidates.scored(_unseen(start, seen), score)]
    parents = archive[0].best(_POPULATION)
    for _ in range(num_evaluations // _POPULATION):
        children = _unseen(_breed(parents.genomes, variation, rng), seen)
        archive.append(Candidates.scored(children, score))
        parents = Candidates.joined([parents, archive[-1]]).best(_POPULATION)
    return Candidates.joined(archive)


def _breed(parents: Genomes, variation: Variation, rng: np.random.Generator) -> Genomes:
    """A population of children; `parents` are sorted, so the lower row wins a tournament."""
    contests = rng.integers(0, len(parents), size=(2, 2, _POPULATION))
    first, second = parents[contests.min(axis=0)]
    crossed = rng.random((_POPULATION, 1)) < _CROSSOVER_RATE
    children = np.where(crossed, variation.cross(first, second, rng), first)
    return variation.mutate(children, rng)


def _unseen(genomes: Genomes, seen: set[bytes]) -> Genomes:
    """The rows that are not in `seen` yet, each once; they are now."""
    rows = []
    for row, key in enumerate(genome_keys(genomes)):
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return genomes[rows]
