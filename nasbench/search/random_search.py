"""Random search: the baseline that every other algorithm has to beat."""

import numpy as np

from nasbench.search.base import SearchAlgorithm
from nasbench.space import Genomes


class RandomSearch(SearchAlgorithm):
    """Every choice as likely as the others, without learning anything."""

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        return self.problem.space.sample_choices(count, rng)
