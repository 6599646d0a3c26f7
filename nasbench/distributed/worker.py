"""The worker: a process that answers architectures. It loads no more than its recipe needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from nasbench.space import Architecture
from nasbench.trials import FULL


class Found(Protocol):
    """What the pool needs of an `Evaluated`."""

    @property
    def measurements(self) -> Mapping[str, float]:
        """Metric name -> value."""

    @property
    def artifact(self) -> Any:
        """The compiled network where latency is asked for."""


class AnyEvaluator(Protocol):
    """What the pool needs of an `Evaluator`."""

    def evaluate(self, architecture: Architecture, *, fidelity: str) -> Found:
        """Measure one architecture."""


class Recipe(Protocol):
    """What the pool needs of an `EvaluatorRecipe`."""

    @property
    def engine(self) -> str | None:
        """The inference engine that latency is measured in; None where it is not asked for."""

    @property
    def num_threads(self) -> int:
        """Threads of the process."""

    def build(self) -> AnyEvaluator:
        """Build the evaluator, in the worker."""


@dataclass(frozen=True)
class Failure:
    """Why a call did not give what was asked; sent instead of raised, so that it always arrives."""

    reason: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """The error's type and text in one line."""
        return cls(f"{type(error).__name__}: {' '.join(str(error).split())}")


class EvaluationWorker:
    """Answers architectures; lives in an actor or in the calling process."""

    def __init__(self, recipe: Recipe) -> None:
        self._evaluator = recipe.build()

    def node(self) -> str:
        """The Ray node that this worker runs on."""
        return str(ray.get_runtime_context().get_node_id())

    def evaluate(
        self, architecture: Architecture, fidelity: str = FULL
    ) -> tuple[Mapping[str, float], Any] | Failure:
        """Measurements on the validation data, and the compiled network."""
        try:
            found = self._evaluator.evaluate(architecture, fidelity=fidelity)
        except Exception as error:  # recorded with the trial; the search decides what it means
            return Failure.of(error)
        return found.measurements, found.artifact
