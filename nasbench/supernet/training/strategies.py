"""Training strategies: which sub-networks one optimizer step trains, and against which targets.

    sandwich               largest, smallest and random ones
    bignas                 the same, distilled from the largest, with the rest of BigNAS's recipe
    attentive              BigNAS's recipe, with contests in place of the random ones
    single_path            a random one
    single_path_largest    a random one and the largest
    hat                    a random one, as HAT trains
    progressive_shrinking  the largest first, then ever smaller ones, on a frozen teacher
    sorted                 random members of a chain of ever larger sub-networks
    instatune              the largest and random ones, from labels and a teacher: for fine-tuning

A strategy never touches a tensor; the trainer does the updating. The largest sub-network, where a
step trains it, comes first, so that its predictions are there for those that learn from it.
Strategies that take more than a few lines have files of their own, named after them.

Random means that every choice of a dimension is as likely as the others, as in the papers, and not
every architecture: nearly all architectures of a space with elastic depth are deep.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np

from nasbench.errors import RequestError
from nasbench.registry import Registry
from nasbench.space import Architecture, Choice, SearchSpace
from nasbench.supernet.nested.chain import Subnetworks
from nasbench.tasks.options import check_whole_number

Preparation = Literal["zero_residual_branches", "sort_channels", "freeze_teacher"]
"""What the trainer does to the supernet before a phase: start every residual branch at zero; sort
channels by importance; keep a copy of the largest sub-network, as it is then, as the teacher."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A sub-network that is chosen by its loss on the labels of the batch at hand.

    Args:
        candidates: those of which one is trained.
        winner: which one.
    """

    candidates: tuple[Architecture, ...]
    winner: Literal["lowest_loss", "highest_loss"]


@dataclass(frozen=True, slots=True)
class Exits:
    """A sub-network at each of its depths, computed in one pass.

    Args:
        deepest: the sub-network.
        weights: the share of each depth in the loss, from the shallowest on.
    """

    deepest: Architecture
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One sub-network's part in an optimizer step: a weighted sum of losses.

    Args:
        architecture: the sub-network, the contest that decides it, or its exits, which learn from
            labels alone.
        labels: weight of the loss on the data's labels.
        largest: weight of the loss on the predictions of the step's first sub-network, the largest
            (in-place distillation).
        teacher: weight of the loss on the predictions of the frozen teacher.
        is_regularized: whether dropout is active.
    """

    architecture: Architecture | Contest | Exits
    labels: float = 0.0
    largest: float = 0.0
    teacher: float = 0.0
    is_regularized: bool = True


Assign = Callable[[np.random.Generator], list[Assignment]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A stretch of training, with a learning rate schedule of its own.

    Args:
        name: for the log.
        num_epochs: how long it lasts.
        assign: the sub-networks of one step; all randomness comes from its argument.
        learning_rate_factor: of the configured learning rate.
        has_warmup: whether the learning rate starts small.
        preparations: what the trainer does before it.
        trained_choices: dimension -> choices that earlier phases have trained, which sorting
            channels must not tear apart.
    """

    name: str
    num_epochs: int
    assign: Assign
    learning_rate_factor: float = 1.0
    has_warmup: bool = True
    preparations: tuple[Preparation, ...] = ()
    trained_choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)


class TrainingStrategy(Protocol):
    """Chooses the sub-networks of each optimizer step.

    Attributes:
        redraws: whether each piece of an accumulated batch gets sub-networks of its own.
    """

    redraws: ClassVar[bool]

    def phases(self, num_epochs: int) -> list[Phase]:
        """The phases, of `num_epochs` together; RequestError if those are too few."""


class SingleStage(ABC):
    """A strategy that does the same from the first step to the last."""

    redraws: ClassVar[bool] = False
    preparations: ClassVar[tuple[Preparation, ...]] = ()

    @abstractmethod
    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """The sub-networks of one step."""

    def phases(self, num_epochs: int) -> list[Phase]:
        """The only one."""
        phase = Phase(
            name="train",
            num_epochs=num_epochs,
            assign=self.assign,
            preparations=self.preparations,
        )
        return [phase]


def random_architectures(
    space: SearchSpace, count: int, rng: np.random.Generator
) -> list[Architecture]:
    """Every choice of a dimension as likely as the others."""
    return space.from_genomes(space.sample_choices(count, rng))


@dataclass(frozen=True)
class SandwichRule(SingleStage):
    """The largest, the smallest and random ones, on the labels and the largest's predictions.

    Yu and Huang, Universally Slimmable Networks (ICCV 2019), who let all but the largest learn from
    its predictions alone: `label_weight` 0. Ours is a half, as in a few epochs a teacher that
    knows nothing yet holds all back: docs/results/training.md.

    Args:
        num_random: random sub-networks of a step.
        label_weight: the share of the labels in the loss of all but the largest; 1 leaves
            distillation out.
    """

    subnetworks: Subnetworks
    num_random: int = 2
    label_weight: float = 0.5

    def __post_init__(self) -> None:
        check_whole_number("training.options.num_random", self.num_random, 0)
        check_share("label_weight", self.label_weight)

    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """Largest, `num_random` others, smallest."""
        space = self.subnetworks.space
        return [
            Assignment(space.largest, labels=1.0),
            *(self._other(chosen) for chosen in [*self._between(rng), space.smallest]),
        ]

    def _between(self, rng: np.random.Generator) -> list[Architecture] | list[Contest]:
        return random_architectures(self.subnetworks.space, self.num_random, rng)

    def _other(self, chosen: Architecture | Contest) -> Assignment:
        return Assignment(chosen, labels=self.label_weight, largest=1.0 - self.label_weight)


@dataclass(frozen=True)
class BigNAS(SandwichRule):
    """Distilled in place, with residual branches that start at zero; only the largest drops out.

    Yu et al., BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage Models (ECCV
    2020): the sandwich rule, where all but the largest learn from its predictions. Weight decay
    acts once on each weight in a step, as on the largest alone. Its schedule, a decay that ends in
    a constant, is `training.schedule: exponential`.
    """

    label_weight: float = 0.0
    preparations: ClassVar[tuple[Preparation, ...]] = ("zero_residual_branches",)

    def _other(self, chosen: Architecture | Contest) -> Assignment:
        return Assignment(
            chosen,
            labels=self.label_weight,
            largest=1.0 - self.label_weight,
            is_regularized=False,
        )


@dataclass(frozen=True)
class SinglePath(SingleStage):
    """Random sub-networks on the labels.

    Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling (ECCV 2020),
    where `num_random` is 1.
    """

    subnetworks: Subnetworks
    num_random: int = 1

    def __post_init__(self) -> None:
        check_whole_number("training.options.num_random", self.num_random, 1)

    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """`num_random` random ones."""
        chosen = random_architectures(self.subnetworks.space, self.num_random, rng)
        return [Assignment(architecture, labels=1.0) for architecture in chosen]


@dataclass(frozen=True)
class SinglePathLargest(SinglePath):
    """The largest, and random sub-networks, all on the labels."""

    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """Largest, `num_random` random ones."""
        largest = Assignment(self.subnetworks.space.largest, labels=1.0)
        return [largest, *super().assign(rng)]


@dataclass(frozen=True)
class HAT(SingleStage):
    """One random sub-network on the labels.

    Wang et al., HAT: Hardware-Aware Transformers for Efficient Natural Language Processing (ACL
    2020). The rest of its recipe are settings: no weight decay, label smoothing 0.1, a cosine after
    a warm-up; dropout follows the active width by itself.
    """

    subnetworks: Subnetworks

    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """A random one."""
        (chosen,) = random_architectures(self.subnetworks.space, 1, rng)
        return [Assignment(chosen, labels=1.0)]


def is_number(value: object) -> bool:
    """Whether it is a whole or a floating-point number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_share(name: str, value: object) -> None:
    """RequestError unless an option is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise RequestError(f"training.options.{name} is a number from 0 to 1, not {value!r}")


StrategyBuilder = Callable[..., TrainingStrategy]
"""(subnetworks, **options) -> strategy."""

STRATEGIES: Registry[StrategyBuilder] = Registry(
    "training strategy",
    {
        "sandwich": SandwichRule,
        "bignas": BigNAS,
        "attentive": "nasbench.supernet.training.attentive:AttentiveSampling",
        "single_path": SinglePath,
        "single_path_largest": SinglePathLargest,
        "hat": HAT,
        "progressive_shrinking": (
            "nasbench.supernet.training.progressive_shrinking:ProgressiveShrinking"
        ),
        "sorted": "nasbench.supernet.training.sorted:SortedChain",
        "instatune": "nasbench.supernet.training.instatune:InstaTune",
    },
)


def build_strategy(
    name: str, subnetworks: Subnetworks, options: Mapping[str, object]
) -> TrainingStrategy:
    """The strategy of that name; RequestError for an option that it does not know."""
    builder = STRATEGIES[name]
    try:
        return builder(subnetworks, **options)
    except TypeError as error:
        raise RequestError(f"training.options do not fit '{name}': {error}") from error
