"""A scale of losses on which what is near the best counts most.

Shape legend: N trials.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from nasbench.search.problem import Floats

_SHARE = 0.1  # of the way from the best to the median


@dataclass(frozen=True, slots=True)
class Stretch:
    """arcsinh((loss - best) / depth): a line within `depth` of the best, a logarithm beyond.

    A network of 6 % error and one of 90 % differ by as much as matters once on a linear scale;
    here a tenth of the way from the best to the median trial is worth as much as anywhere
    farther out a factor of three. It also turns the long tail of those that hardly work into
    something that a Gaussian process can learn.

    Args:
        best: the least loss.
        depth: of the region around it, above 0.
    """

    best: float
    depth: float

    @classmethod
    def of(cls, losses_N: Floats) -> Self:
        """The scale that N >= 1 losses suggest."""
        best = float(losses_N.min())
        to_median = float(np.median(losses_N)) - best
        return cls(best, _SHARE * (to_median or float(np.ptp(losses_N))) or 1.0)

    def of_losses(self, losses: Floats) -> Floats:
        """Losses of any shape on this scale."""
        return np.arcsinh((losses - self.best) / self.depth)

    def to_losses(self, stretched: Floats) -> Floats:
        """And back."""
        return self.best + self.depth * np.sinh(stretched)
