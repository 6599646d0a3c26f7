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
step trains it, comes first, so that its predictions are there for those that learn from it. The
last two strategies have files of their own, `sorted.py` and `instatune.py`.

Random means that every choice of a dimension is as likely as the others, as in the papers, and not
every architecture: nearly all architectures of a space with elastic depth are deep.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np

from nasbench.errors import RequestError
from nasbench.registry import Registry
from nasbench.space import Architecture, Choice, ElasticDimension, Genomes, SearchSpace
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
class AttentiveSampling(BigNAS):
    """BigNAS's recipe, where contests at equal cost take the place of random sub-networks.

    Wang et al., AttentiveNAS: Improving Neural Architecture Search via Attentive Sampling (CVPR
    2021). For each contest, MACs are drawn as often as random sub-networks have them; candidates of
    about those MACs are drawn choice by choice, as often as random sub-networks of those MACs have
    each choice. The paper's bins are 25 million FLOPs wide; ours divide the space's range equally.

    Args:
        num_candidates: of a contest; 3 in the paper.
        winner: "best" trains the candidate of the lowest loss (the paper's BestUp), "worst" that
            of the highest (WorstUp).
        num_bins: of MACs, from the smallest sub-network's to the largest's.
    """

    num_candidates: int = 3
    winner: Literal["best", "worst"] = "best"
    num_bins: int = 32
    _table: "CostTable" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("training.options.num_candidates", self.num_candidates, 1)
        check_whole_number("training.options.num_bins", self.num_bins, 1)
        if self.winner not in ("best", "worst"):
            raise RequestError(f"training.options.winner is best or worst, not {self.winner!r}")
        object.__setattr__(self, "_table", CostTable(self.subnetworks, self.num_bins))

    def _between(self, rng: np.random.Generator) -> list[Contest]:
        winner: Literal["lowest_loss", "highest_loss"]
        winner = "lowest_loss" if self.winner == "best" else "highest_loss"
        return [
            Contest(tuple(self._table.draw(self.num_candidates, rng)), winner)
            for _ in range(self.num_random)
        ]


class CostTable:
    """How often random sub-networks have which MACs, and which choices at those MACs.

    A bin of MACs that none of them falls into is never drawn.
    """

    NUM_SAMPLES = 2048
    MAX_TRIES = 100  # the paper's

    def __init__(self, subnetworks: Subnetworks, num_bins: int) -> None:
        self._subnetworks = subnetworks
        space = subnetworks.space
        lowest, highest = self._macs(space.smallest), self._macs(space.largest)
        self._edges = np.linspace(lowest, highest, num_bins + 1)[1:-1]
        genomes = space.sample_choices(self.NUM_SAMPLES, np.random.default_rng(0))
        members: dict[int, list[Genomes]] = defaultdict(list)
        for genome in genomes:
            members[self._bin(space.from_genome(genome))].append(genome)
        self._bins = sorted(members)
        self._members = {number: np.stack(members[number]) for number in self._bins}
        self._shares = np.array([len(members[number]) for number in self._bins]) / len(genomes)

    def _macs(self, architecture: Architecture) -> int:
        return self._subnetworks.count(architecture)["num_macs"]

    def _bin(self, architecture: Architecture) -> int:
        return int(np.searchsorted(self._edges, self._macs(architecture), side="right"))

    def draw(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Sub-networks of one bin; where choices do not meet it, members of the table."""
        target = self._bins[rng.choice(len(self._bins), p=self._shares)]
        members = self._members[target]
        space = self._subnetworks.space
        found: list[Architecture] = []
        for genome in self._combined(members, rng):
            architecture = space.from_genome(genome)
            if self._bin(architecture) == target:
                found.append(architecture)
                if len(found) == count:
                    return found
        rest = rng.integers(0, len(members), size=count - len(found))
        return found + space.from_genomes(members[rest])

    def _combined(self, members: Genomes, rng: np.random.Generator) -> Genomes:
        """Genomes that take each choice from a member, every dimension from another one."""
        rows = rng.integers(0, len(members), size=(self.MAX_TRIES, members.shape[1]))
        columns = np.arange(members.shape[1])
        return self._subnetworks.space.canonical_genomes(members[rows, columns])


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


@dataclass(frozen=True)
class _Opening:
    """A phase of progressive shrinking: which choices join, and how they are trained.

    Args:
        kind: of the dimensions that open.
        num_top: how many of their largest choices are open from here on; None is all.
        num_epochs, learning_rate: the paper's; only their ratios matter.
        num_subnetworks: of a step.
    """

    name: str
    kind: str
    num_top: int | None
    num_epochs: int
    learning_rate: float
    num_subnetworks: int


_LARGEST = _Opening("largest", "resolution", None, 180, 8e-2, 1)
_OPENINGS = (
    _Opening("kernels", "kernel_size", None, 120, 3e-2, 1),
    _Opening("depths, first", "depth", 2, 25, 2.5e-3, 2),
    _Opening("depths", "depth", None, 120, 7.5e-3, 2),
    _Opening("widths, first", "width", 2, 25, 2.5e-3, 4),
    _Opening("widths", "width", None, 120, 7.5e-3, 4),
)


def _kind_of(dimension: ElasticDimension) -> str:
    """In which phase a dimension opens: what is no resolution, kernel or depth is a width."""
    last = dimension.name.rpartition(".")[2]
    return last if last in ("resolution", "kernel_size", "depth") else "width"


def _largest_choices(dimension: ElasticDimension, count: int | None) -> tuple[Choice, ...]:
    """The `count` largest choices, rising; all for None."""
    return dimension.rising[-count:] if count else dimension.rising


@dataclass(frozen=True)
class ProgressiveShrinking:
    """The largest sub-network first; then smaller kernels, depths and widths join, in this order.

    Cai et al., Once-for-all (ICLR 2020). From the second phase on, 1 (kernels), 2 (depths) or 4
    (widths) random sub-networks of what is open so far learn from the labels and from the trained
    largest one, which is frozen. Of depths and of widths the two largest choices open first, and
    the others in a phase of their own; channels are sorted before each phase of widths. Image
    resolution is elastic from the start. Phases share the epochs as in the paper: 180 for the
    largest, 120 for kernels, 25 and 120 for depths and for widths. The learning rates of the later
    phases have the ratios of its released code.

    Args:
        label_weight, teacher_weight: of the two losses; both 1 in the paper.
    """

    subnetworks: Subnetworks
    label_weight: float = 1.0
    teacher_weight: float = 1.0

    redraws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("label_weight", "teacher_weight"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise RequestError(f"training.options.{name} is a number from 0 up, not {value!r}")
        if self.label_weight == self.teacher_weight == 0:
            raise RequestError(
                "training.options has label_weight and teacher_weight 0, which leaves no loss"
            )

    def phases(self, num_epochs: int) -> list[Phase]:
        """The largest alone, then one phase for each group of choices that opens.

        Raises:
            RequestError: if there are fewer epochs than phases.
        """
        space = self.subnetworks.space
        openings = [_LARGEST, *(o for o in _OPENINGS if self._opens_something(o))]
        lengths = _shared_out(num_epochs, [opening.num_epochs for opening in openings])
        choices = {dimension.name: _largest_choices(dimension, 1) for dimension in space}
        phases: list[Phase] = []
        for opening, length in zip(openings, lengths, strict=True):
            trained = dict(choices)
            for dimension in space:
                if _kind_of(dimension) == opening.kind:
                    choices[dimension.name] = _largest_choices(dimension, opening.num_top)
            phases.append(
                Phase(
                    name=opening.name,
                    num_epochs=length,
                    assign=self._assign(dict(choices), opening.num_subnetworks, bool(phases)),
                    learning_rate_factor=opening.learning_rate / _LARGEST.learning_rate,
                    has_warmup=opening.num_top is None,
                    preparations=self._preparations(opening, len(phases)),
                    trained_choices=trained,
                )
            )
        return phases

    def _opens_something(self, opening: _Opening) -> bool:
        """Whether the space has such choices; two phases are for more than two."""
        sizes = [len(d.choices) for d in self.subnetworks.space if _kind_of(d) == opening.kind]
        return max(sizes, default=1) > (1 if opening.num_top is None else opening.num_top)

    @staticmethod
    def _preparations(opening: _Opening, num_earlier: int) -> tuple[Preparation, ...]:
        freezes: tuple[Preparation, ...] = ("freeze_teacher",) if num_earlier == 1 else ()
        return (*freezes, "sort_channels") if opening.kind == "width" else freezes

    def _assign(
        self, choices: Mapping[str, tuple[Choice, ...]], count: int, has_teacher: bool
    ) -> Assign:
        space = self.subnetworks.space

        def assign(rng: np.random.Generator) -> list[Assignment]:
            drawn = [
                space.canonical({name: of[rng.integers(len(of))] for name, of in choices.items()})
                for _ in range(count)
            ]
            if not has_teacher:
                return [Assignment(architecture, labels=1.0) for architecture in drawn]
            return [
                Assignment(architecture, labels=self.label_weight, teacher=self.teacher_weight)
                for architecture in drawn
            ]

        return assign


def _shared_out(total: int, shares: list[int]) -> list[int]:
    """Whole numbers of that sum, in about these proportions, each of at least 1."""
    if total < len(shares):
        raise RequestError(
            f"progressive shrinking of this space has {len(shares)} phases, so training.epochs is "
            f"at least {len(shares)}, not {total}"
        )
    exact = np.array(shares) * total / sum(shares)
    lengths = np.maximum(1, np.floor(exact).astype(int))
    while lengths.sum() < total:
        lengths[np.argmax(exact - lengths)] += 1
    while lengths.sum() > total:
        lengths[np.argmax(np.where(lengths > 1, lengths - exact, -np.inf))] -= 1
    return [int(length) for length in lengths]


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
        "attentive": AttentiveSampling,
        "single_path": SinglePath,
        "single_path_largest": SinglePathLargest,
        "hat": HAT,
        "progressive_shrinking": ProgressiveShrinking,
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
