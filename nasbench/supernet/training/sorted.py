"""Sorted training: the members of one chain, drawn at random.

Valipour et al., SortedNet (2023). Each member's weights are a part of the next one's, so those
that come first are trained by all, and importance sorts itself.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from nasbench.errors import RequestError
from nasbench.space import Architecture, Choice
from nasbench.supernet.nested.chain import NestedChain, Subnetworks
from nasbench.supernet.training.strategies import (
    Assignment,
    Exits,
    SingleStage,
    check_share,
    is_number,
)
from nasbench.tasks.options import check_flag, check_whole_number


@dataclass(frozen=True)
class SortedChain(SingleStage):
    """Random members of a chain of ever larger sub-networks, each contained in the next.

    Valipour et al., SortedNet (2023): no distillation and no search. Where a batch is accumulated
    from pieces, each piece has members of its own.

    Args:
        num_members: of the chain, which grows from the smallest sub-network to the largest; None
            is 16, or as many as there are. See `NestedChain.grown`.
        dimensions: those that grow, where the others stand at their largest choice; None is all.
        members: the chain itself, from the smallest to the largest, in place of these two.
        exits: whether the chain is all depths of the largest sub-network, trained together in one
            pass with the layers that follow the last block (Kavehzadeh et al., Sorted LLaMA,
            2023), in place of random members. For families that have such exits.
        member_weights: how often each member is drawn, in proportion, or with `exits` what each
            weighs in the loss; None says all alike.
        num_random: members of a step (of each piece of it).
        includes_largest: whether the largest member is trained as well, always. Drawn alike, the
            weights that it alone has are trained in one step of `num_members`.
        includes_smallest: whether the smallest member is trained as well, always. It has no
            weight of its own, so it is the one that loses most by what others make of them.
        label_weight: the share of the labels in the loss of all but the largest, where that is
            included; less than 1 distils in place.
    """

    subnetworks: Subnetworks
    num_members: int | None = None
    dimensions: Collection[str] | None = None
    members: Sequence[Mapping[str, Choice]] | None = None
    exits: bool = False
    member_weights: Sequence[float] | None = None
    num_random: int = 1
    includes_largest: bool = False
    includes_smallest: bool = False
    label_weight: float = 1.0

    redraws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_members is not None:
            check_whole_number("training.options.num_members", self.num_members, 2)
        check_whole_number("training.options.num_random", self.num_random, 1)
        check_share("label_weight", self.label_weight)
        check_flag("training.options.includes_largest", self.includes_largest)
        check_flag("training.options.includes_smallest", self.includes_smallest)
        if self.label_weight < 1 and not self.includes_largest:
            raise RequestError(
                "training.options.label_weight below 1 distils from the largest, so it needs "
                "includes_largest: true"
            )
        if self.members is not None and (self.num_members or self.dimensions):
            raise RequestError(
                "training.options.members is the whole chain, so num_members and dimensions "
                "have nothing to say beside it"
            )
        if isinstance(self.dimensions, str):
            raise RequestError(
                f"training.options.dimensions is a list of names; write [{self.dimensions}]"
            )
        check_flag("training.options.exits", self.exits)
        others = ("num_members", "dimensions", "members", "includes_largest", "includes_smallest")
        if self.exits and any(getattr(self, name) for name in others):
            raise RequestError(
                "training.options.exits trains all depths of the largest sub-network, so "
                f"{', '.join(others[:-1])} and {others[-1]} have nothing to say"
            )
        if self.exits and "depth" not in self.subnetworks.space.largest:
            raise RequestError(
                "training.options.exits needs the elastic dimension 'depth', and there is none"
            )
        self._check_weights(len(self.chain))

    def _check_weights(self, num_members: int) -> None:
        weights: object = self.member_weights
        if weights is None:
            return
        if not isinstance(weights, list | tuple):
            raise RequestError(f"training.options.member_weights is a list, not {weights!r}")
        if len(weights) != num_members:
            raise RequestError(
                f"training.options.member_weights has {len(weights)} numbers, but the chain has "
                f"{num_members} members"
            )
        for weight in weights:
            if not is_number(weight) or not 0 <= weight < math.inf:
                raise RequestError(
                    f"training.options.member_weights are numbers from 0 up, not {weight!r}"
                )
        if not sum(weights):
            raise RequestError("training.options.member_weights are all 0, which trains nothing")

    @cached_property
    def chain(self) -> NestedChain:
        """From the smallest member to the largest."""
        if self.exits:
            space = self.subnetworks.space
            depths = space["depth"].rising
            members = [space.canonical({**space.largest, "depth": depth}) for depth in depths]
            return NestedChain(self.subnetworks, members)
        if self.members is not None:
            return NestedChain(self.subnetworks, self.members)
        return NestedChain.grown(self.subnetworks, self.num_members, dimensions=self.dimensions)

    @cached_property
    def _shares(self) -> np.ndarray:
        """The probability of each member."""
        weights = np.ones(len(self.chain)) if self.member_weights is None else self.member_weights
        return np.asarray(weights, dtype=np.float64) / np.sum(weights)

    def assign(self, rng: np.random.Generator) -> list[Assignment]:
        """Random members, between the ends where those are always included; or all depths."""
        chain = self.chain
        if self.exits:
            return [Assignment(Exits(chain[-1], tuple(self._shares.tolist())), labels=1.0)]
        drawn: list[Architecture] = [
            chain[i] for i in rng.choice(len(chain), self.num_random, p=self._shares)
        ]
        if self.includes_smallest:
            drawn = [member for member in drawn if member != chain[0]] + [chain[0]]
        if not self.includes_largest:
            return [Assignment(member, labels=1.0) for member in drawn]
        largest = chain[-1]
        others = [
            Assignment(member, labels=self.label_weight, largest=1.0 - self.label_weight)
            for member in drawn
            if member != largest
        ]
        return [Assignment(largest, labels=1.0), *others]
