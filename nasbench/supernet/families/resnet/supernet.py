"""ResNet supernets: residual blocks with elastic depth, width and inner width.

The networks of He et al. (CVPR 2016): a stem, stages of blocks, a classifier. There are two kinds
of stages, and every dimension exists where there is more than one choice:

    stem.width                      output channels of the stem
    stage1.depth                    how many blocks run, always the first ones

    of bottleneck stages (1x1, 3x3, 1x1), as in Once-for-all (Cai et al., ICLR 2020):
    stem.depth                      convolutions of the stem: the middle one can be left out
    stem.inner_width                channels between the convolutions of the stem
    stage1.width                    output channels of all blocks
    stage1.block1.expansion_ratio   inner channels per output channel

    of basic stages (3x3, 3x3), as in TAS (Dong and Yang, NeurIPS 2019):
    stage1.block1.inner_width       channels between the block's two convolutions
    stage1.block1.width             output channels of the block

Each changes parameters, MACs and output. A block's dimensions are inactive at depths that leave
it out.

A block adds its input to its output, of which the sizes can differ. A bottleneck stage changes
its width in the first block alone, whose shortcut is a learned projection (average pooling and a
1x1 convolution). A basic block's shortcut learns nothing: it takes every second pixel where the
block has a stride, and drops trailing channels or appends zeros. So channel i of the sum is always
made of channel i of both, at whatever widths, as slices are. TAS resamples the channels while it
searches and has projections in the network it derives; ours is one network throughout.

Shape legend: B batch, I input channels, O output channels, H height, W width.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.space import Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.blocks import Block, by_key
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import (
    Counts,
    ElasticConv2d,
    ElasticConvNorm,
    ElasticLinear,
    round_channels,
)
from nasbench.supernet.plain import FitChannels, Residual, fit_channels
from nasbench.supernet.searchable import (
    Choices,
    CostTerm,
    ElasticStage,
    Searchable,
    ShapedLayer,
)
from nasbench.supernet.sharing import ElasticLayer
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


def _stage_shape(
    stage: Stage, architecture: Architecture, in_channels: int
) -> tuple[BlockShape, ...]:
    shapes = []
    depth = choice_of(architecture, f"{stage.name}.depth", stage.depths)
    for block in range(1, depth + 1):
        widths = stage.block_widths(architecture, block)
        shapes.append(BlockShape(in_channels, widths))
        in_channels = widths[-1]
    return tuple(shapes)


class ElasticStem(nn.Module):
    """One convolution, normalization and activation."""

    stride = 1

    def __init__(self, in_channels: int, spec: StemSpec) -> None:
        super().__init__()
        width = max(spec.widths)
        conv = ElasticConv2d(in_channels, width, 3)
        self.conv = ElasticConvNorm(conv, width, "relu")

    def forward(self, x_BIHW: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, I, H, W) -> (B, O, H, W)."""
        return self.conv(x_BIHW, shape[-1])

    def extract(self, in_channels: int, shape: Sequence[int]) -> nn.Module:
        """The plain stem of these output channels."""
        return self.conv.extract(in_channels, shape[-1])

    def count(self, in_channels: int, shape: Sequence[int], side: int) -> Counts:
        """Counts of the plain stem for square images of this side."""
        return self.conv.count(in_channels, shape[-1], side**2)


class DeepElasticStem(nn.Module):
    """Once-for-all's stem: a strided convolution, maybe a residual one, another, max pooling."""

    stride = 4

    def __init__(self, in_channels: int, spec: StemSpec) -> None:
        super().__init__()
        inner, width = max(spec.inner_widths), max(spec.widths)

        def convolution(in_channels: int, out_channels: int, stride: int = 1) -> ElasticConvNorm:
            conv = ElasticConv2d(in_channels, out_channels, 3, stride=stride)
            return ElasticConvNorm(conv, out_channels, "relu")

        self.first = convolution(in_channels, inner, stride=2)
        self.middle = convolution(inner, inner)
        self.last = convolution(inner, width)

    def forward(self, x_BIHW: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, I, H, W) -> (B, O, H / 4, W / 4)."""
        x = self.first(x_BIHW, shape[0])
        if len(shape) == 3:
            x = x + self.middle(x, shape[1])
        return F.max_pool2d(self.last(x, shape[-1]), 3, 2, 1)

    def extract(self, in_channels: int, shape: Sequence[int]) -> nn.Module:
        """The plain stem of these output channels."""
        stem = nn.Sequential(self.first.extract(in_channels, shape[0]))
        if len(shape) == 3:
            stem.append(Residual(self.middle.extract(shape[0], shape[1])))
        stem.append(self.last.extract(shape[0], shape[-1]))
        return stem.append(nn.MaxPool2d(3, 2, 1))

    def count(self, in_channels: int, shape: Sequence[int], side: int) -> Counts:
        """Counts of the plain stem for square images of this side."""
        num_pixels = math.ceil(side / 2) ** 2
        counts = self.first.count(in_channels, shape[0], num_pixels)
        if len(shape) == 3:
            counts += self.middle.count(shape[0], shape[1], num_pixels)
        return counts + self.last.count(shape[0], shape[-1], num_pixels)


class ElasticBlock(nn.Module):
    """Residual block of either kind: its convolutions, and the shortcut around them.

    Args:
        in_width: the largest number of input channels.
        is_first: whether it begins its stage, and so has the stage's stride and projection.
    """

    def __init__(self, stage: Stage, in_width: int, is_first: bool) -> None:
        super().__init__()
        self.stride = stage.stride if is_first else 1
        strided = stage.kernel_sizes.index(3)
        last = len(stage.kernel_sizes) - 1
        self.convs = nn.ModuleList()
        channels = in_width
        for index, kernel_size in enumerate(stage.kernel_sizes):
            width = stage.max_widths[index]
            stride = self.stride if index == strided else 1
            conv = ElasticConv2d(channels, width, kernel_size, stride=stride)
            self.convs.append(ElasticConvNorm(conv, width, None if index == last else "relu"))
            channels = width
        self.projection: ElasticConvNorm | None = None
        if stage.has_projection and is_first:
            projection = ElasticConv2d(in_width, channels)
            self.projection = ElasticConvNorm(projection, channels)

    def forward(self, x_BIHW: Tensor, shape: BlockShape) -> Tensor:
        """(B, I, H, W) -> (B, O, H / stride, W / stride)."""
        y = x_BIHW
        for conv, width in zip(self.convs, shape.widths, strict=True):
            y = conv(y, width)
        return F.relu(self._shortcut(x_BIHW, shape.widths[-1]) + y)

    def _shortcut(self, x_BIHW: Tensor, out_channels: int) -> Tensor:
        if self.projection is None:
            return fit_channels(x_BIHW, out_channels, self.stride)
        if self.stride > 1:
            x_BIHW = F.avg_pool2d(x_BIHW, self.stride, ceil_mode=True)
        return self.projection(x_BIHW, out_channels)

    def _convs(self, shape: BlockShape) -> Iterator[tuple[ElasticConvNorm, int, int]]:
        """Each convolution with its input and output channels."""
        in_widths = (shape.in_channels, *shape.widths[:-1])
        for conv, in_width, width in zip(self.convs, in_widths, shape.widths, strict=True):
            yield cast(ElasticConvNorm, conv), in_width, width

    def channel_groups(self, stage: Stage, block: int) -> list[ChannelGroup]:
        """The channels between one convolution and the next, where their number is elastic."""
        dimension, widths_at = stage.inner_widths(block)
        if len(widths_at) == 1:
            return []
        convs = [cast(ElasticConvNorm, conv) for conv in self.convs]
        return [
            ChannelGroup(
                dimension=dimension,
                widths_at=widths_at,
                writers=[first.reorder_outputs],
                reader=second.conv.shared,
            )
            for first, second in pairwise(convs)
        ]

    def shaped_layers(
        self, stage: Stage, stage_index: int, number: int, name: str
    ) -> Iterator[ShapedLayer]:
        """Its convolutions; `name` is that of the block as a module."""

        def width_of(conv: int, shape: NetworkShape) -> int:
            return shape.stages[stage_index][number - 1].widths[conv]

        inner, _ = stage.inner_widths(number)
        last = len(self.convs) - 1
        for conv in range(last + 1):
            dimension = stage.width_dimension(number) if conv == last else inner
            yield ShapedLayer(f"{name}.convs.{conv}", dimension, partial(width_of, conv))
        if self.projection is not None:
            dimension = stage.width_dimension(number)
            yield ShapedLayer(f"{name}.projection", dimension, partial(width_of, last))

    def named(self, shape: BlockShape, in_side: int) -> Block:
        """The plain block of this shape as something to be timed, for images of this side."""
        kernels = [cast(ElasticConvNorm, conv).conv.kernel_size for conv in self.convs]
        convs = ", ".join(f"{k}x{k} {w}" for k, w in zip(kernels, shape.widths, strict=True))
        projected = " projected" if self.projection else ""
        key = f"block {shape.in_channels}x{in_side} convolutions {convs} /{self.stride}{projected}"
        return Block(key, (shape.in_channels, in_side, in_side), partial(self.extract, shape))

    def extract(self, shape: BlockShape) -> nn.Module:
        """The plain block of this shape."""
        body = nn.Sequential(*(conv.extract(i, width) for conv, i, width in self._convs(shape)))
        return nn.Sequential(Residual(body, self._extract_shortcut(shape)), nn.ReLU())

    def _extract_shortcut(self, shape: BlockShape) -> nn.Module | None:
        out_channels = shape.widths[-1]
        if self.projection is not None:
            shortcut = self.projection.extract(shape.in_channels, out_channels)
            if self.stride > 1:
                shortcut.insert(0, nn.AvgPool2d(self.stride, ceil_mode=True))
            return shortcut
        if self.stride == 1 and shape.in_channels == out_channels:
            return None
        return FitChannels(out_channels, self.stride)

    def count(self, shape: BlockShape, in_side: int, out_side: int) -> Counts:
        """Counts of the plain block of this shape, between square images of these sides."""
        counts, side = Counts(), in_side
        for conv, in_width, width in self._convs(shape):
            side = math.ceil(side / conv.conv.stride)
            counts += conv.count(in_width, width, side**2)
        if self.projection is not None:
            counts += self.projection.count(shape.in_channels, shape.widths[-1], out_side**2)
        return counts


def _elastic_stage(stage: Stage, in_width: int) -> nn.ModuleDict:
    blocks = {"block1": ElasticBlock(stage, in_width, is_first=True)}
    for block in range(2, max(stage.depths) + 1):
        blocks[f"block{block}"] = ElasticBlock(stage, max(stage.widths), is_first=False)
    return nn.ModuleDict(blocks)


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


class ResNetSupernet(Supernet[NetworkShape]):
    """A ResNet whose stages have elastic depth, widths and inner widths."""

    spec: ResNetSpec

    def __init__(self, spec: ResNetSpec, settings: dict[str, Any]) -> None:
        super().__init__(spec.space(), settings, spec)
        stem = DeepElasticStem if spec.stem.inner_widths else ElasticStem
        self.stem = stem(spec.in_channels, spec.stem)
        self.stages = nn.ModuleDict()
        width = max(spec.stem.widths)
        for stage in spec.stages:
            self.stages[stage.name] = _elastic_stage(stage, width)
            width = max(stage.widths)
        self.classifier = ElasticLinear(width, spec.num_classes)
        self.activate(self.space.largest)

    def _running_blocks(
        self, shape: NetworkShape
    ) -> Iterator[tuple[str, ElasticBlock, BlockShape]]:
        """The blocks that a shape lets run, the first ones of each stage, with their names."""
        for (stage_name, stage), shapes in zip(self.stages.items(), shape.stages, strict=True):
            blocks = cast(nn.ModuleDict, stage).items()
            for (name, block), block_shape in zip(blocks, shapes, strict=False):
                yield f"{stage_name}_{name}", cast(ElasticBlock, block), block_shape

    def _blocks(self) -> Iterator[tuple[Stage, int, ElasticBlock]]:
        """All blocks, with their stage and number."""
        for spec, stage in zip(self.spec.stages, self.stages.values(), strict=True):
            for number, block in enumerate(cast(nn.ModuleDict, stage).values(), 1):
                yield spec, number, cast(ElasticBlock, block)

    @property
    def output_layer(self) -> nn.Module:
        """The classifier."""
        return self.classifier

    def residual_ends(self) -> list[nn.Module]:
        """The normalization after the last convolution of each block."""
        return [cast(ElasticConvNorm, block.convs[-1]).norm for _, _, block in self._blocks()]

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """The first and the last convolution of each block."""
        convs = [
            [cast(ElasticConvNorm, c).conv for c in block.convs] for _, _, block in self._blocks()
        ]
        return [(of_block[0], of_block[-1]) for of_block in convs]

    def channel_groups(self) -> list[ChannelGroup]:
        """Those inside of each block."""
        return [
            group
            for s, number, block in self._blocks()
            for group in block.channel_groups(s, number)
        ]

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """Images (B, I, H, W) -> logits (B, num_classes)."""
        if x_BIHW.device.type == "cpu":  # where convolutions take two thirds of the time so
            x_BIHW = x_BIHW.to(memory_format=torch.channels_last)
        x = self.stem(x_BIHW, self.shape.stem)
        for _, block, shape in self._running_blocks(self.shape):
            x = block(x, shape)
        return self.classifier(x.mean((2, 3)), self.spec.num_classes)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Standard normal images, of the type and on the device of the weights."""
        side = self.spec.image_size
        size = (batch_size, self.spec.in_channels, side, side)
        x_BIHW = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return (x_BIHW.to(next(self.parameters())),)

    def shape_of(self, architecture: Architecture) -> NetworkShape:
        """The active sizes of the stem and of every block that runs."""
        stem = self.spec.stem.shape(architecture)
        shapes, in_channels = [], stem[-1]
        for stage in self.spec.stages:
            shapes.append(_stage_shape(stage, architecture, in_channels))
            in_channels = shapes[-1][-1].widths[-1]
        return NetworkShape(stem, tuple(shapes))

    def extract_shape(self, shape: NetworkShape) -> nn.Module:
        """A plain sequence: stem, blocks, classifier."""
        network = nn.Sequential()
        network.add_module("stem", self.stem.extract(self.spec.in_channels, shape.stem))
        for name, block, block_shape in self._running_blocks(shape):
            network.add_module(name, block.extract(block_shape))
        for name, layer in self._extract_head(shape.features).named_children():
            network.add_module(name, layer)
        return network

    def _extract_head(self, features: int) -> nn.Sequential:
        head = nn.Sequential()
        head.add_module("pool", nn.AdaptiveAvgPool2d(1))
        head.add_module("flatten", nn.Flatten())
        head.add_module("classifier", self.classifier.extract(features, self.spec.num_classes))
        return head

    def _stem_block(self, widths: tuple[int, ...]) -> Block:
        spec = self.spec
        key = f"stem {spec.in_channels}x{spec.image_size} out {', '.join(map(str, widths))}"
        shape = (spec.in_channels, spec.image_size, spec.image_size)
        return Block(key, shape, partial(self.stem.extract, spec.in_channels, widths))

    def _head_block(self, features: int, side: int) -> Block:
        shape = (features, side, side)
        return Block(f"head {features}x{side}", shape, partial(self._extract_head, features))

    def blocks_of_shape(self, shape: NetworkShape) -> list[Block]:
        """Stem, residual blocks, head."""
        blocks = [self._stem_block(shape.stem)]
        side = math.ceil(self.spec.image_size / self.stem.stride)
        for _, block, block_shape in self._running_blocks(shape):
            blocks.append(block.named(block_shape, side))
            side = math.ceil(side / block.stride)
        return [*blocks, self._head_block(shape.features, side)]

    def distinct_blocks(self) -> dict[str, Block]:
        """Every combination of the sizes that one block depends on."""
        return by_key(self._possible_blocks())

    def _possible_blocks(self) -> Iterator[Block]:
        spec = self.spec
        yield from (self._stem_block(widths) for widths in spec.stem.possible_shapes())
        side = math.ceil(spec.image_size / self.stem.stride)
        in_widths = spec.stem.widths
        for stage, number, block in self._blocks():
            for widths in stage.possible_widths():
                inherits = number > 1 and stage.has_one_width
                for in_width in widths[-1:] if inherits else in_widths:
                    yield block.named(BlockShape(in_width, widths), side)
            side, in_widths = math.ceil(side / block.stride), stage.widths
        yield from (self._head_block(width, side) for width in in_widths)

    def searchable(self) -> Searchable:
        """Stem, convolutions and depths; of a stem of several convolutions, only its width."""
        layers, stages = [], []
        stem = "stem.last" if self.spec.stem.inner_widths else "stem.conv"
        layers.append(ShapedLayer(stem, "stem.width", lambda shape: shape.stem[-1]))
        for index, stage in enumerate(self.spec.stages):
            blocks = list(cast(nn.ModuleDict, self.stages[stage.name]).items())
            names = tuple(f"stages.{stage.name}.{name}" for name, _ in blocks)
            stages.append(ElasticStage(f"{stage.name}.depth", names))
            for number, (name, (_, block)) in enumerate(zip(names, blocks, strict=True), 1):
                layers += cast(ElasticBlock, block).shaped_layers(stage, index, number, name)
        return Searchable(tuple(layers), tuple(stages), tuple(self._cost_terms()))

    def _cost_terms(self) -> Iterator[CostTerm]:
        spec = self.spec
        stem_dimensions = tuple(dimension.name for dimension in spec.stem.dimensions())
        yield CostTerm({}, stem_dimensions, self._stem_piece)
        side = math.ceil(spec.image_size / self.stem.stride)
        sources = [_Source({}, "stem.width", lambda choices: spec.stem.shape(choices)[-1])]
        for stage in spec.stages:
            blocks = cast(nn.ModuleDict, self.stages[stage.name]).values()
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
                sources = [
                    output for depth, output in enumerate(outputs, 1) if depth in stage.depths
                ]
        for source in sources:
            piece = partial(self._head_piece, source.width, side)
            yield CostTerm(source.conditions, (source.dimension,), piece)

    def _stem_piece(self, choices: Choices) -> tuple[Counts, Block]:
        shape = self.spec.stem.shape(choices)
        counts = self.stem.count(self.spec.in_channels, shape, self.spec.image_size)
        return counts, self._stem_block(shape)

    def _head_piece(
        self, width: Callable[[Choices], int], side: int, choices: Choices
    ) -> tuple[Counts, Block]:
        features = width(choices)
        counts = self.classifier.count(features, self.spec.num_classes)
        return counts, self._head_block(features, side)

    def count_shape(self, shape: NetworkShape) -> Counts:
        """Counts at the spec's image size."""
        counts = self.stem.count(self.spec.in_channels, shape.stem, self.spec.image_size)
        side = math.ceil(self.spec.image_size / self.stem.stride)
        for _, block, block_shape in self._running_blocks(shape):
            out_side = math.ceil(side / block.stride)
            counts += block.count(block_shape, side, out_side)
            side = out_side
        return counts + self.classifier.count(shape.features, self.spec.num_classes)


def _tiny() -> ResNetSpec:
    """For 8x8 grey images such as scikit-learn's digits: 3 * (9 + 81)^3 architectures."""
    rows = (("stage1", (6, 10, 16), 1), ("stage2", (12, 20, 32), 2), ("stage3", (24, 40, 64), 2))
    stages = tuple(
        BasicStage(name=name, widths=widths, depths=(1, 2), stride=stride)
        for name, widths, stride in rows
    )
    stem = StemSpec(widths=(6, 10, 16))
    return ResNetSpec(stem=stem, stages=stages, in_channels=1, image_size=8, num_classes=10)


def _fashion() -> ResNetSpec:
    """For 28x28 grey images such as Fashion-MNIST: bottlenecks, 2 * (2 * (3 + 9 + 27))^3."""
    rows = (("stage1", (48, 64)), ("stage2", (96, 128)), ("stage3", (192, 256)))
    stages = tuple(
        BottleneckStage(
            name=name,
            widths=widths,
            depths=(1, 2, 3),
            expansion_ratios=(0.125, 0.25, 0.375),
            stride=2,
        )
        for name, widths in rows
    )
    stem = StemSpec(widths=(16, 24))
    return ResNetSpec(stem=stem, stages=stages, in_channels=1, image_size=28, num_classes=10)


def _cifar(num_layers: int, first_stride: int = 1) -> ResNetSpec:
    """The space of TAS on the ResNet for CIFAR with that many layers, 6n + 2.

    Every convolution has int(.3 c), int(.4 c) ... int(.9 c) or c channels, where c are those of
    the original network; a stage keeps one, three, five ... or all of its n blocks, or any number
    of them up to three. So there are 8 * (sum of 64^d over a stage's depths d)^3 architectures.
    """
    num_blocks = (num_layers - 2) // 6
    odd_or_all = {*range(1, num_blocks, 2), num_blocks}
    depths = (1, 2, 3) if num_blocks == 3 else tuple(sorted(odd_or_all))

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(channels * tenths // 10 for tenths in range(3, 11))

    stages = tuple(
        BasicStage(name=f"stage{number}", widths=widths(channels), depths=depths, stride=stride)
        for number, (channels, stride) in enumerate(((16, first_stride), (32, 2), (64, 2)), 1)
    )
    stem = StemSpec(widths=widths(16))
    return ResNetSpec(stem=stem, stages=stages, in_channels=3, image_size=32, num_classes=10)


def _fashion_basic() -> ResNetSpec:
    """TAS's kind of space for 28x28 grey images such as Fashion-MNIST: two blocks a stage.

    All stages have a stride of 2, which makes it four times cheaper than a ResNet for CIFAR.
    """
    return replace(_cifar(14, first_stride=2), in_channels=1, image_size=28)


def _once_for_all() -> ResNetSpec:
    """Once-for-all's space on ResNet-50: 2 * 2 * 3^5 * 117^3 * 1053 architectures.

    A stage has 2, 2, 4 or 2 blocks and up to two more; 117 = 3^2 + 3^3 + 3^4 counts the expansion
    ratios of the short stages, 1053 = 3^4 + 3^5 + 3^6 those of the long one. Widths are 0.65, 0.8
    and 1 times those of ResNet-50, rounded to eights.

    Once-for-all writes 3^29 genomes: 5 depths, 18 ratios and 6 width multipliers of three choices
    each. They name the architectures here, some several times: ratios of blocks that do not run
    matter nothing; of the stem's three depths two compute the same; and of its inner widths 0.65
    and 0.8 both round to 24 channels.
    """

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(round_channels(channels * multiplier) for multiplier in (0.65, 0.8, 1.0))

    rows = ((256, 2, 1), (512, 2, 2), (1024, 4, 2), (2048, 2, 2))  # channels, least depth, stride
    stages = tuple(
        BottleneckStage(
            name=f"stage{number}",
            widths=widths(channels),
            depths=(depth, depth + 1, depth + 2),
            expansion_ratios=(0.2, 0.25, 0.35),
            stride=stride,
        )
        for number, (channels, depth, stride) in enumerate(rows, 1)
    )
    stem = StemSpec(widths=widths(64), inner_widths=(24, 32))
    return ResNetSpec(stem=stem, stages=stages, in_channels=3, image_size=224, num_classes=1000)


RESNET = SupernetFamily(
    name="resnet",
    presets={
        "tiny": _tiny(),
        "fashion": _fashion(),
        "fashion_basic": _fashion_basic(),
        "ofa_resnet50": _once_for_all(),
        **{f"cifar_resnet{layers}": _cifar(layers) for layers in (20, 32, 44, 56, 110)},
    },
    settings=("in_channels", "image_size", "num_classes"),
    supernet=ResNetSupernet,
)
