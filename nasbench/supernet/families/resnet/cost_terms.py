"""What each piece of a ResNet costs, and the few dimensions that its size depends on.

A block can follow different ones: where a stage's blocks differ in width, the last that runs says
what comes into the next stage. There is a term for each.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from torch import nn

from nasbench.space import Choice
from nasbench.supernet.blocks import Block
from nasbench.supernet.families.resnet.blocks import ElasticBlock
from nasbench.supernet.families.resnet.spec import BlockShape, ResNetSpec, Stage
from nasbench.supernet.layers import Counts
from nasbench.supernet.searchable import Choices, CostTerm


def cost_terms(
    spec: ResNetSpec,
    stages: nn.ModuleDict,
    stem_stride: int,
    stem_piece: Callable[[Choices], tuple[Counts, Block]],
    head_piece: Callable[[Callable[[Choices], int], int, Choices], tuple[Counts, Block]],
) -> Iterator[CostTerm]:
    """The terms of stem, blocks and head.

    Args:
        stages: each by name, the `elastic_stage` of its specification.
        stem_stride: how many times smaller the stem makes an image.
        stem_piece: choices -> the stem.
        head_piece: what gives the channels that come in, the side of the images, and choices -> the
            head.
    """
    stem_dimensions = tuple(dimension.name for dimension in spec.stem.dimensions())
    yield CostTerm({}, stem_dimensions, stem_piece)
    side = math.ceil(spec.image_size / stem_stride)
    sources = [_Source({}, "stem.width", lambda choices: spec.stem.shape(choices)[-1])]
    for stage in spec.stages:
        blocks = cast(nn.ModuleDict, stages[stage.name]).values()
        outputs = []
        for number, block in enumerate(cast(Iterator[ElasticBlock], blocks), 1):
            inner, _ = stage.inner_widths(number)
            own = (inner, stage.width_dimension(number))
            runs = {f"{stage.name}.depth": tuple(d for d in stage.depths if d >= number)}
            for source in sources:
                piece = partial(_block_piece, stage, number, block, source.width, side)
                dimensions = tuple(dict.fromkeys((source.dimension, *own)))
                yield CostTerm({**source.conditions, **runs}, dimensions, piece)
            width = partial(_out_width, stage, number)
            sources = [_Source({}, own[1], width)]
            outputs.append(_Source({f"{stage.name}.depth": (number,)}, own[1], width))
            side = math.ceil(side / block.stride)
        if not stage.has_one_width:  # the last block that runs decides
            sources = [output for depth, output in enumerate(outputs, 1) if depth in stage.depths]
    for source in sources:
        piece = partial(head_piece, source.width, side)
        yield CostTerm(source.conditions, (source.dimension,), piece)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a piece of a network follows: when, and the channels that come from there."""

    conditions: dict[str, tuple[Choice, ...]]
    dimension: str
    width: Callable[[Choices], int]


def _out_width(stage: Stage, block: int, choices: Choices) -> int:
    return stage.block_widths(choices, block)[-1]


def _block_piece(
    stage: Stage,
    number: int,
    block: ElasticBlock,
    in_width: Callable[[Choices], int],
    side: int,
    choices: Choices,
) -> tuple[Counts, Block]:
    shape = BlockShape(in_width(choices), stage.block_widths(choices, number))
    counts = block.count(shape, side, math.ceil(side / block.stride))
    return counts, block.named(shape, side)
