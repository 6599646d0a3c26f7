"""Stages: runs of blocks with elastic depth, as convolutional families are made of.

A stage keeps its first blocks. What belongs to a block is named after it, "stage1.block2.NAME",
and inactive at depths that leave the block out; what belongs to all blocks is "stage1.NAME".
"""

from collections.abc import Mapping
from typing import Any

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Choice, ElasticDimension


def elastic(name: str, choices: tuple[Choice, ...]) -> list[ElasticDimension]:
    """The dimension of that name where there is a choice, and none where there is only one."""
    return [ElasticDimension(name, choices)] if len(choices) > 1 else []


def stage_dimensions(
    name: str,
    depths: tuple[int, ...],
    of_stage: Mapping[str, tuple[Choice, ...]],
    of_block: Mapping[str, tuple[Choice, ...]],
) -> list[ElasticDimension]:
    """A stage's dimensions: its depth, what its blocks share, and what each has for itself.

    Args:
        of_stage: the choices of what all blocks share, by name.
        of_block: the choices of what each block has for itself, by name.
    """
    dimensions = elastic(f"{name}.depth", depths)
    for shared, choices in of_stage.items():
        dimensions += elastic(f"{name}.{shared}", choices)
    for block in range(1, max(depths) + 1):
        deep_enough = tuple(depth for depth in depths if depth >= block)
        condition = None if deep_enough == depths else ActiveWhen(f"{name}.depth", deep_enough)
        dimensions += [
            ElasticDimension(f"{name}.block{block}.{own}", choices, condition)
            for own, choices in of_block.items()
            if len(choices) > 1
        ]
    return dimensions


def choice_of(architecture: Mapping[str, Choice], name: str, choices: tuple[Any, ...]) -> Any:
    """The architecture's choice, or the only one where there is no such dimension."""
    return architecture.get(name, choices[0])


def check_image_settings(spec: Any) -> None:
    """RequestError unless the numbers that say which images a spec is for are possible."""
    for name in ("in_channels", "image_size", "num_classes"):
        value = getattr(spec, name)
        if type(value) is not int or value < 1:
            raise RequestError(f"{name} is a whole number from 1 up, not {value!r}")
