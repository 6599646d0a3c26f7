"""Elastic blocks of MobileNetV3: inverted residuals whose sizes are arguments, and stages of them.

Shape legend: B batch, I input channels, O output channels, H height, W width.
"""

from collections.abc import Iterator
from functools import partial
from typing import cast

from torch import Tensor, nn

from nasbench.supernet.blocks import Block
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.families.mobilenet_v3.spec import (
    BlockShape,
    NetworkShape,
    StageSpec,
    inner_channels,
)
from nasbench.supernet.layers import (
    Counts,
    ElasticConv2d,
    ElasticConvNorm,
    ElasticDepthwiseConv2d,
    ElasticSqueezeExcitation,
)
from nasbench.supernet.plain import Residual
from nasbench.supernet.searchable import ShapedLayer


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
        inner = inner_channels(in_width, max(stage.expansion_ratios))

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
                ratio: {inner_channels(width, ratio) for width in in_widths}
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


def elastic_stage(stage: StageSpec, in_widths: tuple[int, ...]) -> nn.ModuleDict:
    """All blocks that a stage can run, by name: "block1" and so on.

    Args:
        in_widths: the input channels that there can be.
    """
    blocks = {"block1": ElasticBlock(stage, in_widths, is_first=True)}
    for block in range(2, max(stage.depths) + 1):
        blocks[f"block{block}"] = ElasticBlock(stage, stage.widths, is_first=False)
    return nn.ModuleDict(blocks)
