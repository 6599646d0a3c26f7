"""Which sub-networks a ResNet supernet holds: specifications of choices, shapes of sizes.

The search space follows from a specification; a shape follows from one architecture of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from nasbench.errors import RequestError
from nasbench.space import Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.layers import round_channels
from nasbench.supernet.searchable import Choices
from nasbench.supernet.stages import (
    check_image_settings,
    choice_of,
    elastic,
    stage_dimensions,
)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The active sizes of one block: its input channels and each convolution's output channels."""

    in_channels: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The active sizes: each convolution of the stem, and stage by stage the blocks that run."""

    stem: tuple[int, ...]
    stages: tuple[tuple[BlockShape, ...], ...]

    @property
    def features(self) -> int:
        """What the classifier sees."""
        return self.stages[-1][-1].widths[-1]

    @property
    def nested_sizes(self) -> tuple[Any, ...]:
        """The same, with the stem's middle convolution last, as it is what can be left out."""
        return self.stem[0], self.stem[-1], self.stem[1:-1], self.stages


@dataclass(frozen=True, kw_only=True, slots=True)
class StemSpec:
    """The first convolutions.

    Args:
        widths: choices of the output channels.
        inner_widths: where there are some, the stem is that of Once-for-all, which shrinks images
            to a quarter: two or three convolutions with inner channels, and max pooling.
    """

    widths: tuple[int, ...]
    inner_widths: tuple[int, ...] = ()

    def dimensions(self) -> list[ElasticDimension]:
        """The properties with more than one choice."""
        inner = elastic("stem.inner_width", self.inner_widths)
        depth = elastic("stem.depth", (2, 3)) if self.inner_widths else []
        return depth + inner + elastic("stem.width", self.widths)

    def shape(self, architecture: Choices) -> tuple[int, ...]:
        """Output channels of each convolution that runs."""
        width = choice_of(architecture, "stem.width", self.widths)
        if not self.inner_widths:
            return (width,)
        inner = choice_of(architecture, "stem.inner_width", self.inner_widths)
        num_inner = choice_of(architecture, "stem.depth", (2, 3)) - 1
        return (*[inner] * num_inner, width)

    def possible_shapes(self) -> Iterator[tuple[int, ...]]:
        """Everything that `shape` can be."""
        for width in self.widths:
            if not self.inner_widths:
                yield (width,)
            for inner, num_inner in product(self.inner_widths, (1, 2)):
                yield (*[inner] * num_inner, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class BasicStage:
    """A run of basic blocks, the first of which has the stride.

    Args:
        name: begins the names of the stage's dimensions.
        widths: choices of each convolution's output channels.
    """

    kernel_sizes: ClassVar[tuple[int, ...]] = (3, 3)
    has_projection: ClassVar[bool] = False
    has_one_width: ClassVar[bool] = False

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int

    def dimensions(self) -> list[ElasticDimension]:
        """The properties with more than one choice."""
        of_block = {"inner_width": self.widths, "width": self.widths}
        return stage_dimensions(self.name, self.depths, {}, of_block)

    def block_widths(self, architecture: Choices, block: int) -> tuple[int, ...]:
        """Output channels of each convolution of a block."""
        prefix = f"{self.name}.block{block}"
        inner = choice_of(architecture, f"{prefix}.inner_width", self.widths)
        return inner, choice_of(architecture, f"{prefix}.width", self.widths)

    def possible_widths(self) -> Iterator[tuple[int, ...]]:
        """Everything that `block_widths` can be."""
        return product(self.widths, self.widths)

    @property
    def max_widths(self) -> tuple[int, ...]:
        """The largest `block_widths`."""
        return max(self.widths), max(self.widths)

    def inner_widths(self, block: int) -> tuple[str, dict[Choice, set[int]]]:
        """The dimension that sets a block's inner channels, and their numbers at each choice."""
        return f"{self.name}.block{block}.inner_width", {width: {width} for width in self.widths}

    def width_dimension(self, block: int) -> str:
        """The dimension that sets a block's output channels."""
        return f"{self.name}.block{block}.width"


@dataclass(frozen=True, kw_only=True, slots=True)
class BottleneckStage:
    """A run of bottleneck blocks of one width, the first of which has the stride.

    Args:
        name: begins the names of the stage's dimensions.
        widths: choices of the blocks' output channels.
        expansion_ratios: choices of inner channels per output channel, rounded to eights.
    """

    kernel_sizes: ClassVar[tuple[int, ...]] = (1, 3, 1)
    has_projection: ClassVar[bool] = True
    has_one_width: ClassVar[bool] = True

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    expansion_ratios: tuple[float, ...]
    stride: int

    def __post_init__(self) -> None:
        """Two ratios that round to the same channels would be a choice that does nothing."""
        for width in self.widths:
            inner = [round_channels(width * ratio) for ratio in self.expansion_ratios]
            if len(set(inner)) < len(inner):
                raise RequestError(
                    f"{self.name}: the expansion ratios {self.expansion_ratios} give inner widths "
                    f"{tuple(inner)} where the stage has {width} channels; they must differ"
                )

    def dimensions(self) -> list[ElasticDimension]:
        """The properties with more than one choice."""
        of_stage = {"width": self.widths}
        of_block = {"expansion_ratio": self.expansion_ratios}
        return stage_dimensions(self.name, self.depths, of_stage, of_block)

    def block_widths(self, architecture: Choices, block: int) -> tuple[int, ...]:
        """Output channels of each convolution of a block."""
        width = choice_of(architecture, f"{self.name}.width", self.widths)
        name = f"{self.name}.block{block}.expansion_ratio"
        inner = round_channels(width * choice_of(architecture, name, self.expansion_ratios))
        return inner, inner, width

    def possible_widths(self) -> Iterator[tuple[int, ...]]:
        """Everything that `block_widths` can be."""
        for width, ratio in product(self.widths, self.expansion_ratios):
            inner = round_channels(width * ratio)
            yield inner, inner, width

    @property
    def max_widths(self) -> tuple[int, ...]:
        """The largest `block_widths`."""
        inner = round_channels(max(self.widths) * max(self.expansion_ratios))
        return inner, inner, max(self.widths)

    def inner_widths(self, block: int) -> tuple[str, dict[Choice, set[int]]]:
        """The dimension that sets a block's inner channels, and their numbers at each choice."""
        return f"{self.name}.block{block}.expansion_ratio", {
            ratio: {round_channels(width * ratio) for width in self.widths}
            for ratio in self.expansion_ratios
        }

    def width_dimension(self, _block: int) -> str:
        """The dimension that sets a block's output channels, those of all blocks."""
        return f"{self.name}.width"


Stage = BasicStage | BottleneckStage


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetSpec:
    """All about one supernet: its stem and stages, and the images it is for."""

    stem: StemSpec
    stages: tuple[Stage, ...]
    in_channels: int
    image_size: int
    num_classes: int

    def __post_init__(self) -> None:
        check_image_settings(self)

    def space(self) -> SearchSpace:
        """The elastic dimensions of the stem and all stages, in the order of computation."""
        dimensions = self.stem.dimensions()
        for stage in self.stages:
            dimensions += stage.dimensions()
        return SearchSpace(dimensions)


def stage_shape(
    stage: Stage, architecture: Architecture, in_channels: int
) -> tuple[BlockShape, ...]:
    """The sizes of the blocks of a stage that run."""
    shapes = []
    depth = choice_of(architecture, f"{stage.name}.depth", stage.depths)
    for block in range(1, depth + 1):
        widths = stage.block_widths(architecture, block)
        shapes.append(BlockShape(in_channels, widths))
        in_channels = widths[-1]
    return tuple(shapes)
