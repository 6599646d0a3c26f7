"""Evolutionary algorithms of pymoo, fed through its ask and tell. The only door to pymoo.

pymoo keeps the population and does selection and survival; what varies genomes is ours
(`variation.py`), and so are duplicates, which `SearchAlgorithm` leaves out in canonical form.
Trials that an algorithm did not propose enter its population like its own.

A further algorithm is a subclass with a `_build`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo import nsga2
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from nasbench.errors import RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import SearchProblem
from nasbench.search.variation import Variation, sample_choices
from nasbench.space import Architecture, Genomes

_CHILDREN_PER_PROPOSAL = 4  # some are known already


class PymooAlgorithm(SearchAlgorithm):
    """An algorithm of pymoo in a nasbench search.

    Proposals are random until a population was measured. From then on every batch
    told, of whatever size, competes with the population for its places.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        population: how many trials are parents; 50 was best of those compared by Cummings et
            al. (2205.10358).
    """

    def __init__(self, problem: SearchProblem, seed: int = 0, *, population: int = 50) -> None:
        super().__init__(problem, seed)
        if population < 2:
            raise RequestError(f"a population has at least two members, but it was {population}")
        self._population = population
        variation = Variation(problem.space)
        self._evolution = self._build(
            pop_size=population,
            crossover=_UniformCrossover(variation),
            mutation=_ChoiceMutation(variation),
            eliminate_duplicates=False,
        ).setup(_as_pymoo(problem), termination=NoTermination())

    @abstractmethod
    def _build(self, **settings: Any) -> Any:
        """The pymoo algorithm with these settings, which all its genetic algorithms take."""

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        if not self._evolution.is_initialized:
            return sample_choices(self.problem.space, count, rng)
        self._evolution.random_state = rng
        self._evolution.n_offsprings = _CHILDREN_PER_PROPOSAL * count
        children: Genomes = self._evolution.ask().get("X")
        return children

    def tell(
        self,
        architectures: Sequence[Architecture],
        losses: NDArray[Any],
        violations: NDArray[Any] | None = None,
    ) -> None:
        """As in `SearchAlgorithm`; the batch competes with the population."""
        num_before = len(self.genomes)
        super().tell(architectures, losses, violations)
        self._evolution.random_state = self._rng(self._num_told)
        if not self._evolution.is_initialized:
            if len(self.genomes) < self._population:
                return
            self._evolve(slice(self._population))
            num_before = self._population
        self._evolve(slice(num_before, None))

    def _evolve(self, trials: slice) -> None:
        """Let some of the measured trials compete; the first time, let them be the population."""
        if len(self.genomes[trials]):
            self._evolution.tell(
                Population.new(
                    X=self.genomes[trials],
                    F=self.losses[trials],
                    G=self.violations[trials, None],
                )
            )


class NSGA2(PymooAlgorithm):
    """NSGA-II: non-domination rank first, then crowding distance.

    Deb, Pratap, Agarwal and Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm:
    NSGA-II (IEEE TEC 2002); constraints by its rule that feasible trials precede others.
    """

    def _build(self, **settings: Any) -> Any:
        return nsga2.NSGA2(**settings)


def _as_pymoo(problem: SearchProblem) -> Problem:
    """The problem as pymoo sees it: one constraint, the summed violation."""
    return Problem(
        n_var=len(problem.space),
        n_obj=len(problem.objectives),
        n_ieq_constr=1,
        xl=0,
        xu=problem.space.num_choices - 1,
        vtype=int,
    )


class _UniformCrossover(Crossover):  # type: ignore[misc]  # pymoo has no types
    def __init__(self, variation: Variation) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=0.9)
        self._variation = variation

    def _do(
        self, _problem: Problem, X: Genomes, *_: Any, random_state: np.random.Generator, **__: Any
    ) -> Genomes:
        first, second = X
        return np.stack(
            [
                self._variation.cross(first, second, random_state),
                self._variation.cross(second, first, random_state),
            ]
        )


class _ChoiceMutation(Mutation):  # type: ignore[misc]
    def __init__(self, variation: Variation) -> None:
        super().__init__(prob=1.0)
        self._variation = variation

    def _do(
        self, _problem: Problem, X: Genomes, *_: Any, random_state: np.random.Generator, **__: Any
    ) -> Genomes:
        return self._variation.mutate(X, random_state)
