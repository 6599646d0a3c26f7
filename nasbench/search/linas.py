"""LINAS: predictors refitted to all that was measured, and an inner search that trusts them.

Cummings et al., A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
Modalities (2205.10358); first as ConcurrentNAS in Sarah et al. (2202.12954).
"""

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.search.base import SearchAlgorithm
from nasbench.search.inner_search import Candidates, evolve_candidates
from nasbench.search.problem import SearchProblem, genome_keys
from nasbench.search.selection import best_rows, diverse_rows
from nasbench.search.surrogate import Surrogate
from nasbench.space import Genomes

_NUM_MEASURED_STARTS = 50
_NUM_RANDOM_STARTS = 150


class LINAS(SearchAlgorithm):
    """Lightweight iterative neural architecture search.

    Random proposals until `num_initial` trials were measured. Then each `ask` runs NSGA-II on
    predicted losses and proposes of what it found the best that is new. Where we differ from
    the paper and its code: metrics that can be counted are not predicted, candidates that were
    measured or are pending are left out, proposals from one predicted front are spread over
    it, every inner search draws anew and starts at the measured front, and where the space is
    no larger than the inner search, all of it is predicted instead.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        num_initial: measured trials before the first prediction. Fewer lead to the front
            sooner, more lead to a better one.
        predictor: a name of `PREDICTORS`, one instance of which learns each objective.
        num_inner_evaluations: candidates predicted per `ask`. The paper takes 20,000; half of
            it found fronts as good on spaces of some 40 dimensions.
    """

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        num_initial: int = 50,
        predictor: str = "auto",
        num_inner_evaluations: int = 10_000,
    ) -> None:
        super().__init__(problem, seed)
        if num_initial < 1 or num_inner_evaluations < 1:
            raise RequestError(
                "num_initial and num_inner_evaluations are at least 1, but they were "
                f"{num_initial} and {num_inner_evaluations}"
            )
        PREDICTORS.check(predictor)
        self._num_initial = num_initial
        self._num_inner_evaluations = num_inner_evaluations
        self._surrogate = Surrogate(problem, self.counted, predictor, seed)

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        if len(self.genomes) < self._num_initial:
            return self.problem.space.sample_choices(count, rng)
        if self._surrogate.num_samples < len(self.genomes):
            self._surrogate.fit(self.genomes, self.losses, self.violations)
        found = self._search_inside(rng)
        is_new = [not self.is_known(key) for key in genome_keys(found.genomes)]
        new = found.take(np.flatnonzero(is_new))
        pending_losses, _ = self._surrogate.score(self.pending)
        return new.genomes[diverse_rows(new.losses, new.violations, count, pending_losses)]

    def _search_inside(self, rng: np.random.Generator) -> Candidates:
        """What there is to propose, known or not, with predicted losses."""
        space = self.problem.space
        if space.size <= self._num_inner_evaluations:
            return Candidates.scored(self.every_genome, self._surrogate.score)
        measured = self.genomes[best_rows(self.losses, self.violations, _NUM_MEASURED_STARTS)]
        start = np.concatenate([measured, space.sample_choices(_NUM_RANDOM_STARTS, rng)])
        return evolve_candidates(
            space, self._surrogate.score, start, self._num_inner_evaluations, rng
        )
