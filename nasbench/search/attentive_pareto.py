"""The evolutionary search of AttentiveNAS and AlphaNet: the best of every cost is a parent."""

import numpy as np

from nasbench.errors import RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import SearchProblem
from nasbench.search.selection import Rows, best_rows
from nasbench.search.variation import Variation
from nasbench.space import Genomes

_CHILDREN_PER_PROPOSAL = 4  # some are known already
_MUTATION_RATE = 0.2  # per dimension; theirs


class AttentivePareto(SearchAlgorithm):
    """Parents are the trials of least first loss, one for each interval of the other losses.

    Wang et al., AttentiveNAS: Improving Neural Architecture Search via Attentive Sampling
    (CVPR 2021), whose intervals are ten million operations wide. Half of the children are
    mutations of a parent, half are crossovers of two. Where we differ: the range that was
    measured of each further objective is divided into intervals of equal width; with one
    objective the parents are the best trials; only feasible trials are parents, where there
    are any.

    Args:
        problem: what to search for; the first objective is the one that each interval's
            parent is best in.
        seed: of all randomness, at least 0.
        num_initial: measured trials before the first child; theirs are 512.
        num_intervals: of all further objectives together, and so the most parents.
    """

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        num_initial: int = 50,
        num_intervals: int = 30,
    ) -> None:
        super().__init__(problem, seed)
        if num_initial < 1 or num_intervals < 1:
            raise RequestError(
                "num_initial and num_intervals are at least 1, but they were "
                f"{num_initial} and {num_intervals}"
            )
        self._num_initial = num_initial
        self._num_intervals = num_intervals

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        space = self.problem.space
        if len(self.genomes) < self._num_initial:
            return space.sample_choices(count, rng)
        parents = self.genomes[self._parent_rows()]
        num_each = _CHILDREN_PER_PROPOSAL * count // 2
        first, second, mutated = parents[rng.integers(0, len(parents), size=(3, num_each))]
        variation = Variation(space)
        children = np.concatenate(
            [
                variation.mutate(mutated, rng, _MUTATION_RATE),
                variation.cross(first, second, rng),
            ]
        )
        return rng.permutation(children)

    def _parent_rows(self) -> Rows:
        feasible = np.flatnonzero(self.violations == 0)
        num_keyed = self.losses.shape[1] - 1
        if not len(feasible) or not num_keyed:
            return best_rows(self.losses, self.violations, self._num_intervals)
        costs = self.losses[feasible, 1:]
        extent = np.ptp(costs, axis=0)
        per_objective = max(1, int(self._num_intervals ** (1 / num_keyed) + 1e-9))
        scaled = (costs - costs.min(axis=0)) / np.where(extent > 0, extent, 1.0)
        intervals = np.minimum((scaled * per_objective).astype(np.int64), per_objective - 1)
        by_first_loss = np.argsort(self.losses[feasible, 0], kind="stable")
        _, leaders = np.unique(intervals[by_first_loss], axis=0, return_index=True)
        return feasible[by_first_loss[leaders]]
