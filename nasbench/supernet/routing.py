"""Routing: with which coefficients a layer mixes its experts for an architecture.

A router is a perceptron of two layers that reads the encoding of the whole architecture; a softmax
over the experts follows. See `nasbench.supernet.mixture` for what is mixed.

Shape legend: E experts, O active outputs, R rows of coefficients, F features of the encoding of an
architecture, H hidden features of a router.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.encoding import Floats, layer_means, one_hot, ordinal
from nasbench.space import Architecture, Genomes, SearchSpace
from nasbench.supernet.layers import ElasticDropout
from nasbench.supernet.sharing import LeadingSlices


def _constant(space: SearchSpace, genomes: Genomes) -> Floats:
    """The same for all: what a router can do that does not see the architecture."""
    return np.full((len(genomes), len(space)), 0.5)


ENCODINGS: dict[str, Callable[[SearchSpace, Genomes], Floats]] = {
    "min_max": ordinal,
    "one_hot": one_hot,
    "layer_means": layer_means,
    "constant": _constant,
}


class Router(nn.Module):
    """From an architecture's encoding to the coefficients of the experts.

    Args:
        num_rows: how many distributions over the experts there are at most.
        top_1: keep the largest coefficient, and make all others zero.
        learning_rate_factor: it trains at this share of the learning rate.
    """

    def __init__(
        self,
        num_features: int,
        num_rows: int,
        num_experts: int,
        *,
        size: int,
        dropout: float,
        top_1: bool,
        learning_rate_factor: float,
    ) -> None:
        super().__init__()
        self.learning_rate_factor = learning_rate_factor
        self.num_rows, self.num_experts, self.top_1 = num_rows, num_experts, top_1
        self.inner = nn.Linear(num_features, size)
        self.dropout = ElasticDropout(dropout, size)
        self.outer = nn.Linear(size, num_rows * num_experts)
        self._slices = LeadingSlices()

    @property
    def is_random(self) -> bool:
        """Whether two calls differ."""
        return self.dropout.training and self.dropout.rate > 0

    def forward(self, encoding_F: Tensor, num_rows: int) -> Tensor:
        """The first rows, (num_rows, E); under autocast, too, in the type of the weights."""
        size = num_rows * self.num_experts
        with torch.autocast(encoding_F.device.type, enabled=False):
            hidden_H = self.dropout(F.relu(self.inner(encoding_F)))
            outer, bias = self._slices((size,), self.outer.weight, self.outer.bias)
            logits_RE = F.linear(hidden_H, outer, bias).view(num_rows, self.num_experts)
            coefficients_RE = logits_RE.softmax(dim=-1)
        if not self.top_1:
            return coefficients_RE
        best_RE = F.one_hot(coefficients_RE.argmax(dim=-1), self.num_experts)
        return coefficients_RE * best_RE

    @torch.no_grad()
    def reorder(self, rows: Tensor) -> None:
        """Put the distributions into another order: position i gets what was at `rows[i]`."""
        for parameter in (self.outer.weight, self.outer.bias):
            by_row = parameter.unflatten(0, (-1, self.num_experts))
            by_row.copy_(by_row[rows])


class ArchitectureEncoding(nn.Module):
    """The encoding of the architecture whose weights are to be mixed.

    Attributes:
        architecture: that architecture.
        encoding_F: what routers read of it.
        largest_F: the encoding of the largest architecture.
        of_forward: what routers have said in the forward pass under way; None outside of one.
    """

    encoding_F: Tensor
    largest_F: Tensor

    def __init__(self, space: SearchSpace, name: str) -> None:
        super().__init__()
        self._space, self._encode = space, ENCODINGS[name]
        self.register_buffer("largest_F", self.of(space.largest), persistent=False)
        self.register_buffer("encoding_F", self.largest_F, persistent=False)
        self.architecture = space.largest
        self.of_forward: dict[Router, Tensor] | None = None

    def of(self, architecture: Architecture) -> Tensor:
        """The encoding of a member of the space: (F,)."""
        genome = self._space.to_genome(architecture)
        (features_F,) = self._encode(self._space, genome[None])
        return torch.tensor(features_F, dtype=torch.float32)

    def switch(self, architecture: Architecture) -> None:
        """Mix for this one from now on; what autograd has saved of the last one stays as it is."""
        if architecture == self.architecture:
            return
        with torch.inference_mode(False):
            self.encoding_F = self.of(architecture).to(self.largest_F)
        self.architecture = architecture


class Routing:
    """Where a layer's coefficients come from: its router, and the encoding that this reads.

    Both belong to the supernet's `Mixture`; layers of one group have one routing.
    """

    def __init__(self, router: Router, encoding: ArchitectureEncoding, is_neuronwise: bool) -> None:
        self.router, self.encoding, self._is_neuronwise = router, encoding, is_neuronwise

    def coefficients(self, num_outputs: int) -> Tensor:
        """Of the architecture to mix for: (1, E) layer-wise, (O, E) neuron-wise.

        Within one forward pass of the supernet the layers of a group get the same tensor.
        """
        encoding_F, memo = self.encoding.encoding_F, self.encoding.of_forward
        if self._is_neuronwise:
            return self.router(encoding_F, num_outputs)
        if memo is None:
            return self.router(encoding_F, 1)
        if self.router not in memo:
            memo[self.router] = self.router(encoding_F, 1)
        return memo[self.router]

    def coefficients_of_largest(self, num_outputs: int) -> Tensor:
        """Of the largest architecture."""
        num_rows = num_outputs if self._is_neuronwise else 1
        return self.router(self.encoding.largest_F, num_rows)

    def reorder_outputs(self, outputs: Tensor) -> None:
        """The layer's outputs are put into this order."""
        if self._is_neuronwise:
            self.router.reorder(outputs)
