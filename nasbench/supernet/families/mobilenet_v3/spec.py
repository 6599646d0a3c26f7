"""Which sub-networks a MobileNetV3 supernet holds: specifications of choices, shapes of sizes.

The search space follows from a specification; a shape follows from one architecture of it.
"""

from dataclasses import dataclass

from nasbench.errors import RequestError
from nasbench.space import Architecture, ElasticDimension, SearchSpace
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
    """The active sizes of one block."""

    in_channels: int
    inner_channels: int
    kernel_size: int
    out_channels: int


def inner_channels(in_channels: int, expansion_ratio: float) -> int:
    """The channels between a block's expansion and projection, rounded to eights but at ratio 1."""
    return in_channels if expansion_ratio == 1 else round_channels(in_channels * expansion_ratio)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpec:
    """A run of blocks of one width, the first of which has the stride.

    Args:
        name: begins the names of the stage's dimensions.
        expansion_ratios: where the only one is 1, blocks have no expanding convolution.
        is_uniform: whether all blocks have one kernel size and one expansion ratio.
    """

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    expansion_ratios: tuple[float, ...]
    stride: int
    activation: str = "relu"
    has_squeeze_excitation: bool = False
    is_uniform: bool = False

    def dimensions(self) -> list[ElasticDimension]:
        """The properties with more than one choice."""
        width = {"width": self.widths}
        inner = {"kernel_size": self.kernel_sizes, "expansion_ratio": self.expansion_ratios}
        if self.is_uniform:
            return stage_dimensions(self.name, self.depths, {**width, **inner}, {})
        return stage_dimensions(self.name, self.depths, width, inner)

    def shape(self, architecture: Architecture, in_channels: int) -> tuple[BlockShape, ...]:
        """The sizes of the blocks that run."""
        shapes = []
        for block in range(1, choice_of(architecture, f"{self.name}.depth", self.depths) + 1):
            shapes.append(self.block_shape(architecture, block, in_channels))
            in_channels = shapes[-1].out_channels
        return tuple(shapes)

    def of_block(self, block: int, setting: str) -> str:
        """The dimension that decides a block's `kernel_size` or `expansion_ratio`."""
        return (
            f"{self.name}.{setting}" if self.is_uniform else f"{self.name}.block{block}.{setting}"
        )

    def block_shape(self, choices: Choices, block: int, in_channels: int) -> BlockShape:
        """The sizes of one block, of these input channels."""
        kernel_size = choice_of(choices, self.of_block(block, "kernel_size"), self.kernel_sizes)
        ratio_name = self.of_block(block, "expansion_ratio")
        ratio = choice_of(choices, ratio_name, self.expansion_ratios)
        width = choice_of(choices, f"{self.name}.width", self.widths)
        return BlockShape(in_channels, inner_channels(in_channels, ratio), kernel_size, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class MobileNetV3Spec:
    """All about one supernet: its stem, stages and head, and the images it is for.

    Args:
        final_widths: channels of the last convolution, before pooling, for each width of the last
            stage.
        feature_widths: choices of the features between pooling and the classifier.
        activation: of stem and head.
        resolutions: sides that images can be resized to; only those up to `image_size` count.
    """

    stem_widths: tuple[int, ...]
    stem_stride: int
    stages: tuple[StageSpec, ...]
    final_widths: tuple[int, ...]
    feature_widths: tuple[int, ...]
    activation: str = "hard_swish"
    in_channels: int
    image_size: int
    num_classes: int
    resolutions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_image_settings(self)
        self._check_expansion_ratios()

    def _check_expansion_ratios(self) -> None:
        """Two ratios that round to the same channels would be a choice that does nothing."""
        in_widths = self.stem_widths
        for stage in self.stages:
            later_blocks = stage.widths if max(stage.depths) > 1 else ()
            for width in (*in_widths, *later_blocks):
                inner = [inner_channels(width, ratio) for ratio in stage.expansion_ratios]
                if len(set(inner)) < len(inner):
                    raise RequestError(
                        f"{stage.name}: the expansion ratios {stage.expansion_ratios} give inner "
                        f"widths {tuple(inner)} where the input has {width} channels; they must "
                        "differ"
                    )
            in_widths = stage.widths

    def possible_resolutions(self) -> tuple[int, ...]:
        """The elastic resolution's choices, none of which enlarges an image."""
        return tuple(side for side in self.resolutions if side <= self.image_size)

    def space(self) -> SearchSpace:
        """The elastic dimensions, in the order of computation."""
        dimensions = elastic("resolution", self.possible_resolutions())
        dimensions += elastic("stem.width", self.stem_widths)
        for stage in self.stages:
            dimensions += stage.dimensions()
        return SearchSpace(dimensions + elastic("features.width", self.feature_widths))


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The active sizes: of the images, the stem, stage by stage the blocks that run, and the head.

    A resolution of None takes images as they come.
    """

    resolution: int | None
    stem_width: int
    stages: tuple[tuple[BlockShape, ...], ...]
    final_width: int
    feature_width: int
