"""A supernet whose layers are mixed as a distribution over shapes says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import ElasticConvNorm, ElasticLinear
from nasbench.supernet.searchable import Searchable, ShapedLayer
from nasbench.supernet.shape_search.distribution import Selection, ShapeDistribution
from nasbench.supernet.shape_search.mixing import (
    MixedConvNorm,
    MixedLayer,
    MixedLinear,
    MixedStage,
)


def learned_dimensions(supernet: Supernet[Any]) -> tuple[list[str], list[str]]:
    """The dimensions of widths and kernel sizes, and of depths, that a search by gradient learns.

    Raises:
        RequestError: if the family does not say which layers they decide, there is none, or
            weights are not plain slices.
    """
    sharing = supernet.settings["sharing"]
    if sharing != "slice":
        raise RequestError(
            f"a shape search by gradient needs supernet.sharing slice, not '{sharing}': the "
            "weights of its layers cannot depend on an architecture that is being learned"
        )
    searchable = supernet.searchable()
    elastic = {dimension.name for dimension in supernet.space}
    mixed = dict.fromkeys(layer.dimension for layer in searchable.layers)
    depths = [stage.dimension for stage in searchable.stages]
    found = [n for n in mixed if n in elastic], [n for n in depths if n in elastic]
    if not any(found):
        raise RequestError(
            f"the preset '{supernet.settings['preset']}' of the family "
            f"'{supernet.settings['family']}' has no widths or depths to learn"
        )
    return found


class TransformableNetwork(nn.Module):
    """One network that computes two sizes of every layer and all depths of every stage.

    It normalizes by the statistics of the batch, in training and evaluation alike, as those of a
    mixture belong to no sub-network.

    Args:
        supernet: of plain slices, with fresh weights; its layers are replaced.
        seed: of the initial logits.

    Raises:
        RequestError: if the supernet cannot be searched by gradient.
    """

    def __init__(self, supernet: Supernet[Any], *, seed: int) -> None:
        super().__init__()
        mixed, depths = learned_dimensions(supernet)
        searchable = supernet.searchable()
        self.supernet = supernet.train()
        generator = torch.Generator().manual_seed(seed)
        self.distribution = ShapeDistribution(supernet.space, mixed, depths, generator)
        self._layers = [
            (layer, self._replace(layer)) for layer in searchable.layers if layer.dimension in mixed
        ]
        self._stages = self._mixed_stages(searchable, depths)

    def _replace(self, layer: ShapedLayer) -> MixedLayer:
        found = self.supernet.get_submodule(layer.name)
        if isinstance(found, ElasticConvNorm):
            num_choices = len(self.distribution.choices[layer.dimension])
            replacement: MixedLayer = MixedConvNorm(found, num_choices)
        else:
            assert isinstance(found, ElasticLinear)
            replacement = MixedLinear(found)
        self.supernet.set_submodule(layer.name, replacement)
        return replacement

    def _mixed_stages(self, searchable: Searchable, depths: list[str]) -> dict[str, MixedStage]:
        return {
            stage.dimension: MixedStage(
                [self.supernet.get_submodule(name) for name in stage.blocks],
                self.distribution.choices[stage.dimension],  # type: ignore[arg-type]
            )
            for stage in searchable.stages
            if stage.dimension in depths
        }

    def select(self, selections: Mapping[str, Selection]) -> None:
        """What later forward passes compute: of each learned dimension, the selected choices."""
        choices = self.distribution.choices
        largest = {name: choices[name][s.indices[-1]] for name, s in selections.items()}
        self.supernet.activate({**self.supernet.largest, **largest})
        for name, stage in self._stages.items():
            selection = selections[name]
            stage.weights_K = selection.weights_K if len(selection.indices) > 1 else None
        shapes: dict[str, list[Any]] = {}  # of the sub-networks with each smaller choice
        for name in self.distribution.mixed:
            shapes[name] = [
                self.supernet.shape_of(
                    Architecture({**self.supernet.architecture, name: choices[name][index]})
                )
                for index in selections[name].indices[:-1]
            ]
        for layer, mixed in self._layers:
            selection = selections[layer.dimension]
            sizes = [layer.size(shape) for shape in shapes[layer.dimension]]
            mixed.select(selection.indices, sizes, selection.weights_K)

    def forward(self, *inputs: Tensor) -> Any:
        """What the selected choices compute together."""
        return self.supernet(*inputs)

    @property
    def weight_parameters(self) -> list[nn.Parameter]:
        """All but the logits."""
        return list(self.supernet.parameters())
