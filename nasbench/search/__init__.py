"""Search algorithms: what to evaluate next, given what was measured.

    problem = SearchProblem(space, objectives=[Objective.of("top1_error"), ...])
    algorithm = ALGORITHMS["auto"](problem, seed=0)
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
        "local_search": "nasbench.search.local_search:LocalSearch",
        "regularized_evolution": "nasbench.search.regularized_evolution:RegularizedEvolution",
        "attentive_pareto": "nasbench.search.attentive_pareto:AttentivePareto",
        "nsga2": "nasbench.search.evolution:NSGA2",
        "nsga3": "nasbench.search.evolution:NSGA3",
        "unsga3": "nasbench.search.evolution:UNSGA3",
        "agemoea2": "nasbench.search.evolution:AGEMOEA2",
        "smsemoa": "nasbench.search.evolution:SMSEMOA",
        "rvea": "nasbench.search.evolution:RVEA",
        "moead": "nasbench.search.evolution:MOEAD",
        "spea2": "nasbench.search.evolution:SPEA2",
        "tpe": "nasbench.search.optuna_samplers:TPE",
        "gp": "nasbench.search.optuna_samplers:GP",
        "optuna_nsga2": "nasbench.search.optuna_samplers:OptunaNSGA2",
        "weaknas": "nasbench.search.weaknas:WeakNAS",
        "linas": "nasbench.search.linas:LINAS",
        "auto": "nasbench.search.auto:AutoSearch",
    },
)
