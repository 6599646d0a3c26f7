"""Mixtures of supernets: weights that know which architecture they serve.

A layer holds several *expert* tensors of its largest shape. A *router* reads the encoding of the
whole architecture and gives the coefficients by which they are mixed, so that architectures share
weights no more than is good for them (Jawahar et al., Mixture-of-Supernets, ACL Findings 2024):

    layer-wise      r = softmax(V2 ReLU(V1 a + b1) + b2)                        r: (E,)
                    W(a) = sum_k r_k E_k[:O, :I]        c(a) = sum_k r_k c_k[:O]
    neuron-wise     the same with a distribution per output neuron              r: (O, E)

The layers of a group (a feed-forward pair, say) share one layer-wise r; neuron-wise each has its
own, of which a narrower layer uses the leading rows. Only the active slices are mixed. Without
gradients the mixed weights are kept until something changes: the architecture, the sizes, or what
they were mixed from. Extraction copies them, and leaves experts and routers behind.

The first expert is the layer's ordinary weight: with one expert all is as it was, bit for bit.

Shape legend: E experts, O active outputs, I active inputs, R rows of coefficients, F features of
the encoding of an architecture.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import ElasticConv2d, ElasticDepthwiseConv2d, ElasticLinear
from nasbench.supernet.routing import ENCODINGS, ArchitectureEncoding, Router, Routing
from nasbench.supernet.sharing import LeadingSlices, SharedWeight, SlicedWeight, WeightSharing


class LastMixed:
    """What was mixed last, with what it was mixed for and from.

    A copy, in this process or another, starts with nothing.
    """

    def __init__(self) -> None:
        self.key: tuple[object, ...] = ()
        self.mixed: tuple[Tensor, Tensor | None]

    def __reduce__(self) -> tuple[type["LastMixed"], tuple[()]]:
        return LastMixed, ()


class MixedWeight(SharedWeight):
    """Several tensors of the largest shape; a sub-network uses a mixture of their leading slices.

    Args:
        first: the first expert, whose tensors are taken over.
        others: the others.
    """

    def __init__(
        self, first: SlicedWeight, others: Sequence[SlicedWeight], routing: Routing
    ) -> None:
        super().__init__()
        experts = (first, *others)
        self.weights = nn.ParameterList(expert.weight for expert in experts)
        biases = [expert.bias for expert in experts if expert.bias is not None]
        self.biases = nn.ParameterList(biases)
        self.routing = routing
        self._slices = LeadingSlices()
        self._last = LastMixed()

    def leading(self, num_outputs: int, num_inputs: int) -> tuple[Tensor, Tensor | None]:
        """The mixture for the active architecture; without gradients the last one, if it holds."""
        routing = self.routing
        if torch.is_grad_enabled() or routing.router.is_random:
            return self._mixed(num_outputs, num_inputs, routing.coefficients(num_outputs))
        sources = (*self.weights, *self.biases, *routing.router.parameters())
        states = [(tensor.data_ptr(), tensor._version) for tensor in sources]
        key = (num_outputs, num_inputs, routing.encoding.architecture, states)
        if self._last.key != key:
            mixed = self._mixed(num_outputs, num_inputs, routing.coefficients(num_outputs))
            self._last.key, self._last.mixed = key, mixed
        return self._last.mixed

    def _mixed(
        self, num_outputs: int, num_inputs: int, coefficients_OE: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        of_experts = coefficients_OE.unbind(1)
        slices = self._slices((num_outputs, num_inputs), *self.weights, *self.biases)
        weights, biases = slices[: len(self.weights)], slices[len(self.weights) :]
        return _sum(weights, of_experts), _sum(biases, of_experts) if biases else None

    @torch.no_grad()
    def input_importance(self) -> Tensor:
        """(I,), of what the largest architecture uses."""
        num_outputs, num_inputs = self.weights[0].shape[:2]
        coefficients_OE = self.routing.coefficients_of_largest(num_outputs)
        weight_OI, _ = self._mixed(num_outputs, num_inputs, coefficients_OE)
        return weight_OI.abs().transpose(0, 1).flatten(1).sum(dim=1)

    @torch.no_grad()
    def reorder(self, *, outputs: Tensor | None = None, inputs: Tensor | None = None) -> None:
        """Of every expert, and of the router's distributions for these outputs."""
        for weight in self.weights:
            if outputs is not None:
                weight.copy_(weight[outputs])
            if inputs is not None:
                weight.copy_(weight[:, inputs])
        if outputs is not None:
            for bias in self.biases:
                bias.copy_(bias[outputs])
            self.routing.reorder_outputs(outputs)


def _sum(tensors: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Tensor:
    """Each expert's tensor (O, ...) times its coefficients, (O,) or (1,), added up."""
    trailing = (-1, *[1] * (tensors[0].ndim - 1))
    total = tensors[0] * coefficients[0].view(trailing)
    for tensor, coefficient in zip(tensors[1:], coefficients[1:], strict=True):
        total = torch.addcmul(total, tensor, coefficient.view(trailing))
    return total


class Mixture(nn.Module):
    """Lets layers of a supernet mix their weights, and knows for which architecture.

    Args:
        supernet: its layers get a `MixedWeight` in the place of their `SlicedWeight`.
        settings: which layers, and how.
    """

    def __init__(self, supernet: Supernet[Any], settings: "MixtureOfSupernets") -> None:
        super().__init__()
        self.encoding = ArchitectureEncoding(supernet.space, settings.encoding)
        self.routers = nn.ModuleList()
        self._routings: dict[str, Routing] = {}
        names = {module: name for name, module in supernet.named_modules()}
        for layers in _groups(supernet, settings.mixed_layers):
            routing: Routing | None = None
            for layer in layers:
                first = layer.shared
                assert isinstance(first, SlicedWeight), "a supernet is mixed once"
                if routing is None or settings.is_neuronwise:
                    num_rows = len(first.weight) if settings.is_neuronwise else 1
                    router = settings.build_router(len(self.encoding.largest_F), num_rows)
                    self.routers.append(router)
                    routing = Routing(router, self.encoding, settings.is_neuronwise)
                    self._routings[names[layer]] = routing
                layer.shared = MixedWeight(first, settings.build_experts(first), routing)
        supernet.register_forward_pre_hook(self._begin_forward)
        supernet.register_forward_hook(self._end_forward, always_call=True)

    def switch(self, architecture: Architecture) -> None:
        """Mix for this architecture from now on."""
        self.encoding.switch(architecture)

    @torch.no_grad()
    def coefficients(self, architecture: Architecture) -> dict[str, Tensor]:
        """Of the experts, for a member of the space: name of a group's first layer -> (R, E).

        R is 1 layer-wise, and the largest number of output neurons neuron-wise. What is active
        does not change.
        """
        encoding_F = self.encoding.of(architecture).to(self.encoding.largest_F)
        return {
            name: routing.router(encoding_F, routing.router.num_rows)
            for name, routing in self._routings.items()
        }

    def _begin_forward(self, *_: object) -> None:
        self.encoding.of_forward = {}

    def _end_forward(self, *_: object) -> None:
        self.encoding.of_forward = None


@dataclass(frozen=True, kw_only=True)
class MixtureOfSupernets(WeightSharing):
    """What both kinds of mixtures can be set to.

    Args:
        num_experts: tensors per layer.
        mixed_layers: "usual" takes those that the family names (the feed-forward blocks of a
            transformer, as in the paper; the first and last convolution of a residual block),
            "all" every linear layer and convolution.
        encoding: what routers read of an architecture, a name in `routing.ENCODINGS`.
        routing: "dense" mixes all experts, "top_1" takes the one of the largest coefficient, scaled
            by it.
        router_size: hidden features of a router.
        router_dropout: of those, while training.
        router_learning_rate_factor: routers train at this share of the learning rate. Adam moves
            an entry by about the rate per step however small its gradient, so that at a rate that
            suits convolutions a softmax of two layers soon leaves nothing to mix.
        initialization: what the experts after the first start as: "copies" of it with noise, or
            weights of their own from "scratch".
        expert_noise: standard deviation of that noise, relative to that of the copied weights.
            Without noise the coefficients do not matter at first, and routers have no gradient.
    """

    is_neuronwise: ClassVar[bool]

    num_experts: int = 2
    mixed_layers: str = "usual"
    encoding: str = "min_max"
    routing: str = "dense"
    router_size: int = 128
    router_dropout: float = 0.0
    router_learning_rate_factor: float = 0.1
    initialization: str = "copies"
    expert_noise: float = 0.02

    def __post_init__(self) -> None:
        for name in ("num_experts", "router_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise RequestError(f"{name} is a whole number from 1 up, not {value!r}")
        if not (_is_number(self.router_dropout) and 0 <= self.router_dropout < 1):
            raise RequestError(
                f"router_dropout is a rate from 0 up and below 1, not {self.router_dropout!r}"
            )
        factor = self.router_learning_rate_factor
        if not (_is_number(factor) and 0 < factor < math.inf):
            raise RequestError(f"router_learning_rate_factor is a number above 0, not {factor!r}")
        if not (_is_number(self.expert_noise) and 0 <= self.expert_noise < math.inf):
            raise RequestError(f"expert_noise is a number from 0 up, not {self.expert_noise!r}")
        for name, possible in _CHOICES.items():
            if str(getattr(self, name)) not in possible:
                raise unknown_name(name, str(getattr(self, name)), possible)

    def share(self, build: Callable[[], Supernet[Any]]) -> Supernet[Any]:
        """A supernet whose layers mix their weights."""
        supernet = build()
        supernet.mixture = Mixture(supernet, self)
        return supernet

    def build_router(self, num_features: int, num_rows: int) -> Router:
        """One that gives that many distributions over the experts."""
        return Router(
            num_features,
            num_rows,
            self.num_experts,
            size=self.router_size,
            dropout=self.router_dropout,
            top_1=self.routing == "top_1",
            learning_rate_factor=self.router_learning_rate_factor,
        )

    def build_experts(self, first: SlicedWeight) -> list[SlicedWeight]:
        """The experts after the first."""
        shape, has_bias = tuple(first.weight.shape), first.bias is not None
        others = []
        for _ in range(1, self.num_experts):
            if self.initialization == "copies":
                other = copy.deepcopy(first)
                add_noise(other.weight, self.expert_noise)
            else:
                other = SlicedWeight(shape, has_bias=has_bias, initialize=first.initialize)
            others.append(other)
        return others


_CHOICES = {
    "mixed_layers": ("usual", "all"),
    "encoding": ENCODINGS,
    "routing": ("dense", "top_1"),
    "initialization": ("copies", "scratch"),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class LayerwiseMixture(MixtureOfSupernets):
    """One distribution over the experts for the layers of a group."""

    is_neuronwise = False


class NeuronwiseMixture(MixtureOfSupernets):
    """One distribution over the experts for each output neuron of a layer."""

    is_neuronwise = True


def _groups(supernet: Supernet[Any], mixed_layers: str) -> list[Sequence[Any]]:
    """The layers to mix; those of a group share layer-wise coefficients."""
    groups = list[Sequence[Any]](supernet.mixed_layers())
    if mixed_layers == "all":
        grouped = {layer for layers in groups for layer in layers}
        kinds = ElasticLinear | ElasticConv2d | ElasticDepthwiseConv2d
        elastic = (module for module in supernet.modules() if isinstance(module, kinds))
        groups += [(module,) for module in elastic if module not in grouped]
    elif not groups:
        raise RequestError(
            f"the family '{supernet.settings['family']}' names no layers that a mixture usually "
            "mixes; set mixed_layers to 'all'"
        )
    return groups


@torch.no_grad()
def add_noise(weight: Tensor, noise: float) -> None:
    """Normal noise of that standard deviation, relative to that of the weight's entries."""
    weight.add_(torch.randn_like(weight) * (noise * weight.std(unbiased=False)))


def start_from_dense(supernet: Supernet[Any], dense: Mapping[str, Tensor], *, seed: int) -> None:
    """Let every expert start as what is trained already, the others than the first with noise.

    Args:
        supernet: with a mixture; its routers stay as they are.
        dense: the state of a supernet of slices, otherwise the same: `Supernet.state_dict`, or
            `trained_weights` of a checkpoint.
        seed: of the noise, whose size is the supernet's setting `expert_noise`.

    Raises:
        RequestError: if the supernet has no mixture, or names or shapes differ; nothing has
            changed then.
    """
    if not isinstance(supernet.mixture, Mixture):
        raise RequestError(
            "only a mixture has experts that start from a dense network, and this supernet's "
            f"sharing is '{supernet.settings['sharing']}'; use load_weights"
        )
    found = {n: tensor for n, tensor in supernet.state_dict().items() if n.startswith("mixture.")}
    left = dict(dense)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in supernet.named_modules():
            if not isinstance(module, MixedWeight):
                continue
            for one, many in (("weight", "weights"), ("bias", "biases")):
                if f"{name}.{one}" not in left:
                    continue
                copied = left.pop(f"{name}.{one}")
                for k in range(len(module.weights)):
                    expert = found[f"{name}.{many}.{k}"] = copied.clone()
                    if k > 0 and one == "weight":
                        add_noise(expert, supernet.settings["expert_noise"])
    supernet.load_weights({**found, **left})
