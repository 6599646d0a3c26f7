"""Elastic layers: weights stored once at their largest shape and read by leading slice.

Every layer does three things for the sizes it is asked for: `forward` computes with the active
slice, `extract` copies that slice into a plain layer of torch.nn, and `count` says what the plain
layer holds and costs without touching a weight. Sizes are arguments, so a layer has no state that
could disagree with the active architecture; and the input width is read from the input itself,
so a layer always agrees with the one before it.

Shape legend: B batch, T tokens, I active input and O active output channels (of a token: its
features), C active channels of a layer that keeps their number, H height, W width, K kernel side,
V vocabulary.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.space import Choice
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.plain import SqueezeExcitation, TanhGELU
from nasbench.supernet.replicas import JointBatchNorm, num_replicas
from nasbench.supernet.sharing import (
    Initialize,
    LeadingSlices,
    SharedWeight,
    SlicedWeight,
    leading,
    recorded_as,
)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "hard_swish": nn.Hardswish,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_tanh": TanhGELU,
    "tanh": nn.Tanh,
}

_he_normal = partial(nn.init.kaiming_normal_, nonlinearity="relu")
_lecun_normal = partial(nn.init.kaiming_normal_, nonlinearity="linear")
_embedding_normal = partial(nn.init.normal_, std=0.02)  # as in BERT, GPT-2 and ViT


@dataclass(frozen=True, slots=True)
class Counts:
    """What a plain module holds and what it costs per example.

    MACs are multiply-accumulates of linear and convolutional layers and of attention;
    FLOPs = 2 x MACs.
    """

    num_parameters: int = 0
    num_macs: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.num_parameters + other.num_parameters, self.num_macs + other.num_macs)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is not more than 10 % below `channels`.

    The rule of the MobileNets, from Sandler et al. (CVPR 2018) on.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def _copy(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format))


class ElasticLinear(nn.Module):
    """Linear layer of up to `out_features` outputs; reads as many columns as its input has."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        has_bias: bool = True,
        initialize: Initialize = _lecun_normal,
    ) -> None:
        super().__init__()
        self.has_bias = has_bias
        shape = (out_features, in_features)
        self.shared: SharedWeight = SlicedWeight(shape, has_bias=has_bias, initialize=initialize)

    def forward(self, x_BI: Tensor, out_features: int, *, with_bias: bool = True) -> Tensor:
        """(B, I) -> (B, O), or (B, T, I) -> (B, T, O); `with_bias=False` leaves the bias out."""
        weight_OI, bias_O = self.shared.leading(out_features, x_BI.shape[-1])
        return F.linear(x_BI, weight_OI, bias_O if with_bias else None)

    def reorder_outputs(self, channels: Tensor) -> None:
        """Put the outputs into another order: position i gets what was at `channels[i]`."""
        self.shared.reorder(outputs=channels)

    def extract(self, in_features: int, out_features: int, *, with_bias: bool = True) -> nn.Linear:
        """The plain layer of these sizes."""
        weight_OI, bias_O = self.shared.leading(out_features, in_features)
        linear = nn.Linear(in_features, out_features, bias=False, device="meta")
        linear.weight = _copy(weight_OI)
        if bias_O is not None and with_bias:
            linear.bias = _copy(bias_O)
        return linear

    def count(
        self, in_features: int, out_features: int, num_tokens: int = 1, *, with_bias: bool = True
    ) -> Counts:
        """Counts of the plain layer of these sizes, applied to each of `num_tokens`."""
        num_weights = in_features * out_features
        num_biases = out_features if self.has_bias and with_bias else 0
        return Counts(num_weights + num_biases, num_weights * num_tokens)


class ElasticConv2d(nn.Module):
    """Convolution without bias (a normalization follows) of up to `out_channels` channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.shared: SharedWeight = SlicedWeight(shape, has_bias=False, initialize=_he_normal)

    def forward(self, x_BIHW: Tensor, out_channels: int) -> Tensor:
        """(B, I, H, W) -> (B, O, H / stride, W / stride)."""
        weight_OIKK, _ = self.shared.leading(out_channels, x_BIHW.shape[1])
        return F.conv2d(x_BIHW, weight_OIKK, None, self.stride, self.kernel_size // 2)

    def num_outputs(self, _in_channels: int, out_channels: int) -> int:
        """Output channels at these sizes."""
        return out_channels

    def extract(self, in_channels: int, out_channels: int) -> nn.Conv2d:
        """The plain layer of these sizes."""
        weight_OIKK, _ = self.shared.leading(out_channels, in_channels)
        return _plain_conv2d(weight_OIKK, self.stride)

    def count(self, in_channels: int, out_channels: int, num_pixels: int) -> Counts:
        """Counts of the plain layer of these sizes; `num_pixels` are those of its output."""
        num_weights = in_channels * out_channels * self.kernel_size**2
        return Counts(num_weights, num_weights * num_pixels)


class ElasticKernel(nn.Module):
    """A square kernel with smaller ones within it.

    A smaller kernel is the center of the next larger one times a learned matrix, which all
    channels share: the chain of transforms of Once-for-all (Cai et al., ICLR 2020, section 3.3),
    7 -> 5 -> 3 where those are the sizes. We store how far each matrix is from the identity,
    zero at first, so that weight decay draws it to the identity and not to zero.
    """

    def __init__(self, kernel_sizes: Sequence[int]) -> None:
        super().__init__()
        falling = sorted(kernel_sizes, reverse=True)
        self.smaller_sizes = tuple(falling[1:])
        self.transforms = nn.ParameterList(
            torch.zeros(size**2, size**2) for size in self.smaller_sizes
        )
        for larger, size in pairwise(falling):
            self.register_buffer(f"center_{size}", _center(larger, size), persistent=False)

    def crop(self, weight_OIKK: Tensor, kernel_size: int) -> Tensor:
        """The weight of that size; the largest as it is."""
        if kernel_size == weight_OIKK.shape[-1]:
            return weight_OIKK
        weight_NK = weight_OIKK.flatten(2).flatten(0, 1)
        for index, size in enumerate(self.smaller_sizes):
            if size < kernel_size:
                break
            center_NK = weight_NK.index_select(1, self.get_buffer(f"center_{size}"))
            weight_NK = torch.addmm(center_NK, center_NK, self.transforms[index])
        return weight_NK.view(*weight_OIKK.shape[:2], kernel_size, kernel_size)


class ElasticDepthwiseConv2d(ElasticKernel):
    """Depthwise convolution with an elastic kernel size, without bias."""

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int],
        *,
        stride: int = 1,
    ) -> None:
        super().__init__(kernel_sizes)
        self.stride = stride
        largest = max(kernel_sizes)
        shape = (channels, 1, largest, largest)
        self.shared: SharedWeight = SlicedWeight(shape, has_bias=False, initialize=_he_normal)

    def _kernel(self, channels: int, kernel_size: int) -> Tensor:
        weight_C1KK, _ = self.shared.leading(channels, 1)
        return self.crop(weight_C1KK, kernel_size)

    def forward(self, x_BCHW: Tensor, kernel_size: int) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride)."""
        channels = x_BCHW.shape[1]
        weight_C1KK = self._kernel(channels, kernel_size)
        padding = kernel_size // 2
        return F.conv2d(x_BCHW, weight_C1KK, None, self.stride, padding, groups=channels)

    def num_outputs(self, channels: int, _kernel_size: int) -> int:
        """Output channels at these sizes."""
        return channels

    def extract(self, channels: int, kernel_size: int) -> nn.Conv2d:
        """The plain layer of these sizes."""
        return _plain_conv2d(self._kernel(channels, kernel_size), self.stride, groups=channels)

    def count(self, channels: int, kernel_size: int, num_pixels: int) -> Counts:
        """Counts of the plain layer of these sizes; `num_pixels` are those of its output."""
        num_weights = channels * kernel_size**2
        return Counts(num_weights, num_weights * num_pixels)


def _center(side: int, size: int) -> Tensor:
    """Which entries of a flattened square of that side are its center of that size."""
    inside = torch.arange((side - size) // 2, (side + size) // 2)
    return (inside[:, None] * side + inside).flatten()


def _plain_conv2d(weight_OIKK: Tensor, stride: int, groups: int = 1) -> nn.Conv2d:
    out_channels, in_channels, kernel_size, _ = weight_OIKK.shape
    conv = nn.Conv2d(
        in_channels * groups,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
        device="meta",
    )
    conv.weight = _copy(weight_OIKK)
    return conv


class ElasticBatchNorm2d(nn.Module):
    """Batch normalization of up to `channels` channels.

    While training it normalizes by the statistics of the batch (of the whole one, where replicas
    share it) and keeps no running ones, which would mix those of many sub-networks. While
    evaluating it uses the leading entries of its buffers, which hold the statistics of one
    sub-network: see `calibrate`.
    """

    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self._slices = LeadingSlices()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        channels = x_BCHW.shape[1]
        affine = (self.weight, self.bias)
        if self.training:
            weight_C, bias_C = self._slices((channels,), *affine)
            if num_replicas() > 1:
                joint: Tensor = JointBatchNorm.apply(x_BCHW, weight_C, bias_C, self.eps)
                return joint
            return F.batch_norm(x_BCHW, None, None, weight_C, bias_C, True, eps=self.eps)
        weight_C, bias_C, mean_C, var_C = self._slices(
            (channels,), *affine, self.running_mean, self.running_var
        )
        return F.batch_norm(x_BCHW, mean_C, var_C, weight_C, bias_C, False, eps=self.eps)

    def extract(self, channels: int) -> nn.BatchNorm2d:
        """The plain layer of that many channels, with its share of the statistics."""
        norm = nn.BatchNorm2d(channels, eps=self.eps, device="meta")
        norm.weight = _copy(leading(self.weight, channels))
        norm.bias = _copy(leading(self.bias, channels))
        norm.running_mean = leading(self.running_mean, channels).clone()
        norm.running_var = leading(self.running_var, channels).clone()
        norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=self.weight.device)
        return norm

    @torch.no_grad()
    def reorder(self, channels: Tensor) -> None:
        """Put the channels into another order: position i gets what was at `channels[i]`."""
        for tensor in (self.weight, self.bias, self.running_mean, self.running_var):
            tensor.copy_(tensor[channels])

    def count(self, channels: int) -> Counts:
        """Counts of the plain layer; normalization has no MACs, as it folds into convolutions."""
        return Counts(2 * channels, 0)


NORM_STATISTICS = ("running_mean", "running_var")
"""The buffers of a normalization layer that belong to one sub-network."""


def normalization_layers(network: nn.Module) -> dict[str, ElasticBatchNorm2d]:
    """The layers that have such buffers, by name."""
    modules = network.named_modules()
    return {name: module for name, module in modules if isinstance(module, ElasticBatchNorm2d)}


class ElasticConvNorm(nn.Module):
    """An elastic convolution, batch normalization and maybe an activation.

    Args:
        conv: either kind of elastic convolution; its own argument (output channels or kernel
            size) is the `size` below.
        channels: the largest number of output channels.
        activation: a name in `ACTIVATIONS`, or None.
    """

    def __init__(
        self,
        conv: ElasticConv2d | ElasticDepthwiseConv2d,
        channels: int,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = ElasticBatchNorm2d(channels)
        self.activation = None if activation is None else ACTIVATIONS[activation]()

    def forward(self, x_BIHW: Tensor, size: int) -> Tensor:
        """(B, I, H, W) -> (B, O, H / stride, W / stride)."""
        y_BOHW = self.norm(self.conv(x_BIHW, size))
        return y_BOHW if self.activation is None else self.activation(y_BOHW)

    def reorder_outputs(self, channels: Tensor) -> None:
        """Put the output channels into another order: position i gets what was at `channels[i]`."""
        self.conv.shared.reorder(outputs=channels)
        self.norm.reorder(channels)

    def extract(self, in_channels: int, size: int) -> nn.Sequential:
        """The plain layers of these sizes."""
        conv = self.conv.extract(in_channels, size)
        layers: list[nn.Module] = [conv, self.norm.extract(conv.out_channels)]
        if self.activation is not None:
            layers.append(type(self.activation)())
        return nn.Sequential(*layers)

    def count(self, in_channels: int, size: int, num_pixels: int) -> Counts:
        """Counts of the plain layers of these sizes; `num_pixels` are those of their output."""
        counts = self.conv.count(in_channels, size, num_pixels)
        return counts + self.norm.count(self.conv.num_outputs(in_channels, size))


class ElasticSqueezeExcitation(nn.Module):
    """Squeeze-and-excitation that squeezes its active channels to a quarter of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels / 4)
        self.squeeze = ElasticLinear(channels, squeezed)
        self.excite = ElasticLinear(squeezed, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        channels = x_BCHW.shape[1]
        squeezed_BS = F.relu(self.squeeze(x_BCHW.mean((2, 3)), round_channels(channels / 4)))
        gate_BC = self.excite(squeezed_BS, channels)
        return x_BCHW * F.hardsigmoid(gate_BC)[:, :, None, None]

    def reorder(self, channels: Tensor) -> None:
        """Put the channels into another order: position i gets what was at `channels[i]`."""
        self.squeeze.shared.reorder(inputs=channels)
        self.excite.shared.reorder(outputs=channels)

    def extract(self, channels: int) -> SqueezeExcitation:
        """The plain module of that many channels."""
        squeezed = round_channels(channels / 4)
        return SqueezeExcitation(
            self.squeeze.extract(channels, squeezed), self.excite.extract(squeezed, channels)
        )

    def count(self, channels: int) -> Counts:
        """Counts of the plain module of that many channels."""
        squeezed = round_channels(channels / 4)
        return self.squeeze.count(channels, squeezed) + self.excite.count(squeezed, channels)


class ElasticLayerNorm(nn.Module):
    """Layer normalization (Ba et al., 2016) of up to `channels` features.

    Mean and variance are those of the active features, and the affine map is its leading entries.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._slices = LeadingSlices()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        channels = x_BTC.shape[-1]
        weight_C, bias_C = self._slices((channels,), self.weight, self.bias)
        return F.layer_norm(x_BTC, (channels,), weight_C, bias_C, self.eps)

    def extract(self, channels: int) -> nn.LayerNorm:
        """The plain layer of that many features."""
        norm = nn.LayerNorm(channels, eps=self.eps, device="meta")
        norm.weight = _copy(leading(self.weight, channels))
        norm.bias = _copy(leading(self.bias, channels))
        return norm

    def count(self, channels: int) -> Counts:
        """Counts of the plain layer."""
        return Counts(2 * channels, 0)


class ElasticEmbedding(nn.Module):
    """A table of `num_embeddings` vectors, of which the leading features are used.

    Positions and a tied output layer read it through `table`. Looking tokens up slices what was
    found and not the table, whose gradient would take three passes over the vocabulary.
    """

    def __init__(self, num_embeddings: int, channels: int) -> None:
        super().__init__()
        self.shape = (num_embeddings, channels)
        self.shared: SharedWeight = SlicedWeight(
            self.shape, has_bias=False, initialize=_embedding_normal
        )

    def forward(self, ids_BT: Tensor, channels: int) -> Tensor:
        """Rows of the table: int64 (B, T) -> (B, T, C)."""
        with recorded_as(self.shape[0], channels):
            weight_VC, _ = self.shared.leading(*self.shape)
        return leading(F.embedding(ids_BT, weight_VC), *ids_BT.shape, channels)

    def table(self, num_embeddings: int, channels: int) -> Tensor:
        """The first rows of the table: (V, C)."""
        return self.shared.leading(num_embeddings, channels)[0]

    def extract(self, channels: int) -> nn.Embedding:
        """The plain layer of that many features, with all rows."""
        num_embeddings, _ = self.shape
        embedding = nn.Embedding(num_embeddings, channels, device="meta")
        embedding.weight = _copy(self.table(num_embeddings, channels))
        return embedding

    def count(self, channels: int) -> Counts:
        """Counts of the plain layer; looking up is free."""
        return Counts(self.shape[0] * channels, 0)


class ElasticDropout(nn.Module):
    """Dropout whose rate is proportional to the active width, and is `rate` at the largest.

    A narrow sub-network has less to spare: HAT's rule (Wang et al., ACL 2020).
    """

    def __init__(self, rate: float, channels: int) -> None:
        super().__init__()
        self.rate, self.channels = rate, channels

    def rate_at(self, channels: int) -> float:
        """The rate where that many features are active."""
        return self.rate * channels / self.channels

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if not self.training:
            return x_BTC
        return F.dropout(x_BTC, self.rate_at(x_BTC.shape[-1]))

    def extract(self, channels: int) -> nn.Dropout:
        """The plain layer for that many features."""
        return nn.Dropout(self.rate_at(channels))


class ElasticFeedForward(nn.Module):
    """The feed-forward block of a transformer: widen each token, activate, and narrow it again.

    Args:
        channels: the largest width of a token.
        inner_channels: the largest inner width.
        activation: a name in `ACTIVATIONS`.
    """

    def __init__(
        self,
        channels: int,
        inner_channels: int,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.expand = ElasticLinear(channels, inner_channels)
        self.activation = ACTIVATIONS[activation]()
        self.project = ElasticLinear(inner_channels, channels)

    @property
    def layers(self) -> tuple[ElasticLinear, ElasticLinear]:
        """The linear layers."""
        return self.expand, self.project

    def channel_group(
        self, dimension: str, widths_at: Mapping[Choice, Collection[int]]
    ) -> ChannelGroup:
        """The inner channels, whose number follows from that dimension's choice."""
        return ChannelGroup(
            dimension=dimension,
            widths_at=widths_at,
            writers=[self.expand.reorder_outputs],
            reader=self.project.shared,
        )

    def forward(self, x_BTC: Tensor, inner_channels: int, *, with_bias: bool = True) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        inner = self.activation(self.expand(x_BTC, inner_channels, with_bias=with_bias))
        return self.project(inner, x_BTC.shape[-1], with_bias=with_bias)

    def extract(
        self, channels: int, inner_channels: int, *, with_bias: bool = True
    ) -> nn.Sequential:
        """The plain layers of these sizes."""
        return nn.Sequential(
            self.expand.extract(channels, inner_channels, with_bias=with_bias),
            type(self.activation)(),
            self.project.extract(inner_channels, channels, with_bias=with_bias),
        )

    def count(
        self, channels: int, inner_channels: int, num_tokens: int, *, with_bias: bool = True
    ) -> Counts:
        """Counts of the plain layers of these sizes, applied to each of `num_tokens`."""
        counts = self.expand.count(channels, inner_channels, num_tokens, with_bias=with_bias)
        return counts + self.project.count(
            inner_channels, channels, num_tokens, with_bias=with_bias
        )
