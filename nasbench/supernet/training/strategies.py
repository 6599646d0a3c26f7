"""Training strategies: which sub-networks one optimizer step trains, and against which target.

A strategy never touches a tensor; the trainer does the updating. The largest sub-network, where a
step trains it, comes first, so that its logits are there for those that learn from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from nasbench.errors import RequestError
from nasbench.registry import Registry
from nasbench.space import Architecture, SearchSpace

Target = Literal["labels", "largest"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One sub-network's part in an optimizer step.

    Args:
        architecture: the sub-network.
        target: the data's labels, or the soft predictions of the largest in the same step
            (in-place distillation).
        weight: factor of its loss.
    """

    architecture: Architecture
    target: Target = "labels"
    weight: float = 1.0


class TrainingStrategy(Protocol):
    """Chooses the sub-networks of each optimizer step."""

    def assignments(self, rng: np.random.Generator) -> list[Assignment]:
        """The sub-networks of one step; all randomness comes from `rng`."""


@dataclass(frozen=True, slots=True)
class SandwichRule:
    """The largest on the labels; the smallest and random ones on the largest's predictions.

    Yu et al., BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage Models (ECCV
    2020), where `num_random` is 2.
    """

    space: SearchSpace
    num_random: int = 2

    def assignments(self, rng: np.random.Generator) -> list[Assignment]:
        """Largest, `num_random` random ones, smallest."""
        others = [self.space.sample(rng) for _ in range(self.num_random)]
        return [
            Assignment(self.space.largest),
            *(Assignment(a, "largest") for a in [*others, self.space.smallest]),
        ]


@dataclass(frozen=True, slots=True)
class SinglePath:
    """Random sub-networks on the labels.

    Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling (ECCV 2020),
    where `num_random` is 1.
    """

    space: SearchSpace
    num_random: int = 1

    def __post_init__(self) -> None:
        if self.num_random < 1:
            raise RequestError("single-path training needs training.num_random of at least 1")

    def assignments(self, rng: np.random.Generator) -> list[Assignment]:
        """`num_random` random ones."""
        return [Assignment(self.space.sample(rng)) for _ in range(self.num_random)]


StrategyBuilder = Callable[[SearchSpace, int], TrainingStrategy]

STRATEGIES: Registry[StrategyBuilder] = Registry(
    "training strategy", {"sandwich": SandwichRule, "single_path": SinglePath}
)
