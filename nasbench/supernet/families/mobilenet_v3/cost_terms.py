"""What each piece of a MobileNetV3 costs, and the few dimensions that its size depends on."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from torch import nn

from nasbench.supernet.blocks import Block
from nasbench.supernet.families.mobilenet_v3.blocks import ElasticBlock
from nasbench.supernet.families.mobilenet_v3.spec import MobileNetV3Spec, StageSpec
from nasbench.supernet.layers import Counts
from nasbench.supernet.searchable import Choices, CostTerm
from nasbench.supernet.stages import choice_of


def cost_terms(
    spec: MobileNetV3Spec,
    stages: nn.ModuleDict,
    stem_piece: Callable[[int | None, int, Choices], tuple[Counts, Block]],
    head_piece: Callable[[int, Choices], tuple[Counts, Block]],
) -> Iterator[CostTerm]:
    """The terms of stem, blocks and head, all at the largest resolution.

    Args:
        stages: each by name, the `elastic_stage` of its specification.
        stem_piece: resolution, side of the images that the stem puts out, and choices -> the stem.
        head_piece: side of the images that come in, and choices -> the head.
    """
    resolution = max(spec.possible_resolutions(), default=None)
    side = math.ceil((resolution or spec.image_size) / spec.stem_stride)
    yield CostTerm({}, ("stem.width",), partial(stem_piece, resolution, side))
    source, in_widths = "stem.width", spec.stem_widths
    for stage, modules in zip(spec.stages, stages.values(), strict=True):
        for number, block in enumerate(cast(nn.ModuleDict, modules).values(), 1):
            runs = {f"{stage.name}.depth": tuple(d for d in stage.depths if d >= number)}
            settings = [stage.of_block(number, s) for s in ("kernel_size", "expansion_ratio")]
            dimensions = tuple(dict.fromkeys((source, f"{stage.name}.width", *settings)))
            piece = partial(
                _block_piece, stage, number, cast(ElasticBlock, block), source, in_widths, side
            )
            yield CostTerm(runs, dimensions, piece)
            side = math.ceil(side / cast(ElasticBlock, block).stride)
            source, in_widths = f"{stage.name}.width", stage.widths
    yield CostTerm({}, (source, "features.width"), partial(head_piece, side))


def _block_piece(
    stage: StageSpec,
    number: int,
    block: ElasticBlock,
    source: str,
    in_widths: tuple[int, ...],
    side: int,
    choices: Choices,
) -> tuple[Counts, Block]:
    shape = stage.block_shape(choices, number, choice_of(choices, source, in_widths))
    return block.count(shape, side, math.ceil(side / block.stride)), block.named(shape, side)
