"""When a predictor chooses its settings anew: thrice per doubling of the samples.

Settings (which features, which candidate) are those that suit the first 25, 31, 40, 50, 63, 79,
100, ... samples, so a search that tells a few more each time mostly refits what was chosen; and
they follow from the samples, not from how often `fit` was called.
"""

from dataclasses import dataclass
from math import floor, log2

import numpy as np

from nasbench.encoding import Floats
from nasbench.space import Genomes


@dataclass(frozen=True, eq=False)
class FirstSamples:
    """What settings were chosen on: genomes of shape (N, D) and values of shape (N,)."""

    genomes: Genomes
    values: Floats

    @classmethod
    def of(cls, genomes: Genomes, values: Floats) -> "FirstSamples":
        """The first `settled_size` of more samples."""
        size = settled_size(len(values))
        return cls(genomes[:size], values[:size])

    def __len__(self) -> int:
        return len(self.values)

    def are(self, others: "FirstSamples | None") -> bool:
        """Whether they are the same, but for rounding of the values."""
        if others is None or len(self) != len(others):
            return False
        same = self.genomes == others.genomes
        return bool(same.all() and np.allclose(self.values, others.values))


def settled_size(num_samples: int) -> int:
    """The largest size of 25, 31, 40, 50, 63, ... (and below) that is at most `num_samples`."""
    step = floor(3 * log2((num_samples + 0.5) / 25))
    return min(num_samples, max(2, round(25 * 2 ** (step / 3))))
