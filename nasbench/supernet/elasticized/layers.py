"""Elastic layers that read and write axes of several parts.

What a network of one's own has beyond the families: biases, groups, dilation, transposed and
rectangular convolutions, and inputs that are concatenations. Weights are stored in blocks, one per
part of the outputs and part of the inputs, each of which is shared by leading slices as in
`nasbench.supernet.layers`; a layer of one part each, the usual case, is one block.

Each layer does four things for the widths of all groups: `forward`, `extract` to the plain layer it
was made of, `count`, and sorting, by its blocks. Kernel sizes are an argument where they are
elastic.

Shape legend: B batch, I active inputs, O active outputs, K kernel side, ... positions.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.elasticized.axes import Axis, Widths
from nasbench.supernet.layers import ElasticBatchNorm2d, ElasticKernel
from nasbench.supernet.sharing import LeadingSlices, SharedWeight, SlicedWeight, recorded_as

_he_normal = partial(nn.init.kaiming_normal_, nonlinearity="relu")


def _as_it_is(_weight: Tensor) -> None:
    """The weights are copied afterwards."""


class OwnLayer(nn.Module, ABC):
    """A layer whose sizes follow from the widths of the groups."""

    @abstractmethod
    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Module:
        """The plain layer."""

    @abstractmethod
    def num_parameters(self, widths: Widths, kernel_size: int | None) -> int:
        """Of the plain layer."""

    def num_macs(self, widths: Widths, kernel_size: int | None) -> int:  # noqa: ARG002
        """Of the plain layer at one position."""
        return 0


class WeightBlock(nn.Module):
    """The weights between one part of the outputs and one of the inputs.

    Args:
        weight: (O, I, ...), copied.
        bias: (O,), copied.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        shape = tuple(weight.shape)
        shared = SlicedWeight(shape, has_bias=bias is not None, initialize=_as_it_is)
        shared.to(weight.device, weight.dtype)
        shared.weight.data.copy_(weight)
        if shared.bias is not None and bias is not None:
            shared.bias.data.copy_(bias)
        shared.initialize = _he_normal
        self.shared: SharedWeight = shared


class OwnWeights(OwnLayer):
    """A layer of weights between the parts of two axes.

    Args:
        plain: the layer it is made of.
        weight: that layer's, outputs first.
        columns: the axis of the weight's second dimension.
        rows: that of its first.
    """

    def __init__(self, plain: Any, weight: Tensor, columns: Axis, rows: Axis) -> None:
        super().__init__()
        self.columns, self.rows, self.has_bias = columns, rows, plain.bias is not None
        biases = plain.bias.split(rows.sizes_at_largest) if self.has_bias else None
        blocks = []
        for r, of_rows in enumerate(weight.split(rows.sizes_at_largest)):
            for c, block in enumerate(of_rows.split(columns.sizes_at_largest, dim=1)):
                blocks.append(WeightBlock(block, biases[r] if biases and c == 0 else None))
        self.blocks = nn.ModuleList(blocks)

    def block(self, row: int, column: int) -> SharedWeight:
        """The weight between these parts."""
        block = self.blocks[row * len(self.columns.parts) + column]
        assert isinstance(block, WeightBlock)
        return block.shared

    def leading(self, widths: Widths) -> tuple[Tensor, Tensor | None]:
        """The active weight (O, I, ...) and bias (O,)."""
        outputs, inputs = self.rows.sizes(widths), self.columns.sizes(widths)
        rows, biases = [], []
        for r, num_outputs in enumerate(outputs):
            parts = [self.block(r, c).leading(num_outputs, n) for c, n in enumerate(inputs)]
            biases.append(parts[0][1])
            rows.append(_joined([weight for weight, _ in parts], dim=1))
        bias = _joined([b for b in biases if b is not None]) if self.has_bias else None
        return _joined(rows), bias

    def num_parameters(self, widths: Widths, kernel_size: int | None) -> int:
        """Weights and biases."""
        num_biases = self.rows.size(widths) if self.has_bias else 0
        return self.num_macs(widths, kernel_size) + num_biases

    def num_macs(self, widths: Widths, kernel_size: int | None) -> int:
        """One per weight."""
        return self.rows.size(widths) * self.columns.size(widths) * self._per_pair(kernel_size)

    def _per_pair(self, kernel_size: int | None) -> int:  # noqa: ARG002 - of convolutions
        return 1


class OwnLinear(OwnWeights):
    """A linear layer."""

    def __init__(self, plain: nn.Linear, columns: Axis, rows: Axis) -> None:
        super().__init__(plain, plain.weight.detach(), columns, rows)

    def forward(self, x: Tensor, widths: Widths) -> Tensor:
        """(B, ..., I) -> (B, ..., O)."""
        return F.linear(x, *self.leading(widths))

    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Linear:  # noqa: ARG002
        """The plain layer."""
        weight, bias = self.leading(widths)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        return _with_weights(linear, weight, bias)


Convolution = Callable[..., Tensor]
_CONVOLUTIONS: dict[type[nn.Module], Convolution] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
_TRANSPOSED: dict[type[nn.Module], Convolution] = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}


class OwnConvolution(OwnWeights):
    """A convolution of any kind that torch.nn has.

    Args:
        plain: the convolution; one in groups has all columns of a group in every sub-network.
        kernel_sizes: choices of the side of a square kernel, with the largest; () for a kernel
            that always stays.
    """

    def __init__(
        self, plain: Any, columns: Axis, rows: Axis, kernel_sizes: Sequence[int] = ()
    ) -> None:
        self.is_transposed = type(plain) in _TRANSPOSED
        weight = plain.weight.detach()
        super().__init__(
            plain, weight.transpose(0, 1) if self.is_transposed else weight, columns, rows
        )
        self._plain = (_without_parameters(plain),)
        self.kernel: ElasticKernel | None = None
        if len(kernel_sizes) > 1:
            self.kernel = ElasticKernel(kernel_sizes).to(weight.device, weight.dtype)

    @property
    def plain(self) -> Any:
        """The layer it is made of, without weights."""
        return self._plain[0]  # in a tuple, so that it is no part of this one

    @staticmethod
    def possible_kernel_sizes(plain: Any) -> tuple[int, ...]:
        """Odd sides up to the kernel's own, where cropping keeps the size of the output."""
        side, padding = plain.kernel_size[0], plain.padding
        is_square = set(plain.kernel_size) == {side} and len(plain.kernel_size) == 2
        if type(plain) is not nn.Conv2d or not is_square or side % 2 == 0 or side == 1:
            return ()
        if plain.padding_mode != "zeros":
            return ()
        if isinstance(padding, str):
            return tuple(range(1, side + 1, 2)) if padding == "same" else ()
        spare = min(p // d for p, d in zip(padding, plain.dilation, strict=True))
        return tuple(range(max(1, side - 2 * spare), side + 1, 2))

    def forward(self, x: Tensor, widths: Widths, kernel_size: int | None = None) -> Tensor:
        """(B, I, ...) -> (B, O, ...)."""
        plain, (weight, bias) = self.plain, self.leading(widths)
        groups = 1 if plain.groups == 1 else x.shape[1] // self.columns.largest
        if self.is_transposed:
            arguments = (plain.stride, plain.padding, plain.output_padding, groups, plain.dilation)
            convolve = _TRANSPOSED[type(plain)]
            return convolve(x, weight.transpose(0, 1), bias, *arguments)
        padding = self._padding(kernel_size)
        if self.kernel is not None and kernel_size is not None:
            weight = self.kernel.crop(weight, kernel_size)
        if plain.padding_mode != "zeros":
            x = F.pad(x, plain._reversed_padding_repeated_twice, mode=plain.padding_mode)
            padding = 0
        convolve = _CONVOLUTIONS[type(plain)]
        return convolve(x, weight, bias, plain.stride, padding, plain.dilation, groups)

    def _padding(self, kernel_size: int | None) -> Any:
        plain = self.plain
        if kernel_size is None or isinstance(plain.padding, str):
            return plain.padding
        cropped = (plain.kernel_size[0] - kernel_size) // 2
        return tuple(p - d * cropped for p, d in zip(plain.padding, plain.dilation, strict=True))

    def _per_pair(self, kernel_size: int | None) -> int:
        sides = self.plain.kernel_size if kernel_size is None else (kernel_size, kernel_size)
        product = 1
        for side in sides:
            product *= side
        return product

    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Module:
        """The plain layer."""
        plain, (weight, bias) = self.plain, self.leading(widths)
        if self.kernel is not None and kernel_size is not None:
            weight = self.kernel.crop(weight, kernel_size)
        groups = 1 if plain.groups == 1 else weight.shape[0] * plain.groups // plain.out_channels
        more = {"output_padding": plain.output_padding} if self.is_transposed else {}
        layer = type(plain)(
            weight.shape[1] * groups,
            weight.shape[0],
            weight.shape[2:],
            stride=plain.stride,
            padding=self._padding(kernel_size),
            dilation=plain.dilation,
            groups=groups,
            bias=False,
            padding_mode=plain.padding_mode,
            device="meta",
            **more,
        )
        return _with_weights(layer, weight.transpose(0, 1) if self.is_transposed else weight, bias)


class OwnBatchNorm(OwnLayer):
    """Batch normalization: one elastic layer for each part of the channels."""

    def __init__(self, plain: Any, axis: Axis) -> None:
        super().__init__()
        self.kind, self.axis = type(plain), axis
        self.eps, self.momentum = plain.eps, plain.momentum
        self.norms = nn.ModuleList()
        at = 0
        for size in axis.sizes_at_largest:
            norm = ElasticBatchNorm2d(size).to(plain.weight.device, plain.weight.dtype)
            norm.eps = plain.eps
            with torch.no_grad():
                for name in ("weight", "bias", "running_mean", "running_var"):
                    getattr(norm, name).copy_(getattr(plain, name)[at : at + size])
            self.norms.append(norm)
            at += size

    def forward(self, x: Tensor, widths: Widths = ()) -> Tensor:
        """(B, C, ...) -> (B, C, ...); the widths do not matter where all channels are static."""
        as_images = x if x.ndim == 4 else x.reshape(*x.shape[:2], -1, 1)
        if len(self.norms) == 1:
            y = self.norms[0](as_images)
        else:
            parts = as_images.split(self.axis.sizes(widths), dim=1)
            normalized = [norm(part) for norm, part in zip(self.norms, parts, strict=True)]
            y = torch.cat(normalized, dim=1)
        return y.view(x.shape) if x.ndim != 4 else y

    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Module:  # noqa: ARG002
        """The plain layer, with its share of the statistics."""
        norm = self.kind(self.axis.size(widths), self.eps, self.momentum, device="meta")
        sizes = self.axis.sizes(widths)
        parts = [n.extract(size) for n, size in zip(self.norms, sizes, strict=True)]  # type: ignore[operator]
        for name in ("weight", "bias"):
            setattr(norm, name, nn.Parameter(_joined([getattr(part, name).data for part in parts])))
        for name in ("running_mean", "running_var"):
            setattr(norm, name, _joined([getattr(part, name) for part in parts]))
        norm.num_batches_tracked = parts[0].num_batches_tracked
        return norm

    def num_parameters(self, widths: Widths, kernel_size: int | None) -> int:  # noqa: ARG002
        """A scale and a shift per channel."""
        return 2 * self.axis.size(widths)


class OwnVectors(OwnLayer):
    """A layer with vectors of one entry per channel: LayerNorm, RMSNorm, GroupNorm, PReLU.

    Args:
        plain: the layer; its parameters are the vectors.
    """

    def __init__(self, plain: Any, axis: Axis) -> None:
        super().__init__()
        self._plain, self.axis = (_without_parameters(plain),), axis
        self.vectors = nn.ModuleDict()
        for name, vector in plain._parameters.items():
            if vector is not None:
                self.vectors[name] = PartedTensor(vector.detach(), axis, dim=0)

    @property
    def plain(self) -> Any:
        """The layer it is made of, without weights."""
        return self._plain[0]

    def forward(self, x: Tensor, widths: Widths) -> Tensor:
        """Of the same shape."""
        vectors = {name: vector(widths) for name, vector in self.vectors.items()}
        weight, bias, plain = vectors.get("weight"), vectors.get("bias"), self.plain
        if isinstance(plain, nn.PReLU):
            assert weight is not None
            return F.prelu(x, weight)
        if isinstance(plain, nn.GroupNorm):
            return F.group_norm(x, self._num_groups(widths), weight, bias, plain.eps)
        if isinstance(plain, nn.RMSNorm):
            return F.rms_norm(x, x.shape[-1:], weight, plain.eps)
        return F.layer_norm(x, x.shape[-1:], weight, bias, plain.eps)

    def _num_groups(self, widths: Widths) -> int:
        if self.plain.num_groups == 1:
            return 1
        return self.axis.size(widths) * self.plain.num_groups // self.axis.largest

    @torch.no_grad()
    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Module:  # noqa: ARG002
        """The plain layer."""
        layer, size = copy.deepcopy(self.plain), self.axis.size(widths)
        if isinstance(layer, nn.GroupNorm):
            layer.num_groups, layer.num_channels = self._num_groups(widths), size
        elif isinstance(layer, nn.PReLU):
            layer.num_parameters = size
        else:
            layer.normalized_shape = (size,)
        for name in ("weight", "bias"):
            if name in self.vectors:
                layer.register_parameter(name, nn.Parameter(self.vectors[name](widths).clone()))
            elif not isinstance(layer, nn.PReLU):
                layer.register_parameter(name, None)
        return layer

    def num_parameters(self, widths: Widths, kernel_size: int | None) -> int:  # noqa: ARG002
        """One per vector and channel."""
        return len(self.vectors) * self.axis.size(widths)


class OwnEmbedding(OwnLayer):
    """A table of vectors, of which the leading features are looked up."""

    def __init__(self, plain: nn.Embedding, axis: Axis) -> None:
        super().__init__()
        self.axis, self.padding_idx = axis, plain.padding_idx
        self.num_embeddings = plain.num_embeddings
        self.shared: SharedWeight = WeightBlock(plain.weight.detach(), None).shared

    def forward(self, ids: Tensor, widths: Widths) -> Tensor:
        """int64 (B, ...) -> (B, ..., C)."""
        size = self.axis.size(widths)
        with recorded_as(self.num_embeddings, size):
            table, _ = self.shared.leading(self.num_embeddings, self.axis.largest)
        return F.embedding(ids, table, self.padding_idx)[..., :size]

    def extract(self, widths: Widths, kernel_size: int | None) -> nn.Module:  # noqa: ARG002
        """The plain layer, with all rows."""
        size = self.axis.size(widths)
        table, _ = self.shared.leading(self.num_embeddings, size)
        layer = nn.Embedding(self.num_embeddings, size, self.padding_idx, device="meta")
        return _with_weights(layer, table, None)

    def num_parameters(self, widths: Widths, kernel_size: int | None) -> int:  # noqa: ARG002
        """All rows."""
        return self.num_embeddings * self.axis.size(widths)


class PartedTensor(nn.Module):
    """A parameter or buffer with one elastic axis, stored part by part.

    Args:
        tensor: copied.
        axis: what that dimension is made of.
        dim: the dimension.
        is_buffer: whether it is not trained.
    """

    def __init__(self, tensor: Tensor, axis: Axis, dim: int, *, is_buffer: bool = False) -> None:
        super().__init__()
        self.axis, self.dim, self.is_buffer = axis, dim, is_buffer
        self.before = tuple(tensor.shape[:dim])
        for number, part in enumerate(tensor.split(axis.sizes_at_largest, dim)):
            own = part.detach().clone(memory_format=torch.contiguous_format)
            if is_buffer:
                self.register_buffer(f"part{number}", own)
            else:
                self.register_parameter(f"part{number}", nn.Parameter(own))
        self._slices = [LeadingSlices() for _ in axis.parts]

    @property
    def parts(self) -> list[Tensor]:
        """The stored tensors."""
        return [getattr(self, f"part{number}") for number in range(len(self.axis.parts))]

    def forward(self, widths: Widths) -> Tensor:
        """The active tensor."""
        sizes = self.axis.sizes(widths)
        leading = [
            slices((*self.before, size), part)[0]
            for slices, size, part in zip(self._slices, sizes, self.parts, strict=True)
        ]
        return _joined(leading, self.dim)

    def num_entries(self, widths: Widths) -> int:
        """Of the active tensor."""
        size = self.axis.size(widths)
        return sum(part.numel() for part in self.parts) // self.axis.largest * size


def _without_parameters(layer: nn.Module) -> nn.Module:
    """A copy that knows its settings alone."""
    copied = copy.deepcopy(layer)
    copied._parameters.clear()
    return copied


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)


def _with_weights(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """A plain layer with copies of these."""
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
