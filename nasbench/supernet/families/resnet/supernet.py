"""The ResNet supernet and its family, the entry of the registry.

Shape legend: B batch, I input channels, H height, W width.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasbench.space import Architecture
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.blocks import Block, by_key
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.families.resnet.blocks import ElasticBlock, elastic_stage
from nasbench.supernet.families.resnet.cost_terms import cost_terms
from nasbench.supernet.families.resnet.presets import PRESETS
from nasbench.supernet.families.resnet.spec import (
    BlockShape,
    NetworkShape,
    ResNetSpec,
    Stage,
    stage_shape,
)
from nasbench.supernet.families.resnet.stems import DeepElasticStem, ElasticStem
from nasbench.supernet.layers import Counts, ElasticConvNorm, ElasticLinear
from nasbench.supernet.searchable import Choices, ElasticStage, Searchable, ShapedLayer
from nasbench.supernet.sharing import ElasticLayer


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
            self.stages[stage.name] = elastic_stage(stage, width)
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
            shapes.append(stage_shape(stage, architecture, in_channels))
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
        terms = cost_terms(
            self.spec, self.stages, self.stem.stride, self._stem_piece, self._head_piece
        )
        return Searchable(tuple(layers), tuple(stages), tuple(terms))

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


RESNET = SupernetFamily(
    name="resnet",
    presets=PRESETS,
    settings=("in_channels", "image_size", "num_classes"),
    supernet=ResNetSupernet,
)
