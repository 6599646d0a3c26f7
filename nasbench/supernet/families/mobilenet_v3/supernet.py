"""MobileNetV3 supernets: inverted residual blocks with elastic depth, width, kernel and expansion.

The network of Howard et al. (ICCV 2019) with the elasticity of Once-for-all (Cai et al., ICLR
2020): a stem, stages of blocks, and a head. These dimensions exist where there is more than one
choice:

    resolution                      side of the images that the network computes with
    stem.width                      output channels of the stem
    stage1.depth                    how many blocks run, always the first ones
    stage1.width                    output channels of its blocks
    stage1.block1.kernel_size       of the block's depthwise convolution
    stage1.block1.expansion_ratio   the block's inner channels per input channel
    features.width                  features that the classifier sees

A uniform stage has one `stage1.kernel_size` and one `stage1.expansion_ratio` for all its blocks,
as in AttentiveNAS (Wang et al., CVPR 2021).

Each changes parameters, MACs and output; but resolution changes no parameters. A block's
dimensions are inactive at depths that leave it out. Where resolution is elastic, images of
another size are resized on the way in, by the extracted module too; elsewhere images are taken as
they come, and `image_size` only says where MACs are counted.

Shape legend: B batch, I input channels, O output channels, F features, H height, W width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.space import Architecture, ElasticDimension, SearchSpace
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.blocks import Block, by_key
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import (
    ACTIVATIONS,
    Counts,
    ElasticConv2d,
    ElasticConvNorm,
    ElasticDepthwiseConv2d,
    ElasticLinear,
    ElasticSqueezeExcitation,
    round_channels,
)
from nasbench.supernet.plain import Residual, ResizeImages, resize_images
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
    """The active sizes of one block."""

    in_channels: int
    inner_channels: int
    kernel_size: int
    out_channels: int


def _inner_channels(in_channels: int, expansion_ratio: float) -> int:
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
        return BlockShape(in_channels, _inner_channels(in_channels, ratio), kernel_size, width)


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
                inner = [_inner_channels(width, ratio) for ratio in stage.expansion_ratios]
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


class ElasticBlock(nn.Module):
    """Inverted residual block: expand, filter each channel, gate, project.

    Args:
        in_widths: the input channels that there can be.
        is_first: whether it begins its stage, and so has the stage's stride.
    """

    def __init__(self, stage: StageSpec, in_widths: tuple[int, ...], is_first: bool) -> None:
        super().__init__()
        self.stride = stage.stride if is_first else 1
        self.activation = stage.activation
        keeps_width = in_widths == stage.widths and len(stage.widths) == 1
        self.is_residual = not is_first or (self.stride == 1 and keeps_width)
        in_width, out_width = max(in_widths), max(stage.widths)
        inner = _inner_channels(in_width, max(stage.expansion_ratios))

        self.expand: ElasticConvNorm | None = None
        if stage.expansion_ratios != (1,):
            conv = ElasticConv2d(in_width, inner)
            self.expand = ElasticConvNorm(conv, inner, stage.activation)
        depthwise = ElasticDepthwiseConv2d(inner, stage.kernel_sizes, stride=self.stride)
        self.depthwise = ElasticConvNorm(depthwise, inner, stage.activation)
        self.gate: ElasticSqueezeExcitation | None = None
        if stage.has_squeeze_excitation:
            self.gate = ElasticSqueezeExcitation(inner)
        project = ElasticConv2d(inner, out_width)
        self.project = ElasticConvNorm(project, out_width)

    def forward(self, x_BIHW: Tensor, shape: BlockShape) -> Tensor:
        """(B, I, H, W) -> (B, O, H / stride, W / stride)."""
        y = x_BIHW if self.expand is None else self.expand(x_BIHW, shape.inner_channels)
        y = self.depthwise(y, shape.kernel_size)
        y = y if self.gate is None else self.gate(y)
        y_BOHW = self.project(y, shape.out_channels)
        return x_BIHW + y_BOHW if self.is_residual else y_BOHW

    def channel_group(
        self, stage: StageSpec, in_widths: tuple[int, ...], block: str
    ) -> ChannelGroup | None:
        """The channels between expansion and projection, where their number is elastic."""
        if self.expand is None or len(stage.expansion_ratios) == 1:
            return None
        writers = [self.expand.reorder_outputs, self.depthwise.reorder_outputs]
        if self.gate is not None:
            writers.append(self.gate.reorder)
        name = stage.name if stage.is_uniform else f"{stage.name}.{block}"
        return ChannelGroup(
            dimension=f"{name}.expansion_ratio",
            widths_at={
                ratio: {_inner_channels(width, ratio) for width in in_widths}
                for ratio in stage.expansion_ratios
            },
            writers=writers,
            reader=self.project.conv.shared,
        )

    def shaped_layers(
        self, stage: StageSpec, stage_index: int, number: int, name: str
    ) -> Iterator[ShapedLayer]:
        """Its convolutions; `name` is that of the block as a module."""

        def size_of(part: str, shape: NetworkShape) -> int:
            return cast(int, getattr(shape.stages[stage_index][number - 1], part))

        ratio, kernel_size = (stage.of_block(number, s) for s in ("expansion_ratio", "kernel_size"))
        if self.expand is not None:
            yield ShapedLayer(f"{name}.expand", ratio, partial(size_of, "inner_channels"))
        yield ShapedLayer(f"{name}.depthwise", kernel_size, partial(size_of, "kernel_size"))
        yield ShapedLayer(
            f"{name}.project", f"{stage.name}.width", partial(size_of, "out_channels")
        )

    def named(self, shape: BlockShape, in_side: int) -> Block:
        """The plain block of this shape as something to be timed, for images of this side."""
        expanded = "" if self.expand is None else f" expand {shape.inner_channels}"
        key = (
            f"block {shape.in_channels}x{in_side}{expanded} {self.activation}"
            f" kernel {shape.kernel_size}/{self.stride}"
            f"{' gate' if self.gate else ''} out {shape.out_channels}"
            f"{' residual' if self.is_residual else ''}"
        )
        return Block(key, (shape.in_channels, in_side, in_side), partial(self.extract, shape))

    def extract(self, shape: BlockShape) -> nn.Module:
        """The plain block of this shape."""
        inner = shape.inner_channels
        body = nn.Sequential()
        if self.expand is not None:
            body.add_module("expand", self.expand.extract(shape.in_channels, inner))
        body.add_module("depthwise", self.depthwise.extract(inner, shape.kernel_size))
        if self.gate is not None:
            body.add_module("gate", self.gate.extract(inner))
        body.add_module("project", self.project.extract(inner, shape.out_channels))
        return Residual(body) if self.is_residual else body

    def count(self, shape: BlockShape, in_side: int, out_side: int) -> Counts:
        """Counts of the plain block of this shape, between square images of these sides."""
        inner = shape.inner_channels
        counts = self.depthwise.count(inner, shape.kernel_size, out_side**2)
        counts += self.project.count(inner, shape.out_channels, out_side**2)
        if self.expand is not None:
            counts += self.expand.count(shape.in_channels, inner, in_side**2)
        if self.gate is not None:
            counts += self.gate.count(inner)
        return counts


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


def _elastic_stage(stage: StageSpec, in_widths: tuple[int, ...]) -> nn.ModuleDict:
    blocks = {"block1": ElasticBlock(stage, in_widths, is_first=True)}
    for block in range(2, max(stage.depths) + 1):
        blocks[f"block{block}"] = ElasticBlock(stage, stage.widths, is_first=False)
    return nn.ModuleDict(blocks)


class MobileNetV3Supernet(Supernet[NetworkShape]):
    """A MobileNetV3 whose stages have elastic depth, width, kernel size and expansion ratio."""

    spec: MobileNetV3Spec

    def __init__(self, spec: MobileNetV3Spec, settings: dict[str, Any]) -> None:
        super().__init__(spec.space(), settings, spec)
        stem_width, activation = max(spec.stem_widths), spec.activation
        stem = ElasticConv2d(spec.in_channels, stem_width, 3, stride=spec.stem_stride)
        self.stem = ElasticConvNorm(stem, stem_width, activation)
        self.stages = nn.ModuleDict()
        widths = spec.stem_widths
        for stage in spec.stages:
            self.stages[stage.name] = _elastic_stage(stage, widths)
            widths = stage.widths
        final_width, feature_width = max(spec.final_widths), max(spec.feature_widths)
        final = ElasticConv2d(max(widths), final_width)
        self.final = ElasticConvNorm(final, final_width, activation)
        self.features = ElasticLinear(final_width, feature_width)
        self.activation = ACTIVATIONS[activation]()
        self.classifier = ElasticLinear(feature_width, spec.num_classes)
        self.activate(self.space.largest)

    def _running_blocks(
        self, shape: NetworkShape
    ) -> Iterator[tuple[str, ElasticBlock, BlockShape]]:
        """The blocks that a shape lets run, the first ones of each stage, with their names."""
        for (stage_name, stage), shapes in zip(self.stages.items(), shape.stages, strict=True):
            blocks = cast(nn.ModuleDict, stage).items()
            for (name, block), block_shape in zip(blocks, shapes, strict=False):
                yield f"{stage_name}_{name}", cast(ElasticBlock, block), block_shape

    def _blocks(self) -> Iterator[tuple[StageSpec, tuple[int, ...], str, ElasticBlock]]:
        """All blocks, with their stage, the input channels that there can be, and their names."""
        in_widths = self.spec.stem_widths
        for spec, stage in zip(self.spec.stages, self.stages.values(), strict=True):
            for name, block in cast(nn.ModuleDict, stage).items():
                yield spec, in_widths, name, cast(ElasticBlock, block)
                in_widths = spec.widths

    @property
    def output_layer(self) -> nn.Module:
        """The classifier."""
        return self.classifier

    def residual_ends(self) -> list[nn.Module]:
        """The normalization after each projection."""
        return [b.project.norm for _, _, _, b in self._blocks() if b.is_residual]

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """The expansion and the projection of each block."""
        blocks = [(block.expand, block.project) for _, _, _, block in self._blocks()]
        return [tuple(layer.conv for layer in layers if layer is not None) for layers in blocks]

    def channel_groups(self) -> list[ChannelGroup]:
        """Those inside of each block."""
        groups = (block.channel_group(spec, w, name) for spec, w, name, block in self._blocks())
        return [group for group in groups if group is not None]

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """Images (B, I, H, W) -> logits (B, num_classes)."""
        shape = self.shape
        if shape.resolution is not None:
            x_BIHW = resize_images(x_BIHW, shape.resolution)
        if x_BIHW.device.type == "cpu":  # where depthwise gradients are four times faster so
            x_BIHW = x_BIHW.to(memory_format=torch.channels_last)
        x = self.stem(x_BIHW, shape.stem_width)
        for _, block, block_shape in self._running_blocks(shape):
            x = block(x, block_shape)
        pooled_BF = self.final(x, shape.final_width).mean((2, 3))
        features_BF = self.activation(self.features(pooled_BF, shape.feature_width))
        return self.classifier(features_BF, self.spec.num_classes)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Standard normal images, of the type and on the device of the weights."""
        side = self.spec.image_size
        size = (batch_size, self.spec.in_channels, side, side)
        x_BIHW = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return (x_BIHW.to(self.final.norm.weight),)

    def shape_of(self, architecture: Architecture) -> NetworkShape:
        """The active sizes of everything that is computed."""
        spec = self.spec
        stem_width = in_channels = choice_of(architecture, "stem.width", spec.stem_widths)
        stages = []
        for stage in spec.stages:
            stages.append(stage.shape(architecture, in_channels))
            in_channels = stages[-1][-1].out_channels
        return NetworkShape(
            resolution=cast(int | None, architecture.get("resolution")),
            stem_width=stem_width,
            stages=tuple(stages),
            final_width=spec.final_widths[spec.stages[-1].widths.index(in_channels)],
            feature_width=choice_of(architecture, "features.width", spec.feature_widths),
        )

    def extract_shape(self, shape: NetworkShape) -> nn.Module:
        """A plain sequence: resizing where resolution is elastic, stem, blocks, head."""
        network = self._extract_stem(shape.resolution, shape.stem_width)
        for name, block, block_shape in self._running_blocks(shape):
            network.add_module(name, block.extract(block_shape))
        out_channels = shape.stages[-1][-1].out_channels
        head = self._extract_head(out_channels, shape.final_width, shape.feature_width)
        for name, layer in head.named_children():
            network.add_module(name, layer)
        return network

    def _extract_stem(self, resolution: int | None, width: int) -> nn.Sequential:
        stem = nn.Sequential()
        if resolution is not None:
            stem.add_module("resize", ResizeImages(resolution))
        stem.add_module("stem", self.stem.extract(self.spec.in_channels, width))
        return stem

    def _extract_head(
        self, in_channels: int, final_width: int, feature_width: int
    ) -> nn.Sequential:
        head = nn.Sequential()
        head.add_module("final", self.final.extract(in_channels, final_width))
        head.add_module("pool", nn.AdaptiveAvgPool2d(1))
        head.add_module("flatten", nn.Flatten())
        head.add_module("features", self.features.extract(final_width, feature_width))
        head.add_module("activation", type(self.activation)())
        classifier = self.classifier.extract(feature_width, self.spec.num_classes)
        head.add_module("classifier", classifier)
        return head

    def _stem_block(self, resolution: int | None, width: int) -> Block:
        spec = self.spec
        resized = "" if resolution in (None, spec.image_size) else f" resized to {resolution}"
        key = f"stem {spec.in_channels}x{spec.image_size}{resized} out {width}"
        shape = (spec.in_channels, spec.image_size, spec.image_size)
        return Block(key, shape, partial(self._extract_stem, resolution, width))

    def _head_block(self, in_channels: int, side: int, final: int, features: int) -> Block:
        key = f"head {in_channels}x{side} final {final} features {features}"
        make = partial(self._extract_head, in_channels, final, features)
        return Block(key, (in_channels, side, side), make)

    def blocks_of_shape(self, shape: NetworkShape) -> list[Block]:
        """Stem, inverted residual blocks, head."""
        blocks = [self._stem_block(shape.resolution, shape.stem_width)]
        side = math.ceil((shape.resolution or self.spec.image_size) / self.spec.stem_stride)
        for _, block, block_shape in self._running_blocks(shape):
            blocks.append(block.named(block_shape, side))
            side = math.ceil(side / block.stride)
        out_channels = shape.stages[-1][-1].out_channels
        head = self._head_block(out_channels, side, shape.final_width, shape.feature_width)
        return [*blocks, head]

    def distinct_blocks(self) -> dict[str, Block]:
        """Every combination of a resolution with the sizes that one block depends on."""
        return by_key(self._possible_blocks())

    def _possible_blocks(self) -> Iterator[Block]:
        spec = self.spec
        for resolution in spec.possible_resolutions() or (None,):
            for width in spec.stem_widths:
                yield self._stem_block(resolution, width)
            side = math.ceil((resolution or spec.image_size) / spec.stem_stride)
            for stage, in_widths, _, block in self._blocks():
                for width, kernel, ratio in product(
                    stage.widths, stage.kernel_sizes, stage.expansion_ratios
                ):
                    keeps = block.is_residual and in_widths == stage.widths
                    for in_width in (width,) if keeps else in_widths:
                        inner = _inner_channels(in_width, ratio)
                        yield block.named(BlockShape(in_width, inner, kernel, width), side)
                side = math.ceil(side / block.stride)
            for (width, final), features in product(
                zip(spec.stages[-1].widths, spec.final_widths, strict=True), spec.feature_widths
            ):
                yield self._head_block(width, side, final, features)

    def searchable(self) -> Searchable:
        """All but the resolution."""
        spec, layers, stages = self.spec, [], []
        layers.append(ShapedLayer("stem", "stem.width", lambda shape: shape.stem_width))
        for index, stage in enumerate(spec.stages):
            blocks = list(cast(nn.ModuleDict, self.stages[stage.name]).items())
            names = tuple(f"stages.{stage.name}.{name}" for name, _ in blocks)
            stages.append(ElasticStage(f"{stage.name}.depth", names))
            for number, (name, (_, block)) in enumerate(zip(names, blocks, strict=True), 1):
                layers += cast(ElasticBlock, block).shaped_layers(stage, index, number, name)
        if len(set(spec.final_widths)) > 1:
            of_last = f"{spec.stages[-1].name}.width"
            layers.append(ShapedLayer("final", of_last, lambda shape: shape.final_width))
        layers.append(ShapedLayer("features", "features.width", lambda shape: shape.feature_width))
        return Searchable(tuple(layers), tuple(stages), tuple(self._cost_terms()))

    def _cost_terms(self) -> Iterator[CostTerm]:
        spec = self.spec
        resolution = max(spec.possible_resolutions(), default=None)
        side = math.ceil((resolution or spec.image_size) / spec.stem_stride)
        yield CostTerm({}, ("stem.width",), partial(self._stem_piece, resolution, side))
        source, in_widths = "stem.width", spec.stem_widths
        for stage, modules in zip(spec.stages, self.stages.values(), strict=True):
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
        yield CostTerm({}, (source, "features.width"), partial(self._head_piece, side))

    def _stem_piece(
        self, resolution: int | None, side: int, choices: Choices
    ) -> tuple[Counts, Block]:
        width = choice_of(choices, "stem.width", self.spec.stem_widths)
        counts = self.stem.count(self.spec.in_channels, width, side**2)
        return counts, self._stem_block(resolution, width)

    def _head_piece(self, side: int, choices: Choices) -> tuple[Counts, Block]:
        spec = self.spec
        last = spec.stages[-1]
        width = choice_of(choices, f"{last.name}.width", last.widths)
        final = spec.final_widths[last.widths.index(width)]
        features = choice_of(choices, "features.width", spec.feature_widths)
        counts = self._count_head(width, final, features, side)
        return counts, self._head_block(width, side, final, features)

    def _count_head(self, width: int, final: int, features: int, side: int) -> Counts:
        counts = self.final.count(width, final, side**2) + self.features.count(final, features)
        return counts + self.classifier.count(features, self.spec.num_classes)

    def count_shape(self, shape: NetworkShape) -> Counts:
        """Counts at the active resolution, or at the spec's image size where there is none."""
        spec = self.spec
        side = math.ceil((shape.resolution or spec.image_size) / spec.stem_stride)
        counts = self.stem.count(spec.in_channels, shape.stem_width, side**2)
        for _, block, block_shape in self._running_blocks(shape):
            out_side = math.ceil(side / block.stride)
            counts += block.count(block_shape, side, out_side)
            side = out_side
        width = shape.stages[-1][-1].out_channels
        return counts + self._count_head(width, shape.final_width, shape.feature_width, side)


def _tiny() -> MobileNetV3Spec:
    """For 8x8 grey images such as scikit-learn's digits; trains in seconds on one core.

    Images are at least 4x4 wherever there is a 7x7 kernel, so that all of the kernel matters.
    """
    rows = (  # name, widths, depths, stride
        ("stage1", (4, 8, 16), (1, 2), 1),
        ("stage2", (8, 16, 24), (1, 2, 3), 2),
        ("stage3", (8, 24, 40), (1, 2, 3), 1),
    )
    stages = tuple(
        StageSpec(
            name=name,
            widths=widths,
            depths=depths,
            kernel_sizes=(3, 5, 7),
            expansion_ratios=(1, 2, 3),
            stride=stride,
        )
        for name, widths, depths, stride in rows
    )
    return MobileNetV3Spec(
        stem_widths=(8,),
        stem_stride=1,
        stages=stages,
        final_widths=(64, 64, 64),
        feature_widths=(64,),
        in_channels=1,
        image_size=8,
        num_classes=10,
    )


def _once_for_all(width_multiplier: float) -> MobileNetV3Spec:
    """Once-for-all's space on MobileNetV3-Large: 25 * 7371^5 architectures.

    A stage has 9^2 + 9^3 + 9^4 = 7371 of them: kernel sizes and expansion ratios of its blocks.
    There are 25 resolutions, 128 to 224.
    """

    def width(channels: int) -> int:
        return round_channels(channels * width_multiplier)

    fixed = StageSpec(
        name="stage0",
        widths=(width(16),),
        depths=(1,),
        kernel_sizes=(3,),
        expansion_ratios=(1,),
        stride=1,
    )
    rows = (  # channels, stride, activation, squeeze-and-excitation
        (24, 2, "relu", False),
        (40, 2, "relu", True),
        (80, 2, "hard_swish", False),
        (112, 1, "hard_swish", True),
        (160, 2, "hard_swish", True),
    )
    stages = (
        StageSpec(
            name=f"stage{number}",
            widths=(width(channels),),
            depths=(2, 3, 4),
            kernel_sizes=(3, 5, 7),
            expansion_ratios=(3, 4, 6),
            stride=stride,
            activation=activation,
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (channels, stride, activation, has_squeeze_excitation) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=(width(16),),
        stem_stride=2,
        stages=(fixed, *stages),
        final_widths=(width(960),),
        feature_widths=(width(1280),),
        in_channels=3,
        image_size=224,
        num_classes=1000,
        resolutions=tuple(range(128, 225, 4)),
    )


def _attentive_nas() -> MobileNetV3Spec:
    """The space of AttentiveNAS (Wang et al., CVPR 2021): 440,301,256,704 architectures.

    That is 4 resolutions, 2 stem widths, 8 * 36 * 48 * 48 * 108 * 48 * 8 choices in the uniform
    stages, and 2 widths of what the paper calls the last convolution: the features of a head like
    MobileNetV3's, after a convolution to six times the width of the last stage and pooling.

    First blocks of stages have no shortcut here. The paper's have projections, 5 of the 203
    million MACs of its smallest network, A0.
    """
    rows = (  # widths, depths, expansion ratios, stride, squeeze-and-excitation
        ((16, 24), (1, 2), (1,), 1, False),
        ((24, 32), (3, 4, 5), (4, 5, 6), 2, False),
        ((32, 40), (3, 4, 5, 6), (4, 5, 6), 2, True),
        ((64, 72), (3, 4, 5, 6), (4, 5, 6), 2, False),
        ((112, 120, 128), (3, 4, 5, 6, 7, 8), (4, 5, 6), 1, True),
        ((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (6,), 2, True),
        ((216, 224), (1, 2), (6,), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths,
            depths=depths,
            kernel_sizes=(3, 5),
            expansion_ratios=expansion_ratios,
            stride=stride,
            activation="swish",
            has_squeeze_excitation=has_squeeze_excitation,
            is_uniform=True,
        )
        for number, (widths, depths, expansion_ratios, stride, has_squeeze_excitation) in enumerate(
            rows, 1
        )
    )
    return MobileNetV3Spec(
        stem_widths=(16, 24),
        stem_stride=2,
        stages=stages,
        final_widths=(6 * 216, 6 * 224),
        feature_widths=(1792, 1984),
        activation="swish",
        in_channels=3,
        image_size=288,
        num_classes=1000,
        resolutions=(192, 224, 256, 288),
    )


def _fashion() -> MobileNetV3Spec:
    """For 28x28 grey images such as Fashion-MNIST: 456,412,320 architectures.

    That is 3 resolutions, and in the stages 2 * (9 + 9^2), 2 * (9 + 9^2 + 9^3) and
    2 * (6 + 6^2 + 6^3) choices. Where there is a 7x7 kernel, images are at least 5x5.
    """
    rows = (  # widths, depths, kernel sizes, stride, squeeze-and-excitation
        ((16, 24), (1, 2), (3, 5, 7), 2, False),
        ((32, 40), (1, 2, 3), (3, 5, 7), 2, False),
        ((64, 80), (1, 2, 3), (3, 5), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths,
            depths=depths,
            kernel_sizes=kernel_sizes,
            expansion_ratios=(2, 3, 4),
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (widths, depths, kernel_sizes, stride, has_squeeze_excitation) in enumerate(
            rows, 1
        )
    )
    return MobileNetV3Spec(
        stem_widths=(16,),
        stem_stride=1,
        stages=stages,
        final_widths=(320, 320),
        feature_widths=(256,),
        in_channels=1,
        image_size=28,
        num_classes=10,
        resolutions=(20, 24, 28),
    )


def _fashion_fine() -> MobileNetV3Spec:
    """As `fashion`, with widths in steps of one channel: for long chains of nested sub-networks.

    A chain that grows by single steps has up to 171 members.
    """
    rows = (  # widths, depths, kernel sizes, expansion ratios, stride, squeeze-and-excitation
        (range(12, 25), (1, 2), (3, 5, 7), (2, 3, 4), 2, False),
        (range(24, 41), (1, 2, 3), (3, 5, 7), (2, 3, 4), 2, False),
        (range(48, 81), (1, 2, 3), (3, 5), (2, 2.5, 3, 3.5, 4), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=tuple(widths),
            depths=depths,
            kernel_sizes=kernel_sizes,
            expansion_ratios=expansion_ratios,
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (
            widths,
            depths,
            kernel_sizes,
            expansion_ratios,
            stride,
            has_squeeze_excitation,
        ) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=tuple(range(12, 17)),
        stem_stride=1,
        stages=stages,
        final_widths=tuple(4 * width for width in stages[-1].widths),
        feature_widths=tuple(range(128, 257, 2)),
        in_channels=1,
        image_size=28,
        num_classes=10,
        resolutions=(20, 24, 28),
    )


def _fashion_small() -> MobileNetV3Spec:
    """For 28x28 grey images such as Fashion-MNIST, with many widths and a strided stem.

    Widths are 0.3, 0.4 ... 1.0 times the largest, as in TAS (Dong and Yang, NeurIPS 2019).
    """

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(channels * tenths // 10 for tenths in range(3, 11))

    rows = (  # channels, depths, stride, squeeze-and-excitation
        (16, (1, 2), 2, False),
        (24, (1, 2, 3), 1, False),
        (40, (1, 2), 2, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths(channels),
            depths=depths,
            kernel_sizes=(3, 5),
            expansion_ratios=(2, 4, 6),
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (channels, depths, stride, has_squeeze_excitation) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=widths(16),
        stem_stride=2,
        stages=stages,
        final_widths=tuple(3 * width for width in widths(40)),
        feature_widths=(64, 96, 128),
        in_channels=1,
        image_size=28,
        num_classes=10,
    )


MOBILENET_V3 = SupernetFamily(
    name="mobilenet_v3",
    presets={
        "tiny": _tiny(),
        "ofa_w1.0": _once_for_all(1.0),
        "ofa_w1.2": _once_for_all(1.2),
        "attentive_nas": _attentive_nas(),
        "fashion": _fashion(),
        "fashion_fine": _fashion_fine(),
        "fashion_small": _fashion_small(),
    },
    settings=("in_channels", "image_size", "num_classes"),
    supernet=MobileNetV3Supernet,
)
