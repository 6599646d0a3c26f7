"""Layers that compute two sizes at once, and stages that end at all of their depths.

Shape legend: B batch, I input channels, O output channels of the largest size drawn, C channels,
H height, W width, F features, K choices.
"""

from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.layers import (
    ElasticBatchNorm2d,
    ElasticConvNorm,
    ElasticDepthwiseConv2d,
    ElasticLinear,
)


@lru_cache(maxsize=4096)
def _averages(num_channels: int, num_outputs: int) -> Tensor:
    """Which channels each output averages: (num_outputs, num_channels)."""
    averages = torch.zeros(num_outputs, num_channels)
    for output in range(num_outputs):
        first = output * num_channels // num_outputs
        end = -(-(output + 1) * num_channels // num_outputs)
        averages[output, first:end] = 1 / (end - first)
    return averages


def interpolate_channels(x: Tensor, num_channels: int) -> Tensor:
    """Channel-wise interpolation: (B, C, ...) -> (B, num_channels, ...).

    TAS, section 3.1: adaptive average pooling along the channels, so output i averages the inputs
    from floor(i C / O) to ceil((i + 1) C / O) - 1. Computed as a product with a constant matrix,
    which on a GPU gives the same sums every time, as pooling does not.
    """
    if x.shape[1] == num_channels:
        return x
    averages_OC = _averages(x.shape[1], num_channels).to(x)
    return F.linear(x, averages_OC) if x.ndim == 2 else F.conv2d(x, averages_OC[:, :, None, None])


def _weighted_sum(parts: Sequence[Tensor], weights_K: Tensor) -> Tensor:
    weighted = [weight * part for weight, part in zip(weights_K, parts, strict=True)]
    return sum(weighted[1:], start=weighted[0])


class MixedLayer(nn.Module):
    """A layer that computes the sizes which were selected, and their weighted sum.

    Attributes:
        indices: of the selected choices.
        sizes: of all of them but the largest, which `forward` is told.
        weights_K: of their outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.indices: tuple[int, ...] = ()
        self.sizes: tuple[int, ...] = ()
        self.weights_K = torch.ones(1)

    def select(self, indices: Sequence[int], sizes: Sequence[int], weights_K: Tensor) -> None:
        """What later forward passes compute."""
        self.indices, self.sizes, self.weights_K = tuple(indices), tuple(sizes), weights_K

    def forward(self, x: Tensor, size: int) -> Tensor:
        """What the layer computes at each selected size, the largest of which is `size`."""
        parts = self._parts(x, (*self.sizes, size))
        return self._finish(parts[0] if len(parts) == 1 else _weighted_sum(parts, self.weights_K))

    def _parts(self, x: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
        raise NotImplementedError

    def _finish(self, x: Tensor) -> Tensor:
        return x


class MixedConvNorm(MixedLayer):
    """An elastic convolution with a normalization for each choice of its size.

    Widths are slices of one convolution at the largest of them, interpolated to it; kernel sizes
    are convolutions of their own. The activation comes after the sum.

    Args:
        layer: whose convolution and activation it is.
        num_choices: of its size.
    """

    def __init__(self, layer: ElasticConvNorm, num_choices: int) -> None:
        super().__init__()
        self.conv, self.activation = layer.conv, layer.activation
        channels = layer.norm.weight.numel()
        self.norms = nn.ModuleList(ElasticBatchNorm2d(channels) for _ in range(num_choices))

    def _parts(self, x: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
        norms = [self.norms[index] for index in self.indices]
        if isinstance(self.conv, ElasticDepthwiseConv2d):
            return [norm(self.conv(x, size)) for norm, size in zip(norms, sizes, strict=True)]
        largest = sizes[-1]
        y_BOHW = self.conv(x, largest)
        return [
            interpolate_channels(norm(y_BOHW[:, :size]), largest)
            for norm, size in zip(norms, sizes, strict=True)
        ]

    def _finish(self, x: Tensor) -> Tensor:
        return x if self.activation is None else self.activation(x)


class MixedLinear(MixedLayer):
    """An elastic linear layer whose leading features are interpolated to the largest number."""

    def __init__(self, layer: ElasticLinear) -> None:
        super().__init__()
        self.linear = layer

    def _parts(self, x: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
        y_BF = self.linear(x, sizes[-1])
        return [interpolate_channels(y_BF[:, :size], sizes[-1]) for size in sizes]


class MixedStage:
    """The end of a stage at all of its depths: the weighted sum of what its blocks compute.

    Args:
        blocks: of the stage, in order; what the last one returns is replaced by the sum.
        depths: after which the stage can end.

    Attributes:
        weights_K: of the depths; None runs the blocks that are active, and nothing more.
    """

    def __init__(self, blocks: Sequence[nn.Module], depths: Sequence[int]) -> None:
        self.depths = tuple(depths)
        self.weights_K: Tensor | None = None
        self._ends: list[Tensor] = []
        for number, block in enumerate(blocks, 1):
            block.register_forward_hook(partial(self._after, number))

    def _after(
        self, number: int, _block: nn.Module, _inputs: object, output: Tensor
    ) -> Tensor | None:
        if self.weights_K is None:
            return None
        if number == 1:
            self._ends = []
        if number in self.depths:
            self._ends.append(output)
        if number < max(self.depths):
            return None
        ends, self._ends = self._ends, []
        num_channels = max(end.shape[1] for end in ends)
        ends = [interpolate_channels(end, num_channels) for end in ends]
        return _weighted_sum(ends, self.weights_K)
