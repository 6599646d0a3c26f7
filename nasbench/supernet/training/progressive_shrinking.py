"""Progressive shrinking: the largest sub-network first, then ever smaller ones beside it.

Cai et al., Once-for-all (ICLR 2020).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nasbench.errors import RequestError
from nasbench.space import Choice, ElasticDimension
from nasbench.supernet.nested.chain import Subnetworks
from nasbench.supernet.training.strategies import (
    Assign,
    Assignment,
    Phase,
    Preparation,
    is_number,
)


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
