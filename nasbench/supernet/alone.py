"""A network by itself, dressed as a supernet of one, so that the same trainer trains it.

What a sub-network reaches alone is what its inherited accuracy is compared with, and what it is
retrained to before it is shipped.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.space import Architecture, SearchSpace
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import Counts


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Says which network it is."""

    name: str


class NetworkAlone(Supernet[None]):
    """A plain network; its space has one architecture, which has no dimensions.

    Args:
        name: names the network in its fingerprint, such as an architecture's id.
        network: is used as it is, not copied.
        counts: its parameters and MACs, by name.
        inputs: example inputs.
    """

    def __init__(
        self, name: str, network: nn.Module, counts: Mapping[str, int], inputs: tuple[Tensor, ...]
    ) -> None:
        settings = {"family": "alone", "preset": name, "sharing": "none"}
        super().__init__(SearchSpace([]), settings, NetworkSpec(name))
        self.network = network
        self._counts, self._inputs = Counts(**counts), inputs
        self.activate(self.space.largest)

    @classmethod
    def of(
        cls, supernet: Supernet[Any], architecture: Architecture, *, seed: int
    ) -> "NetworkAlone":
        """A sub-network of a supernet with fresh weights, of its own sizes, from the seed."""
        network = supernet.extract(architecture)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network.apply(_initialize)
        return cls.wrapping(supernet, architecture, network)

    @classmethod
    def wrapping(
        cls, supernet: Supernet[Any], architecture: Architecture, network: nn.Module
    ) -> "NetworkAlone":
        """A sub-network that was extracted from a supernet, with the weights that it has."""
        counts, inputs = supernet.count(architecture), supernet.example_inputs(2)
        return cls(architecture.id, network, counts, inputs)

    def forward(self, *inputs: Tensor) -> Any:
        """What the network computes."""
        return self.network(*inputs)

    def shape_of(self, _architecture: Architecture) -> None:
        """There is nothing to say."""

    def extract_shape(self, _shape: None) -> nn.Module:
        """A copy of the network."""
        return copy.deepcopy(self.network)

    def count_shape(self, _shape: None) -> Counts:
        """What the constructor was told."""
        return self._counts

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """The inputs of the constructor, repeated or cut to that many."""
        repeats = -(-batch_size // len(self._inputs[0]))
        return tuple(torch.cat([x] * repeats)[:batch_size] for x in self._inputs)


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """Fresh weights, as an elastic layer of exactly these sizes starts with."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        nn.init.ones_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter):
        nn.init.zeros_(bias)
