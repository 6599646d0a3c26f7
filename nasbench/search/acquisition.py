"""Acquisition: which candidates, measured together, are expected to dominate the most.

The hypervolume that points dominate is, but for a constant, the expectation over directions of
the best scalarization of any of them (Golovin and Zhang, Random Hypervolume Scalarizations for
Provable Multi-Objective Black Box Optimization, ICML 2020):

    max over points y of min over m of ((reference_m - y_m) / direction_m)_+ ^ M

with directions uniform on the positive part of the sphere. In this form it needs no geometry for
any number of objectives, grows by a maximum when a point is added, and is the expected
improvement where there is one objective.

Shape legend: N candidates, M objectives, L directions, S samples of what is not known.
"""

import numpy as np
from scipy.stats import norm

from nasbench.pareto import non_dominated
from nasbench.search.problem import Floats
from nasbench.search.selection import Rows

_REFERENCE = 1.1  # beyond the worst of the front, in units of its extent
_NUM_DIRECTIONS = 96
_NUM_FIRST_DIRECTIONS = 24  # that tell who deserves all of them
_NUM_SAMPLES = 16
_MAX_COMPARED = 300


class HypervolumeGain:
    """How much more a front would dominate, averaged over what candidates may turn out to be.

    All candidates share one set of standard normal samples, so that what distinguishes them is
    not chance, and a candidate that was taken counts as measured in each sample.

    Args:
        measured: losses of shape (any number, M), at least one row.
        rng: of directions and samples.
    """

    def __init__(self, measured: Floats, rng: np.random.Generator) -> None:
        front = measured[non_dominated(measured)]
        extent = np.ptp(front, axis=0)
        self._lowest = front.min(axis=0)
        self._extent = np.where(extent > 0, extent, 1.0)
        num_objectives = measured.shape[1]
        directions = np.abs(rng.normal(size=(_NUM_DIRECTIONS, num_objectives)))
        self._directions_LM = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        levels = norm.ppf((np.arange(_NUM_SAMPLES) + 0.5) / _NUM_SAMPLES)
        self._samples_SM = rng.permuted(np.tile(levels, (num_objectives, 1)), axis=1).T
        reached_L = self._scalarized(front).max(axis=0)
        self._reached_SL = np.tile(reached_L, (_NUM_SAMPLES, 1))

    def take(self, means: Floats, stds: Floats) -> None:
        """Count candidates (N, M) that are being measured as measured."""
        if len(means):
            reached_SL = self._scalarized(self._sampled(means, stds)).max(axis=1)
            self._reached_SL = np.maximum(self._reached_SL, reached_SL)

    def best(self, means: Floats, stds: Floats, count: int, chances: Floats | float = 1.0) -> Rows:
        """At most `count` candidates (N, M), the first alone the best, each next one with them.

        Args:
            chances: the probability (N,) of each that it can be measured, by which gains count.
        """
        chances = np.broadcast_to(chances, len(means))
        sampled_SNM = self._sampled(means, stds)
        rows = self._promising(sampled_SNM, chances)
        values_SNL = self._scalarized(sampled_SNM[:, rows])
        taken: list[int] = []
        while len(taken) < min(count, len(rows)):
            gains_N = np.maximum(values_SNL - self._reached_SL[:, None], 0.0).mean(axis=(0, 2))
            gains_N *= chances[rows]
            gains_N[taken] = -1.0
            taken.append(int(np.argmax(gains_N)))
            self._reached_SL = np.maximum(self._reached_SL, values_SNL[:, taken[-1]])
        chosen: Rows = rows[taken]
        return chosen

    def _promising(self, sampled_SNM: Floats, chances: Floats) -> Rows:
        """Those that gain most by some of the directions."""
        few = slice(_NUM_FIRST_DIRECTIONS)
        gains_N = np.zeros(sampled_SNM.shape[1])
        for losses_NM, reached_L in zip(sampled_SNM, self._reached_SL, strict=True):
            values_NL = self._scalarized(losses_NM, few)
            gains_N += np.maximum(values_NL - reached_L[few], 0.0).mean(axis=1)
        best: Rows = np.argsort(-gains_N * chances, kind="stable")[:_MAX_COMPARED]
        return best

    def _sampled(self, means: Floats, stds: Floats) -> Floats:
        """What each candidate may turn out to be, of shape (S, N, M)."""
        return np.asarray(means + stds * self._samples_SM[:, None])

    def _scalarized(self, losses: Floats, directions: slice = slice(None)) -> Floats:
        """(..., M) -> (..., L)."""
        headroom = _REFERENCE - (losses - self._lowest) / self._extent
        ratios = [
            headroom[..., m, None] / self._directions_LM[directions, m]
            for m in range(losses.shape[-1])
        ]
        least = np.maximum(np.minimum.reduce(ratios), 0.0)
        return np.asarray(least ** losses.shape[-1])
