"""Search algorithms: what to evaluate next, given what was measured.

    problem = SearchProblem(space, objectives=[Objective.of("top1_error"), ...])
    algorithm = ALGORITHMS["linas"](problem, seed=0)
    proposals = algorithm.ask(16)
    algorithm.tell(proposals, losses)

An entry builds a `SearchAlgorithm` from a problem, a seed and its own options by keyword.
"""

from collections.abc import Callable

from nasbench.registry import Registry
from nasbench.search.base import SearchAlgorithm, SearchProblem

__all__ = ["ALGORITHMS", "SearchAlgorithm", "SearchProblem"]

ALGORITHMS: Registry[Callable[..., SearchAlgorithm]] = Registry(
    "search algorithm",
    {
        "random": "nasbench.search.random_search:RandomSearch",
        "nsga2": "nasbench.search.evolution:NSGA2",
        "linas": "nasbench.search.linas:LINAS",
    },
)
