"""Failures: how likely a candidate can be measured at all.

A device that lacks an operator or the memory fails on some architectures and not on others. What
fails has no losses to learn from, so predictors take it for whatever its neighbors are, and a
search that only avoids what has failed already can spend most of its trials there.

Shape legend: N candidates, D dimensions.
"""

import numpy as np

from nasbench.predictors import PREDICTORS
from nasbench.search.problem import Floats
from nasbench.space import Genomes, SearchSpace

_MIN_SAMPLES = 5  # of either kind
_MAX_SAMPLES = 500  # of either kind, the latest
_HOPELESS = 0.5  # of the share of trials that succeeded: what is less likely is given up


class SuccessPredictor:
    """The probability that a trial succeeds, by ridge regression on what became of others.

    Args:
        space: that candidates belong to.
        seed: of the predictor.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._predictor = PREDICTORS["ridge"](space, seed)
        self._num_known = (0, 0)

    def probabilities(self, genomes: Genomes, measured: Genomes, failed: Genomes) -> Floats:
        """Of candidates (N, D), as far as these trials tell: (N,), all 1 where few have failed.

        0 for those that are much less likely to succeed than trials were so far. Nothing near
        them was ever measured, so what they are predicted to gain can exceed any real gain by more
        than their small probability makes up for.
        """
        if min(len(measured), len(failed)) < _MIN_SAMPLES:
            return np.ones(len(genomes))
        if self._num_known != (len(measured), len(failed)):
            known = measured[-_MAX_SAMPLES:], failed[-_MAX_SAMPLES:]
            labels = np.repeat([1.0, 0.0], [len(part) for part in known])
            self._predictor.fit(np.concatenate(known), labels)
            self._num_known = len(measured), len(failed)
        found = np.clip(self._predictor.predict_mean(genomes), 0.0, 1.0)
        share = len(measured) / (len(measured) + len(failed))
        return np.where(found < _HOPELESS * share, 0.0, found)
