"""Separate supernets: the space is divided by one dimension, and each part has weights of its own.

Few-shot NAS (Zhao et al., ICML 2021) trains one supernet per choice of a dimension, so that
architectures share less. It is what a mixture is compared with: the same idea with hard borders,
and as many times the parameters as there are parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import Counts
from nasbench.supernet.sharing import WeightSharing


class DividedSupernet(Supernet[tuple[int, Any]]):
    """Supernets of one family and preset, each of which serves a part of the space.

    A shape is the number of the part and the shape in it.

    Args:
        parts: one per choice of the dimension, in their order.
        dimension: by which the space is divided.
    """

    def __init__(self, parts: Sequence[Supernet[Any]], dimension: str) -> None:
        first = parts[0]
        super().__init__(first.space, first.settings, first.spec)
        self.parts = nn.ModuleList(parts)
        (self._dimension,) = (d for d in self.space if d.name == dimension)
        self.activate(self.space.largest)

    def _part(self, number: int) -> Supernet[Any]:
        return cast(Supernet[Any], self.parts[number])

    @property
    def _active(self) -> Supernet[Any]:
        return self._part(self.shape[0])

    def activate(self, architecture: Any) -> None:
        """As of every supernet; in the part that serves the architecture."""
        super().activate(architecture)
        self._active.activate(self.architecture)

    def forward(self, *inputs: Tensor) -> Any:
        """What the active part computes."""
        return self._active(*inputs)

    def shape_of(self, architecture: Architecture) -> tuple[int, Any]:
        """The part that serves it, and the shape there."""
        number = self._dimension.index(architecture[self._dimension.name])
        return number, self._part(number).shape_of(architecture)

    def extract_shape(self, shape: tuple[int, Any]) -> nn.Module:
        """What the part extracts."""
        number, of_part = shape
        return self._part(number).extract_shape(of_part)

    def count_shape(self, shape: tuple[int, Any]) -> Counts:
        """What the part counts."""
        number, of_part = shape
        return self._part(number).count_shape(of_part)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Those of the parts."""
        return self._part(0).example_inputs(batch_size)

    def residual_ends(self) -> list[nn.Module]:
        """Those of all parts."""
        return [end for part in self.parts for end in cast(Supernet[Any], part).residual_ends()]

    def channel_groups(self) -> list[ChannelGroup]:
        """Those of all parts."""
        return [g for part in self.parts for g in cast(Supernet[Any], part).channel_groups()]


@dataclass(frozen=True, kw_only=True)
class SeparateSupernets(WeightSharing):
    """One supernet per choice of a dimension.

    Args:
        divided_by: a dimension that is active in all architectures.
    """

    divided_by: str = ""

    def share(self, build: Callable[[], Supernet[Any]]) -> Supernet[Any]:
        """The supernets as one; RequestError if no such dimension can divide the space."""
        first = build()
        possible = {d.name: d for d in first.space if d.active_when is None and len(d.choices) > 1}
        if not self.divided_by:
            raise RequestError(
                "separate supernets need the dimension that the space is divided_by; possible: "
                + ", ".join(possible)
            )
        if self.divided_by not in possible:
            raise unknown_name("dimension to divide by", str(self.divided_by), possible)
        others = [build() for _ in possible[self.divided_by].choices[1:]]
        return DividedSupernet([first, *others], self.divided_by)
