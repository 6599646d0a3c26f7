"""Elastic stems of ResNet: of one convolution, or Once-for-all's of two or three.

Shape legend: B batch, I input channels, O output channels, H height, W width.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.families.resnet.spec import StemSpec
from nasbench.supernet.layers import Counts, ElasticConv2d, ElasticConvNorm
from nasbench.supernet.plain import Residual


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
