"""A supernet family of one's own in one file: perceptrons of elastic depth and width.

`supernet.family: tests.supernet.own_family:PERCEPTRON` in a YAML uses it; nothing is registered.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.space import ActiveWhen, Architecture, ElasticDimension, SearchSpace
from nasbench.supernet import Supernet, SupernetFamily
from nasbench.supernet.layers import Counts, ElasticLinear


@dataclass(frozen=True, kw_only=True)
class PerceptronSpec:
    """All about one supernet; a task replaces what its data decides."""

    widths: tuple[int, ...]
    max_depth: int
    in_channels: int = 1
    image_size: int = 8
    num_classes: int = 10

    @property
    def in_features(self) -> int:
        return self.in_channels * self.image_size**2

    def space(self) -> SearchSpace:
        depths = tuple(range(1, self.max_depth + 1))
        dimensions = [ElasticDimension("depth", depths)]
        for layer in depths:
            deep_enough = ActiveWhen("depth", depths[layer - 1 :]) if layer > 1 else None
            dimensions.append(ElasticDimension(f"layer{layer}.width", self.widths, deep_enough))
        return SearchSpace(dimensions)


class PerceptronSupernet(Supernet[tuple[int, ...]]):
    """A shape is the widths of the hidden layers that run."""

    def __init__(self, spec: Any, settings: dict[str, Any]) -> None:
        super().__init__(spec.space(), settings, spec)
        widest = max(spec.widths)
        sizes = [spec.in_features] + [widest] * (spec.max_depth - 1)
        self.hidden = nn.ModuleList(ElasticLinear(n, widest) for n in sizes)
        self.classifier = ElasticLinear(widest, spec.num_classes)
        self.activate(self.space.largest)

    def shape_of(self, architecture: Architecture) -> tuple[int, ...]:
        layers = range(1, int(architecture["depth"]) + 1)
        return tuple(int(architecture[f"layer{layer}.width"]) for layer in layers)

    def forward(self, images: Tensor) -> Tensor:
        x_BI = images.flatten(1)
        for layer, width in zip(self.hidden, self.shape, strict=False):
            x_BI = F.relu(layer(x_BI, width))
        return self.classifier(x_BI, self.spec.num_classes)

    def extract_shape(self, shape: tuple[int, ...]) -> nn.Module:
        network, width_before = nn.Sequential(nn.Flatten()), self.spec.in_features
        for layer, width in zip(self.hidden, shape, strict=False):
            network.extend([layer.extract(width_before, width), nn.ReLU()])
            width_before = width
        return network.append(self.classifier.extract(width_before, self.spec.num_classes))

    def count_shape(self, shape: tuple[int, ...]) -> Counts:
        counts, width_before = Counts(), self.spec.in_features
        for layer, width in zip(self.hidden, shape, strict=False):
            counts += layer.count(width_before, width)
            width_before = width
        return counts + self.classifier.count(width_before, self.spec.num_classes)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        spec = self.spec
        shape = (batch_size, spec.in_channels, spec.image_size, spec.image_size)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return (images.to(next(self.parameters())),)


PERCEPTRON = SupernetFamily(
    name="tests.supernet.own_family:PERCEPTRON",
    presets={"tiny": PerceptronSpec(widths=(16, 32, 64), max_depth=3)},
    settings=("in_channels", "image_size", "num_classes"),
    supernet=PerceptronSupernet,
)
