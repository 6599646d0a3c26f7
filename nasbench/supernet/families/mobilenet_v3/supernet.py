"""The MobileNetV3 supernet and its family, the entry of the registry.

Shape legend: B batch, I input channels, F features, H height, W width.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasbench.space import Architecture
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.blocks import Block, by_key
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.families.mobilenet_v3.blocks import ElasticBlock, elastic_stage
from nasbench.supernet.families.mobilenet_v3.cost_terms import cost_terms
from nasbench.supernet.families.mobilenet_v3.presets import PRESETS
from nasbench.supernet.families.mobilenet_v3.spec import (
    BlockShape,
    MobileNetV3Spec,
    NetworkShape,
    StageSpec,
    inner_channels,
)
from nasbench.supernet.layers import (
    ACTIVATIONS,
    Counts,
    ElasticConv2d,
    ElasticConvNorm,
    ElasticLinear,
)
from nasbench.supernet.plain import ResizeImages, resize_images
from nasbench.supernet.searchable import Choices, ElasticStage, Searchable, ShapedLayer
from nasbench.supernet.sharing import ElasticLayer
from nasbench.supernet.stages import choice_of


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
            self.stages[stage.name] = elastic_stage(stage, widths)
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
                        inner = inner_channels(in_width, ratio)
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
        terms = cost_terms(spec, self.stages, self._stem_piece, self._head_piece)
        return Searchable(tuple(layers), tuple(stages), tuple(terms))

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


MOBILENET_V3 = SupernetFamily(
    name="mobilenet_v3",
    presets=PRESETS,
    settings=("in_channels", "image_size", "num_classes"),
    supernet=MobileNetV3Supernet,
)
