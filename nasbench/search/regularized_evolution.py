"""Regularized evolution: the population is what was told last, and it dies of age."""

import numpy as np

from nasbench.errors import RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import SearchProblem
from nasbench.search.selection import feasible_first_ranks
from nasbench.search.variation import Variation
from nasbench.space import Genomes

_CHILDREN_PER_PROPOSAL = 4  # some are known already


class RegularizedEvolution(SearchAlgorithm):
    """Mutates the winner of a tournament among the youngest trials.

    Real, Aggarwal, Huang and Le, Regularized Evolution for Image Classifier Architecture
    Search (AAAI 2019), where the winner is the most accurate of a sample. For several
    objectives it is one of the sample's non-dominated members, each as likely as the others,
    so that no region of the front is preferred. A mutation changes one active dimension.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        population: how many of the youngest trials can be parents; the paper has 100 for
            searches of 20,000 trials.
        sample_size: members of a tournament, drawn with replacement; the paper has 25.
    """

    def __init__(
        self, problem: SearchProblem, seed: int = 0, *, population: int = 50, sample_size: int = 12
    ) -> None:
        super().__init__(problem, seed)
        if population < 1 or sample_size < 1:
            raise RequestError(
                "population and sample_size are at least 1, but they were "
                f"{population} and {sample_size}"
            )
        self._population = population
        self._sample_size = sample_size

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        space = self.problem.space
        if len(self.genomes) < self._population:
            return space.sample_choices(count, rng)
        num_children = _CHILDREN_PER_PROPOSAL * count
        oldest = len(self.genomes) - self._population
        samples = rng.integers(oldest, len(self.genomes), size=(num_children, self._sample_size))
        parents = [self._winner(sample, rng) for sample in samples]
        return Variation(space).mutate(self.genomes[parents], rng, rate=0.0)

    def _winner(self, rows: Genomes, rng: np.random.Generator) -> int:
        ranks = feasible_first_ranks(self.losses[rows], self.violations[rows])
        return int(rng.choice(rows[ranks == 1]))
