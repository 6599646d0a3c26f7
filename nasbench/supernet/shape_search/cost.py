"""The expected cost of a distribution over shapes, exactly, and the loss that draws it to a target.

Shape legend: the expectation of a term is the sum of its table, which has one axis per dimension
that the term depends on, times the probabilities of each axis.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from nasbench.space import Architecture, Choice
from nasbench.supernet.base import Supernet
from nasbench.supernet.blocks import Block
from nasbench.supernet.layers import Counts
from nasbench.supernet.shape_search.network import learned_dimensions

CostOfPiece = Callable[[Counts, Block], float]
"""What a piece of a network adds to its cost, such as its entry in a look-up table."""

COSTS: dict[str, CostOfPiece] = {
    "num_macs": lambda counts, _: float(counts.num_macs),
    "num_parameters": lambda counts, _: float(counts.num_parameters),
}
"""The costs that are counted, by the metric's name."""

Regime = Literal["push down", "push up", "none"]


@dataclass(frozen=True, slots=True)
class _Term:
    conditions: tuple[tuple[str, Tensor], ...]  # dimension, and 1 where the piece is there
    dimensions: tuple[str, ...]
    table: Tensor  # an axis per dimension


class ExpectedCost:
    """The cost of a shape that is drawn, in expectation.

    Exact for a cost that is a sum over pieces, as the dimensions are independent; TAS multiplies
    the expected channels of a layer's two sides, which is the same for one convolution's MACs but
    not for a look-up table's latency. What depends on which block a stage ends with (the input of
    the next one) is weighted by the probability of each depth.

    Args:
        supernet: of a family that says what its pieces cost.
        of_piece: the cost of each; `COSTS` has those that are counted.
        constant: what every network costs beside its pieces.

    Raises:
        RequestError: if the family does not say it.
    """

    def __init__(
        self, supernet: Supernet[Any], of_piece: CostOfPiece, *, constant: float = 0.0
    ) -> None:
        self._constant = constant
        learned = {name for names in learned_dimensions(supernet) for name in names}
        self._choices = {d.name: d.rising for d in supernet.space if d.name in learned}
        fixed = {n: c for n, c in supernet.largest.items() if n not in learned}
        self._terms = []
        for term in supernet.searchable().terms:
            dimensions = tuple(name for name in term.dimensions if name in learned)
            axes = [self._choices[name] for name in dimensions]
            costs = [
                of_piece(*term.piece({**fixed, **dict(zip(dimensions, chosen, strict=True))}))
                for chosen in product(*axes)
            ]
            table = torch.tensor(costs, dtype=torch.float64).reshape([len(axis) for axis in axes])
            conditions = tuple(
                (name, self._is_met(name, choices))
                for name, choices in term.conditions.items()
                if name in learned
            )
            self._terms.append(_Term(conditions, dimensions, table))

    def _is_met(self, name: str, choices: tuple[Choice, ...]) -> Tensor:
        return torch.tensor([float(c in choices) for c in self._choices[name]]).double()

    def __call__(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """The expectation, a float64 scalar with gradients.

        Args:
            probabilities: learned dimension -> (C,).
        """
        double = {name: p_C.cpu().double() for name, p_C in probabilities.items()}
        total = torch.tensor(self._constant, dtype=torch.float64)
        for term in self._terms:
            expected = term.table
            for name in reversed(term.dimensions):
                expected = expected @ double[name]
            for name, is_met_C in term.conditions:
                expected = expected * (is_met_C @ double[name])
            total = total + expected
        return total

    def of(self, architecture: Architecture) -> float:
        """The cost of one shape."""
        one_hot = {
            name: torch.tensor([float(choice == architecture[name]) for choice in choices])
            for name, choices in self._choices.items()
        }
        return float(self(one_hot))

    def smallest(self) -> float:
        """The least that a shape can cost, where cost rises with every dimension."""
        return self._extreme(0)

    def largest(self) -> float:
        """The cost of the largest shape."""
        return self._extreme(-1)

    def _extreme(self, index: int) -> float:
        probabilities = {}
        for name, choices in self._choices.items():
            probabilities[name] = torch.zeros(len(choices))
            probabilities[name][index] = 1.0
        return float(self(probabilities))


def cost_regime(cost: float, target: float, tolerance: float) -> Regime:
    """Where the likeliest shape's cost is: above the target, below its tolerance, or there."""
    if cost > target:
        return "push down"
    return "push up" if cost < target - tolerance else "none"


def cost_loss(expected: Tensor, regime: Regime) -> Tensor:
    """TAS, section 3.2: the logarithm of the expected cost, up or down, or nothing.

    The likeliest shape decides the regime, and the expectation carries the gradient.
    """
    sign = {"push down": 1.0, "push up": -1.0, "none": 0.0}[regime]
    return sign * expected.log()
