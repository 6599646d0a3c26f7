"""What a family says of its networks so that their shape can be learned by gradient.

A shape is a sub-network's widths, depths and kernel sizes. Three things are needed of a family:
which dimension decides the size of which layer, which dimension decides how many blocks of a stage
run, and what each piece of a network costs, given the few dimensions that its size depends on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nasbench.space import Choice
from nasbench.supernet.blocks import Block
from nasbench.supernet.layers import Counts

Choices = Mapping[str, Choice]
"""Dimension -> choice, of those dimensions that matter."""


@dataclass(frozen=True, slots=True)
class ShapedLayer:
    """A layer whose size follows from one dimension.

    Args:
        name: of the module, as in `named_modules` of the supernet; an `ElasticConvNorm` or an
            `ElasticLinear`.
        dimension: the one that decides its size. What else its size depends on (an expansion ratio
            multiplies the channels that come in) is as in the sub-network that is active.
        size: shape of a sub-network that runs it -> the size that its `forward` takes.
    """

    name: str
    dimension: str
    size: Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class ElasticStage:
    """A run of blocks of which a dimension keeps the first ones.

    Args:
        dimension: of its depth.
        blocks: names of its modules, in order.
    """

    dimension: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CostTerm:
    """A piece of sub-networks: when it is there, and what its cost depends on.

    A piece that follows different ones at different depths is several terms, one for each. A
    sub-network consists of exactly the terms whose conditions it meets.

    Args:
        conditions: depth dimension -> choices at which the piece is there.
        dimensions: those that decide its size, none of which is in `conditions`.
        piece: their choices -> what it counts, and the block that it is in a look-up table.
    """

    conditions: Mapping[str, tuple[Choice, ...]]
    dimensions: tuple[str, ...]
    piece: Callable[[Choices], tuple[Counts, Block]]


@dataclass(frozen=True, slots=True)
class Searchable:
    """All of it. Dimensions that decide neither a layer nor a stage stay at their largest choice.

    The pieces of `terms` are given the choices of those, too.
    """

    layers: tuple[ShapedLayer, ...]
    stages: tuple[ElasticStage, ...]
    terms: tuple[CostTerm, ...]
