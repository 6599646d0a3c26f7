"""WeakNAS: weak predictors, refitted often, each right enough near the best so far."""

from collections.abc import Sequence

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.search.base import SearchAlgorithm
from nasbench.search.inner_search import Candidates
from nasbench.search.problem import Floats, SearchProblem, genome_keys
from nasbench.search.selection import best_rows
from nasbench.search.surrogate import Surrogate
from nasbench.search.variation import Variation
from nasbench.space import Genomes

_NUM_PARENTS = 50  # measured trials whose mutations join the pool


class WeakNAS(SearchAlgorithm):
    """Draws at random from the candidates that an ensemble of cheap predictors ranks highest.

    Wu et al., Stronger NAS with Weaker Predictors (NeurIPS 2021), which maximizes accuracy by
    drawing uniformly from the 100 best predictions. For several objectives the best are those
    of least non-domination rank in the predicted losses, within a rank the least crowded.
    Where we differ: all members of the ensemble are averaged (the paper's code ranks by the
    last one), metrics that can be counted are not predicted, a space too large to be predicted
    whole is replaced by a pool of which half is random and half mutations of the measured
    best, and some proposals stay random, so that a wrong predictor cannot lock the search in.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        num_initial: measured trials before the first prediction.
        num_top: candidates to draw from.
        pool_size: candidates predicted per `ask`.
        random_fraction: probability that a proposal is random, 0 to 1.
        predictors: names of `PREDICTORS`, the ensemble.
    """

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        num_initial: int = 50,
        num_top: int = 100,
        pool_size: int = 10_000,
        random_fraction: float = 0.1,
        predictors: Sequence[str] = ("ridge", "lightgbm"),
    ) -> None:
        super().__init__(problem, seed)
        if min(num_initial, num_top, pool_size) < 1:
            raise RequestError(
                "num_initial, num_top and pool_size are at least 1, but they were "
                f"{num_initial}, {num_top} and {pool_size}"
            )
        if not 0 <= random_fraction <= 1:
            raise RequestError(f"random_fraction is 0 to 1, but it was {random_fraction}")
        if isinstance(predictors, str) or not predictors:
            raise RequestError(f"an ensemble is a list of predictors, but it was {predictors!r}")
        for predictor in predictors:
            PREDICTORS.check(predictor)
        self._num_initial = num_initial
        self._num_top = num_top
        self._pool_size = pool_size
        self._random_fraction = random_fraction
        self._ensemble = [Surrogate(problem, self.counted, name, seed) for name in predictors]

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        random = self.problem.space.sample_choices(count, rng)
        if len(self.genomes) < self._num_initial:
            return random
        for member in self._ensemble:
            if member.num_samples < len(self.genomes):
                member.fit(self.genomes, self.losses, self.violations)
        top = Candidates.scored(self._pool(rng), self._score).best(self._num_top).genomes
        drawn = rng.permutation(top)
        num_random = int((rng.random(count) < self._random_fraction).sum())
        drawn, rest = np.split(drawn, [count - num_random])
        return np.concatenate([drawn, random[:num_random], rest])

    def _pool(self, rng: np.random.Generator) -> Genomes:
        """Candidates that are not known yet, of shape (any number, D)."""
        space = self.problem.space
        if space.size <= self._pool_size:
            pool = self.every_genome
        else:
            best = best_rows(self.losses, self.violations, _NUM_PARENTS)
            parents = self.genomes[rng.choice(best, self._pool_size // 2)]
            num_random = self._pool_size - len(parents)
            mutated = Variation(space).mutate(parents, rng)
            pool = np.concatenate([space.sample_choices(num_random, rng), mutated])
            pool = np.unique(pool, axis=0)
        is_new = [not self.is_known(key) for key in genome_keys(pool)]
        return pool[np.flatnonzero(is_new)]

    def _score(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean of what the members predict."""
        scores = [member.score(genomes) for member in self._ensemble]
        losses = np.mean([losses for losses, _ in scores], axis=0)
        return losses, np.mean([violations for _, violations in scores], axis=0)
