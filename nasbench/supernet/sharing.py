"""Weight sharing: where an elastic layer gets the weight of the sub-network that is active.

An elastic layer asks for the leading (outputs, inputs) of its weight and bias and does not know
how they are stored, so each family of supernets works with each kind of sharing.

Shape legend: O active outputs, I active inputs, ... what follows them (a kernel's sides).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import gt
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from nasbench.registry import Registry
from nasbench.space import Architecture

if TYPE_CHECKING:
    from nasbench.supernet.base import Supernet

Initialize = Callable[[Tensor], object]


def leading(tensor: Tensor, *sizes: int) -> Tensor:
    """The first entries along the first dimensions, without a copy; the tensor itself if all.

    More than there are is an error, where Python's slices would silently give less.
    """
    available = tensor.shape[: len(sizes)]
    if available == sizes:
        return tensor
    if any(map(gt, sizes, available)):
        raise RuntimeError(f"the leading {sizes} exceeds what there is, {tuple(available)}")
    return tensor[tuple(map(slice, sizes))]  # a third faster than `narrow`


UsedSlices = dict[Tensor, set[tuple[int, ...]]]
"""Tensor -> the sizes of the leading slices that were taken of it."""

_used: ContextVar[UsedSlices | None] = ContextVar("used", default=None)
_used_as: ContextVar[tuple[int, ...] | None] = ContextVar("used_as", default=None)


@contextmanager
def recorded_slices() -> Iterator[UsedSlices]:
    """Which slices are taken with gradients in this block, and so are what a step trains."""
    used: UsedSlices = {}
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


@contextmanager
def recorded_as(*sizes: int) -> Iterator[None]:
    """Record other sizes, for who takes a whole tensor and slices what comes of it."""
    token = _used_as.set(sizes)
    try:
        yield
    finally:
        _used_as.reset(token)


class LeadingSlices:
    """The leading slices of a layer's tensors, remembered for the next call of the same sizes.

    Slicing is most of what elasticity costs, and many batches in a row use the same slices. Only
    views are kept, so they see whatever is written into the tensors; and as they keep their
    memory, a tensor that was replaced, as by `.to(device)`, has another address. With gradients
    every call slices anew, as a view belongs to the graph that it was made in.
    """

    def __init__(self) -> None:
        self._remembered: tuple[tuple[int, ...], list[int], list[Tensor]] = ((), [], [])

    def __call__(self, sizes: tuple[int, ...], *tensors: Tensor) -> list[Tensor]:
        """Each tensor's `leading(tensor, *sizes)`, with as many sizes as it has dimensions."""
        if torch.is_grad_enabled():
            used = _used.get()
            if used is not None:
                recorded = _used_as.get() or sizes
                for tensor in tensors:
                    used.setdefault(tensor, set()).add(recorded[: tensor.ndim])
            return [leading(tensor, *sizes[: tensor.ndim]) for tensor in tensors]
        addresses = [tensor.data_ptr() for tensor in tensors]
        remembered_sizes, remembered_addresses, slices = self._remembered
        if remembered_sizes != sizes or remembered_addresses != addresses:
            slices = [leading(tensor, *sizes[: tensor.ndim]) for tensor in tensors]
            self._remembered = (sizes, addresses, slices)
        return slices

    def __reduce__(self) -> tuple[type["LeadingSlices"], tuple[()]]:
        """A copy, in this process or another, starts with nothing remembered."""
        return LeadingSlices, ()


class SharedWeight(nn.Module, ABC):
    """The weight, and maybe the bias, of one elastic layer for every sub-network."""

    @abstractmethod
    def leading(self, num_outputs: int, num_inputs: int) -> tuple[Tensor, Tensor | None]:
        """The active weight of shape (O, I, ...) and bias of shape (O,), None without a bias."""

    @abstractmethod
    def input_importance(self) -> Tensor:
        """The sum of the absolute weights that read each input of the largest layer."""

    @abstractmethod
    def reorder(self, *, outputs: Tensor | None = None, inputs: Tensor | None = None) -> None:
        """Put the largest layer's outputs, or inputs, into another order; None leaves it.

        Args:
            outputs, inputs: permutations, int64; position i gets what was at `outputs[i]`.
        """


class ElasticLayer(Protocol):
    """A layer that asks a shared weight for its weight and bias, whichever kind that is."""

    shared: SharedWeight


class SlicedWeight(SharedWeight):
    """One tensor of the largest shape; a sub-network uses its leading slice.

    The sharing of Once-for-all (Cai et al., ICLR 2020) and of most supernets since.
    """

    def __init__(self, shape: tuple[int, ...], *, has_bias: bool, initialize: Initialize) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if has_bias else None
        self.initialize = initialize
        initialize(self.weight)
        self._slices = LeadingSlices()

    def leading(self, num_outputs: int, num_inputs: int) -> tuple[Tensor, Tensor | None]:
        """Views of the stored tensors."""
        sizes = (num_outputs, num_inputs)
        if self.bias is None:
            return self._slices(sizes, self.weight)[0], None
        weight_OI, bias_O = self._slices(sizes, self.weight, self.bias)
        return weight_OI, bias_O

    @torch.no_grad()
    def input_importance(self) -> Tensor:
        """(I,), of the stored weight."""
        return self.weight.abs().transpose(0, 1).flatten(1).sum(dim=1)

    @torch.no_grad()
    def reorder(self, *, outputs: Tensor | None = None, inputs: Tensor | None = None) -> None:
        """Copies within the stored tensors, which stay where they are."""
        if outputs is not None:
            self.weight.copy_(self.weight[outputs])
            if self.bias is not None:
                self.bias.copy_(self.bias[outputs])
        if inputs is not None:
            self.weight.copy_(self.weight[:, inputs])


class ReadsArchitecture(Protocol):
    """What has to know the architecture that is served, and not its shape alone."""

    def switch(self, architecture: Architecture) -> None:
        """Serve this member of the space from now on."""


@dataclass(frozen=True, kw_only=True)
class WeightSharing(ABC):
    """A kind of weight sharing; the fields of the dataclass that it is are its settings.

    Constructing one raises RequestError for an impossible value.
    """

    @abstractmethod
    def share(self, build: Callable[[], "Supernet[Any]"]) -> "Supernet[Any]":
        """A supernet that shares its weights in this way.

        Args:
            build: makes one whose layers hold a `SlicedWeight` each, with fresh weights.
        """


class PlainSlices(WeightSharing):
    """Every sub-network uses leading slices of the same weights."""

    def share(self, build: Callable[[], "Supernet[Any]"]) -> "Supernet[Any]":
        """The supernet as it is built."""
        return build()


SHARINGS: Registry[type[WeightSharing]] = Registry(
    "weight sharing",
    {
        "slice": PlainSlices,
        "mixture_layerwise": "nasbench.supernet.mixture:LayerwiseMixture",
        "mixture_neuronwise": "nasbench.supernet.mixture:NeuronwiseMixture",
        "separate": "nasbench.supernet.separate:SeparateSupernets",
    },
)
