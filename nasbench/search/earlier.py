"""What an earlier search of the same space teaches: one on another device or data set.

Shape legend: N architectures, D dimensions, M objectives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from nasbench.errors import RequestError
from nasbench.predictors import Predictor
from nasbench.search.inner_search import Candidates, evolve_candidates
from nasbench.search.problem import CountedMetrics, Floats, SearchProblem
from nasbench.search.selection import best_rows
from nasbench.search.surrogate import Surrogate
from nasbench.space import Genomes

_MIN_TRIALS = 20
_NUM_STARTS = 100
_NUM_EVALUATIONS = 5_000  # of the inner search
_CLUSTER_SIZE, _CLUSTER_SAMPLES = 50, 10  # of PopDB


@dataclass(frozen=True, eq=False)
class EarlierTrials:
    """Completed trials of another search of the same space.

    Args:
        genomes: canonical, int64 of shape (N, D).
        losses: finite, of shape (N, M), in the columns of the new problem's objectives.

    Raises:
        RequestError: for fewer than 20 trials, other shapes, or a loss that is not finite.
    """

    genomes: Genomes
    losses: Floats

    def __post_init__(self) -> None:
        if len(self.genomes) < _MIN_TRIALS:
            raise RequestError(
                f"an earlier search needs at least {_MIN_TRIALS} completed trials to learn from, "
                f"but has {len(self.genomes)}"
            )
        if self.losses.ndim != 2 or len(self.losses) != len(self.genomes):
            raise RequestError(
                f"{len(self.genomes)} earlier trials have losses of shape ({len(self.genomes)}, "
                f"num_objectives), but it was {self.losses.shape}"
            )
        if not np.isfinite(self.losses).all():
            raise RequestError("a loss of the earlier trials is not finite; leave out what failed")


class EarlierSearch:
    """What earlier trials make one expect of any candidate of a new problem.

    Args:
        problem: the new one.
        counted: its metrics that need no measurement.
        trials: of the earlier search.
        seed: of all randomness.
        reduce_below: a choice is rare that a smaller share of good candidates make, 0 to 1.

    Raises:
        RequestError: for trials of another space or number of objectives.
    """

    def __init__(
        self,
        problem: SearchProblem,
        counted: CountedMetrics,
        trials: EarlierTrials,
        seed: int,
        reduce_below: float,
    ) -> None:
        if trials.losses.shape[1] != len(problem.objectives):
            raise RequestError(
                f"the problem has {len(problem.objectives)} objectives, but earlier trials have "
                f"losses of {trials.losses.shape[1]}"
            )
        self._space = problem.space
        self._seed = seed
        self._reduce_below = reduce_below
        self._genomes = problem.space.check_genomes(trials.genomes)
        no_violation = np.zeros(len(trials.losses))
        self._best = best_rows(trials.losses, no_violation, _NUM_STARTS)
        self._surrogate = Surrogate(problem, counted, "gp", seed, stretched=True)
        self._surrogate.fit(self._genomes, trials.losses, no_violation)

    @property
    def predictors(self) -> Mapping[str, Predictor]:
        """Metric -> what learned it, on a stretched scale, of those that cannot be counted."""
        return self._surrogate.predictors

    def expected(self, genomes: Genomes) -> Candidates:
        """Candidates of shape (N, D) with the losses that the earlier trials predict."""
        return Candidates.scored(genomes, self._surrogate.score)

    @cached_property
    def met(self) -> Candidates:
        """What NSGA-II meets on its way to the expected front and makes no rare choice."""
        without = np.flatnonzero(self.num_rare(self._met.genomes) == 0)
        return self._met.take(without) if len(without) else self._met

    @cached_property
    def _met(self) -> Candidates:
        start = self._genomes[self._best]
        rng = np.random.default_rng(self._seed)
        return evolve_candidates(self._space, self._surrogate.score, start, _NUM_EVALUATIONS, rng)

    def num_rare(self, genomes: Genomes) -> NDArray[np.int64]:
        """How many rare choices each genome (N, D) makes where they are active: (N,)."""
        is_rare = np.column_stack(
            [rare[column] for rare, column in zip(self._rare, genomes.T, strict=True)]
        )
        return np.asarray((is_rare & self._space.active(genomes)).sum(axis=1))

    @cached_property
    def _rare(self) -> list[NDArray[np.bool_]]:
        """A mask over the choices of each dimension, never all of them.

        The reduction of PopDB (Cummings et al., A Hardware-Aware Framework for Accelerating
        Neural Architecture Search Across Modalities, 2022): what the inner search met is
        clustered by its losses with HDBSCAN, noise is dropped, and a choice is rare that hardly
        any of the rest make.
        """
        extent = np.ptp(self._met.losses, axis=0)
        scaled = self._met.losses / np.where(extent > 0, extent, 1.0)
        size = min(_CLUSTER_SIZE, len(scaled) // 2)
        clustering = HDBSCAN(min_cluster_size=size, min_samples=_CLUSTER_SAMPLES, copy=True)
        is_clustered = clustering.fit_predict(scaled) >= 0
        genomes = self._met.genomes[is_clustered] if is_clustered.any() else self._met.genomes
        active = self._space.active(genomes)
        rare = []
        for column, dimension in enumerate(self._space):
            chosen = genomes[active[:, column], column]
            counts = np.bincount(chosen, minlength=len(dimension.choices))
            is_rare = counts < self._reduce_below * len(chosen)
            rare.append(is_rare & ~is_rare.all())
        return rare
