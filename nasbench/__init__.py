"""nasbench: train one supernet, search it on Ray, ship the sub-network that a device can afford.

`import nasbench` is light: torch, ray and matplotlib are imported when something needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nasbench.errors import NasbenchError, RequestError, WorkError
from nasbench.objectives import Constraint, Metric, Objective
from nasbench.space import ActiveWhen, Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.trials import Trial, TrialState

if TYPE_CHECKING:
    from nasbench import pareto, plots
    from nasbench.experiment import Run, load_run

__version__ = "0.1.0"

__all__ = [
    "ElasticDimension", "ActiveWhen", "SearchSpace", "Architecture", "Choice",
    "Metric", "Objective", "Constraint",
    "Trial", "TrialState",
    "Run", "load_run", "plots", "pareto",
    "NasbenchError", "RequestError", "WorkError",
]  # fmt: skip

_LAZY = {"Run": "nasbench.experiment", "load_run": "nasbench.experiment"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in ("plots", "pareto"):
        return importlib.import_module(f"nasbench.{name}")
    raise AttributeError(f"module 'nasbench' has no attribute '{name}'")
