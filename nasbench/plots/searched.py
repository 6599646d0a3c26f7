"""What figures need of a run, and what they ask of several.

Several runs come in groups: label -> the runs that differ in their seed alone.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.objectives import Objective, losses_of
from nasbench.pareto import non_dominated
from nasbench.space import SearchSpace
from nasbench.trials import Trial


class Searched(Protocol):
    """What a figure needs of a run."""

    @property
    def objectives(self) -> list[Objective]:
        """What was optimized."""

    @property
    def space(self) -> SearchSpace:
        """Of its architectures."""

    @property
    def completed(self) -> list[Trial]:
        """The completed, feasible trials."""

    @property
    def infeasible(self) -> list[Trial]:
        """The completed trials that break a constraint."""

    @property
    def losses(self) -> NDArray[np.float64]:
        """Of every finished trial in order; infinite where it failed or is infeasible."""


Groups = Mapping[str, Sequence[Searched]]


def values_and_losses(
    objectives: Sequence[Objective], trials: Sequence[Trial]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every trial, arrays of shape (N, 2): natural values, and losses."""
    losses = losses_of(objectives, [trial.measurements for trial in trials])
    signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in objectives]
    return losses * np.array(signs), losses


def shared_objectives(groups: Groups) -> list[Objective]:
    """What all runs optimize; RequestError if that differs, or there is no run."""
    runs = [run for each in groups.values() for run in each]
    if not runs or not all(groups.values()):
        raise RequestError("every group of runs needs at least one")
    for run in runs:
        if run.objectives != runs[0].objectives:
            first, other = (", ".join(o.metric for o in each.objectives) for each in (runs[0], run))
            raise RequestError(f"runs over different objectives: {first}; {other}")
        if not np.isfinite(run.losses).all(axis=1).any():
            raise RequestError("a run has no feasible trial to draw")
    return runs[0].objectives


def front_losses(run: Searched) -> NDArray[np.float64]:
    """Losses of a run's front, of shape (N, num_objectives)."""
    losses = run.losses[np.isfinite(run.losses).all(axis=1)]
    return losses[non_dominated(losses)]
