"""Local search: measure the neighbors of the best, until no neighbor is better."""

from itertools import chain, zip_longest

import numpy as np

from nasbench.errors import RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import SearchProblem, genome_keys
from nasbench.search.selection import feasible_first_ranks
from nasbench.space import Genomes


class LocalSearch(SearchAlgorithm):
    """Pareto local search: proposes neighbors of the front, in turn around its members.

    Paquete, Chiarandini and Stutzle, Pareto Local Optimum Sets in the Biobjective Traveling
    Salesman Problem (Metaheuristics for Multiobjective Optimisation, 2004); with one objective
    it is hill climbing from the best, a strong baseline on tables of architectures (White,
    Nolen and Savani, UAI 2021). Where we differ: it starts at several random architectures, and
    where every neighbor of the front is known it goes on to those of the next rank.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        num_initial: measured trials before the first neighbor is proposed.
    """

    def __init__(self, problem: SearchProblem, seed: int = 0, *, num_initial: int = 10) -> None:
        super().__init__(problem, seed)
        if num_initial < 1:
            raise RequestError(f"num_initial is at least 1, but it was {num_initial}")
        self._num_initial = num_initial

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        if len(self.genomes) < self._num_initial:
            return self.problem.space.sample_choices(count, rng)
        ranks = feasible_first_ranks(self.losses, self.violations)
        found: list[Genomes] = []
        for rank in range(1, ranks.max() + 1):
            around: list[Genomes] = []
            for row in rng.permutation(np.flatnonzero(ranks == rank)):
                neighbors = self._new_neighbors(self.genomes[row])
                if len(neighbors):
                    around.append(rng.permutation(neighbors))
                if len(around) == count:
                    break
            in_turn = chain.from_iterable(zip_longest(*around))
            found += [genome for genome in in_turn if genome is not None]
            if len(found) >= count:
                break
        return np.array(found, dtype=np.int64).reshape(len(found), len(self.problem.space))

    def _new_neighbors(self, genome: Genomes) -> Genomes:
        """Neighbors that were neither told nor proposed, of shape (any number, D)."""
        space = self.problem.space
        neighbors = space.to_genomes(space.neighbors(space.from_genome(genome)))
        is_new = [not self.is_known(key) for key in genome_keys(neighbors)]
        return neighbors[np.flatnonzero(is_new)]
