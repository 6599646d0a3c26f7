"""The phases that are trained: those of the strategy, what a teacher adds, what precedes one."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from nasbench.config import TrainingConfig
from nasbench.supernet.base import Supernet
from nasbench.supernet.training.strategies import Assignment, Phase, TrainingStrategy


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network whose predictions are learned beside the labels.

    Args:
        network: in eval mode, for the same inputs and outputs; it is not changed.
        weight: of its predictions in the loss; the labels have the rest.
    """

    network: nn.Module
    weight: float

    def taught(self, phase: Phase) -> Phase:
        """The phase with every loss on labels shared so."""

        def assign(rng: np.random.Generator) -> list[Assignment]:
            return [
                replace(a, labels=(1 - self.weight) * a.labels, teacher=self.weight * a.labels)
                for a in phase.assign(rng)
            ]

        return replace(phase, assign=assign)


def phases_of(
    strategy: TrainingStrategy, config: TrainingConfig, teacher: Teacher | None
) -> list[Phase]:
    """The strategy's phases for the configured epochs, taught where there is a teacher."""
    phases = strategy.phases(config.epochs)
    return phases if teacher is None else [teacher.taught(phase) for phase in phases]


def prepare_weights(supernet: Supernet[Any], phase: Phase) -> None:
    """Change the weights as a phase asks for, before it."""
    if "zero_residual_branches" in phase.preparations:
        supernet.zero_residual_branches()
    if "sort_channels" in phase.preparations:
        supernet.sort_channels(phase.trained_choices)
