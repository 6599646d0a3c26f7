"""Evolutionary algorithms of pymoo, fed through its ask and tell. The only door to pymoo.

pymoo keeps the population and does selection and survival; what varies genomes is ours
(`variation.py`), and so are duplicates, which `SearchAlgorithm` leaves out in canonical form.
Trials that an algorithm did not propose enter its population like its own.

A further algorithm is a subclass with a `_build`.

Shape legend: N trials, M objectives, R reference directions.
"""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count as counted_up
from math import comb
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo import moead, nsga2, nsga3, rvea, sms, spea2, unsga3
from pymoo.core.crossover import Crossover
from pymoo.core.individual import Individual
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.termination.max_gen import MaximumGenerationTermination
from pymoo.util.ref_dirs import get_reference_directions

from nasbench.errors import MissingExtraError, RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import Floats, SearchProblem
from nasbench.search.variation import Variation
from nasbench.space import Architecture, Genomes

_CHILDREN_PER_PROPOSAL = 4  # some are known already


class PymooAlgorithm(SearchAlgorithm):
    """An algorithm of pymoo in a nasbench search.

    Proposals are random until a population was measured. From then on every batch told
    competes with the population for its places, one population's worth after the other.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        population: how many trials are parents; 50 was best of those compared by Cummings et
            al. (2205.10358).

    Attributes:
        min_objectives: an algorithm that is defined for two objectives and more sees a single
            one twice, which leaves every comparison of two trials as it is.
        handles_constraints: whether pymoo's implementation takes them.
    """

    min_objectives: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = True

    def __init__(self, problem: SearchProblem, seed: int = 0, *, population: int = 50) -> None:
        super().__init__(problem, seed)
        if population < 2:
            raise RequestError(f"a population has at least two members, but it was {population}")
        variation = Variation(problem.space)
        self._num_columns = max(len(problem.objectives), self.min_objectives)
        self._evolution = self._build(
            pop_size=population,
            crossover=_UniformCrossover(variation),
            mutation=_ChoiceMutation(variation),
            eliminate_duplicates=False,
        )
        self._evolution.setup(self._as_pymoo(), termination=self._termination())
        self._population = int(self._evolution.pop_size)

    @abstractmethod
    def _build(self, **settings: Any) -> Any:
        """The pymoo algorithm with these settings, which all its genetic algorithms take."""

    def _termination(self) -> Any:
        """What pymoo is told about the end of the search, which is not its to decide."""
        return NoTermination()

    def _schedule(self) -> dict[str, float]:
        """What pymoo's selection is told about how far the search is."""
        return {}

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        if not self._evolution.is_initialized:
            return self.problem.space.sample_choices(count, rng)
        self._evolution.random_state = rng
        self._evolution.n_offsprings = _CHILDREN_PER_PROPOSAL * count
        with _contained():
            children: Genomes = self._evolution.ask().get("X")
        return children

    def tell(
        self,
        architectures: Sequence[Architecture],
        losses: NDArray[Any],
        violations: NDArray[Any] | None = None,
    ) -> None:
        """As in `SearchAlgorithm`; the batch competes with the population."""
        start = len(self.genomes)
        super().tell(architectures, losses, violations)
        if not self._evolution.is_initialized:
            if len(self.genomes) < self._population:
                return
            start = 0
        self._evolution.random_state = self._rng(self._num_told)
        for first in range(start, len(self.genomes), self._population):
            self._evolve(slice(first, first + self._population))

    def _evolve(self, trials: slice) -> None:
        """Let some of the measured trials compete; the first time, let them be the population."""
        losses = self.losses[trials]
        if losses.shape[1] < self._num_columns:
            losses = np.repeat(losses, self._num_columns, axis=1)
        trials_as_pymoo = Population.new(
            X=self.genomes[trials], F=losses, G=self.violations[trials, None]
        )
        with _contained():
            self._evolution.tell(trials_as_pymoo, **self._schedule())

    def _as_pymoo(self) -> Problem:
        """The problem as pymoo sees it: one constraint, the summed violation."""
        return Problem(
            n_var=len(self.problem.space),
            n_obj=self._num_columns,
            n_ieq_constr=int(self.handles_constraints),
            xl=0,
            xu=self.problem.space.num_choices - 1,
            vtype=int,
        )


class NSGA2(PymooAlgorithm):
    """NSGA-II: non-domination rank first, then crowding distance.

    Deb, Pratap, Agarwal and Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm:
    NSGA-II (IEEE TEC 2002); constraints by its rule that feasible trials precede others.
    """

    def _build(self, **settings: Any) -> Any:
        return nsga2.NSGA2(**settings)


class NSGA3(PymooAlgorithm):
    """NSGA-III: non-domination rank first, then the least crowded reference directions.

    Deb and Jain, An Evolutionary Many-Objective Optimization Algorithm Using
    Reference-Point-Based Nondominated Sorting Approach, Parts I and II (IEEE TEC 2014). The
    tournament among equally violated parents is ours: pymoo's draws from an unseeded generator.
    """

    def _build(self, **settings: Any) -> Any:
        return nsga3.NSGA3(
            reference_directions(self._num_columns, settings["pop_size"]),
            selection=_tournament(_nobody),
            **settings,
        )


class UNSGA3(PymooAlgorithm):
    """U-NSGA-III: NSGA-III whose parents win a tournament within their niche.

    Seada and Deb, A Unified Evolutionary Optimization Procedure for Single, Multiple, and Many
    Objectives (IEEE TEC 2016). The tournament is ours for the reason given at `NSGA3`.
    """

    def _build(self, **settings: Any) -> Any:
        return unsga3.UNSGA3(
            reference_directions(self._num_columns, settings["pop_size"]),
            selection=_tournament(_better_in_niche),
            **settings,
        )


class AGEMOEA2(PymooAlgorithm):
    """AGE-MOEA-II: survival by distance along a front whose curvature is estimated.

    Panichella, An Improved Pareto Front Modeling Algorithm for Large-scale Many-Objective
    Optimization (GECCO 2022). Needs the extra `agemoea2`, because pymoo compiles it with numba.
    """

    min_objectives = 2

    def _build(self, **settings: Any) -> Any:
        if find_spec("numba") is None:
            raise MissingExtraError("numba", "agemoea2", "the search algorithm 'agemoea2'")
        from pymoo.algorithms.moo import age2

        class Survival(age2.AGEMOEA2Survival):  # type: ignore[misc]
            def survival_score(self, front: Floats, ideal: Floats) -> tuple[Floats, float, Floats]:
                """Where all losses of a front coincide it has no shape; pymoo divides by zero."""
                if np.ptp(front, axis=0).any():
                    scored: tuple[Floats, float, Floats] = super().survival_score(front, ideal)
                    return scored
                return np.zeros(len(front)), 1.0, np.ones(front.shape[1])

        algorithm = age2.AGEMOEA2(**settings)
        algorithm.survival = Survival()
        return algorithm


class SMSEMOA(PymooAlgorithm):
    """SMS-EMOA: non-domination rank first, then the hypervolume that only this trial adds.

    Beume, Naujoks and Emmerich, SMS-EMOA: Multiobjective Selection Based on Dominated
    Hypervolume (EJOR 2007). The paper takes trials one by one; here a batch competes together.
    """

    min_objectives = 2

    def _build(self, **settings: Any) -> Any:
        return sms.SMSEMOA(**settings)


class SPEA2(PymooAlgorithm):
    """SPEA2: survival by the strength of dominators, then by the distance to neighbors.

    Zitzler, Laumanns and Thiele, SPEA2: Improving the Strength Pareto Evolutionary Algorithm
    (TIK report 103, 2001).
    """

    min_objectives = 2

    def _build(self, **settings: Any) -> Any:
        # pymoo's default survival is one object that all instances share, with what it learned.
        return spea2.SPEA2(survival=spea2.SPEA2Survival(normalize=True), **settings)


class RVEA(PymooAlgorithm):
    """RVEA: for each reference direction the trial nearest to the ideal point and to it.

    Cheng, Jin, Olhofer and Sendhoff, A Reference Vector Guided Evolutionary Algorithm for
    Many-Objective Optimization (IEEE TEC 2016). Keeping to one's direction counts the more the
    later in the search, so this algorithm needs to know how long it is; the paper counts
    generations, here it is trials.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        population: the most reference directions; at most one trial for each is a parent.
        num_trials: how many trials the search is expected to have. After them the selection
            stays as it then is.
    """

    min_objectives = 2
    _NUM_ADAPTATIONS = 10  # of the directions to the ranges of the objectives; the paper's

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        population: int = 50,
        num_trials: int = 500,
    ) -> None:
        if num_trials < 1:
            raise RequestError(f"num_trials is at least 1, but it was {num_trials}")
        self._num_trials = num_trials
        self._num_adaptations = 0
        super().__init__(problem, seed, population=population)

    def _build(self, **settings: Any) -> Any:
        directions = reference_directions(self._num_columns, settings["pop_size"])
        return rvea.RVEA(directions, adapt_freq=None, **settings)

    def _termination(self) -> Any:
        return _NeverLastGeneration()

    def _schedule(self) -> dict[str, float]:
        return {"n_gen": min(len(self.genomes), self._num_trials), "n_max_gen": self._num_trials}

    def _evolve(self, trials: slice) -> None:
        super()._evolve(trials)
        parents = self._evolution.pop
        is_feasible = parents.get("CV")[:, 0] == 0
        if is_feasible.any():  # pymoo fills the places of empty directions with infeasible trials
            self._evolution.pop = parents[is_feasible]
        num_seen = min(trials.stop, len(self.genomes), self._num_trials)
        due = num_seen * self._NUM_ADAPTATIONS // self._num_trials
        if due > self._num_adaptations:
            self._num_adaptations = due
            with _contained():
                self._evolution.survival.adapt()


class _NeverLastGeneration(MaximumGenerationTermination):  # type: ignore[misc]  # untyped
    """Satisfies pymoo's RVEA, which insists on a last generation, without there being one."""

    def _update(self, _algorithm: Any) -> float:
        return 0.0


class MOEAD(PymooAlgorithm):
    """MOEA/D: one parent for each weighting of the objectives, mated with its neighbors.

    Zhang and Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition (IEEE
    TEC 2007), by Tchebycheff's distance for two objectives and boundary intersection for more.
    Where we differ: a trial competes in the neighborhood of the weighting that it suits best,
    whoever proposed it (global replacement: Wang, Zhang, Gong and Zhou, A Replacement Strategy
    for Balancing Convergence and Diversity in MOEA/D, CEC 2014); losses are scaled by the
    population's ranges; of two trials the less violated one wins (pymoo's refuses constraints).
    """

    min_objectives = 2
    handles_constraints = False

    def _build(self, **settings: Any) -> Any:
        directions = reference_directions(self._num_columns, settings["pop_size"])
        return _GlobalMOEAD(
            directions,
            n_neighbors=min(20, len(directions)),
            crossover=settings["crossover"],
            mutation=settings["mutation"],
        )


def reference_directions(num_objectives: int, population: int) -> Floats:
    """At most `population` directions that cover the simplex evenly, of shape (R, M).

    Das and Dennis, Normal-Boundary Intersection (SIAM Journal on Optimization 1998), with as
    many steps per axis as there is room for.

    Raises:
        RequestError: if there are fewer places than axes.
    """
    if population < num_objectives:
        raise RequestError(
            f"this algorithm needs a population of at least one per objective, "
            f"{num_objectives}, but it was {population}"
        )
    if num_objectives == 1:
        return np.ones((1, 1))
    num_steps = next(
        steps
        for steps in counted_up(1)
        if comb(steps + num_objectives, num_objectives - 1) > population
    )
    directions: Floats = get_reference_directions(
        "das-dennis", num_objectives, n_partitions=num_steps
    )
    return directions


@contextmanager
def _contained() -> Iterator[None]:
    """Keep to pymoo what is pymoo's.

    It turns warnings off for the whole process (`nsga3.get_nadir_point`), and divides by the
    extent of fronts that have none, with results that its selections live with.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


Better = Callable[[Individual, Individual], bool]


def _tournament(is_better: Better) -> TournamentSelection:
    """A contest of two: the less violated wins, then the better one, then chance."""

    def winners(
        population: Population, pairs: Genomes, random_state: np.random.Generator, **_: Any
    ) -> Genomes:
        winners = random_state.permuted(pairs, axis=1)[:, 0]
        for row, (a, b) in enumerate(pairs):
            first, second = population[a], population[b]
            if first.CV[0] != second.CV[0]:
                winners[row] = a if first.CV[0] < second.CV[0] else b
            elif first.CV[0] == 0 and is_better(first, second):
                winners[row] = a
            elif first.CV[0] == 0 and is_better(second, first):
                winners[row] = b
        return winners[:, None]

    return TournamentSelection(func_comp=winners)


def _nobody(_first: Individual, _second: Individual) -> bool:
    return False


def _better_in_niche(first: Individual, second: Individual) -> bool:
    """Better rank, then nearer to the direction; those of two niches are not compared."""
    a, b = (tuple(trial.get("rank", "dist_to_niche")) for trial in (first, second))
    return bool(first.get("niche") == second.get("niche") and a < b)


class _GlobalMOEAD(moead.ParallelMOEAD):  # type: ignore[misc]
    """pymoo's MOEA/D for trials that it did not propose, in any number."""

    ideal: Floats

    def _infill(self) -> Population:
        subproblems = self.random_state.integers(0, len(self.pop), self.n_offsprings)
        parents = self.selection.do(
            self.problem,
            self.pop,
            self.n_offsprings,
            self.mating.crossover.n_parents,
            neighbors=self.neighbors[subproblems],
            random_state=self.random_state,
        )
        return self.mating.do(
            self.problem,
            self.pop,
            self.n_offsprings,
            parents=parents,
            n_max_iterations=1,
            random_state=self.random_state,
        )

    def _advance(self, infills: Population, **_: Any) -> None:
        for trial in infills:
            self.ideal = np.minimum(self.ideal, trial.F)
            suits = self._decomposed(trial.F[None], self.ref_dirs)
            places = self.neighbors[int(np.argmin(suits))]
            held = self._decomposed(self.pop[places].get("F"), self.ref_dirs[places])
            violations = self.pop[places].get("CV")[:, 0]
            less_violated = trial.CV[0] < violations
            as_violated = trial.CV[0] == violations
            self.pop[places[less_violated | (as_violated & (suits[places] < held))]] = trial

    def _decomposed(self, losses: Floats, directions: Floats) -> Floats:
        """Distance to the ideal along each direction, (R, M) or (1, M) -> (R,)."""
        extent = np.ptp(self.pop.get("F"), axis=0)
        scaled = (losses - self.ideal) / np.where(extent > 0, extent, 1.0)
        distances = self.decomposition.do(
            np.broadcast_to(scaled, directions.shape),
            weights=directions,
            _type="one_to_one",
            ideal_point=np.zeros(losses.shape[1]),
        )
        return np.asarray(distances, dtype=np.float64).reshape(len(directions))


class _UniformCrossover(Crossover):  # type: ignore[misc]
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
