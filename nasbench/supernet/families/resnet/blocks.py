"""Elastic blocks of ResNet, whose sizes are arguments, and stages of them.

Shape legend: B batch, I input channels, O output channels, H height, W width.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.blocks import Block
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.families.resnet.spec import BlockShape, NetworkShape, Stage
from nasbench.supernet.layers import Counts, ElasticConv2d, ElasticConvNorm
from nasbench.supernet.plain import FitChannels, Residual, fit_channels
from nasbench.supernet.searchable import ShapedLayer


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


def elastic_stage(stage: Stage, in_width: int) -> nn.ModuleDict:
    """All blocks that a stage can run, by name: "block1" and so on.

    Args:
        in_width: the largest number of input channels.
    """
    blocks = {"block1": ElasticBlock(stage, in_width, is_first=True)}
    for block in range(2, max(stage.depths) + 1):
        blocks[f"block{block}"] = ElasticBlock(stage, max(stage.widths), is_first=False)
    return nn.ModuleDict(blocks)
