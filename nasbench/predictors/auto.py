"""The predictor that ranks held-out samples best, chosen anew for each metric as samples arrive."""

from collections.abc import Sequence
from math import floor, log2

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.predictors.encoding import Encoding
from nasbench.predictors.quality import rank_agreement
from nasbench.space import Genomes, SearchSpace

_MARGIN = 0.02  # of tau, by which a later candidate has to be better


class AutoPredictor(Predictor):
    """Whichever candidate has the highest Kendall tau between held-out predictions and values.

    Ranks decide because they are what a search uses of a prediction. LINAS's code chooses
    between ridge and support vector regression likewise, by relative error (2205.10358).

    The choice is made on the first 25, 31, 40, 50, 63, 79, 100, ... samples (thrice per
    doubling), so a search that tells a few more each time mostly refits the chosen one alone; and
    it follows from the samples, not from how often `fit` was called.

    Args:
        space: what the genomes belong to.
        seed: of all randomness in fitting, and of the folds that the candidates share.
        encoding: that of every candidate; None lets each take its own.
        candidates: names of `PREDICTORS`; the first one is taken unless another is clearly
            better.

    Attributes:
        chosen: the name of the candidate that predicts.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        encoding: str | Encoding | None = None,
        candidates: Sequence[str] = ("gp", "ridge", "lightgbm"),
    ) -> None:
        super().__init__(space, seed, encoding=encoding)
        if not candidates:
            raise RequestError("predictor 'auto' chooses among candidates; name at least one")
        for name in candidates:
            PREDICTORS.check(name)
        self._candidates = tuple(candidates)
        self._encoding = encoding
        self._compared: tuple[Genomes, Floats] | None = None
        self.chosen = self._candidates[0]

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        size = comparison_size(len(targets))
        values = self._center + self._scale * targets  # targets change scale with every sample
        if not self._has_compared(genomes[:size], values[:size]):
            self._compared = genomes[:size], values[:size]
            fitted = self._compare(genomes[:size], targets[:size])
            if size == len(targets):
                self._best = fitted
                return
        self._best = self._make(self.chosen).fit(genomes, targets)

    def _has_compared(self, genomes: Genomes, values: Floats) -> bool:
        if self._compared is None or len(self._compared[1]) != len(values):
            return False
        return bool((self._compared[0] == genomes).all() and np.allclose(self._compared[1], values))

    def _compare(self, genomes: Genomes, targets: Floats) -> Predictor:
        """Choose, and return the chosen candidate as it was fitted for that."""
        fitted = {name: self._make(name).fit(genomes, targets) for name in self._candidates}
        quality = {
            name: rank_agreement(candidate.held_out_means(), targets)
            for name, candidate in fitted.items()
        }
        quality[self._candidates[0]] += _MARGIN
        self.chosen = max(quality, key=quality.__getitem__)
        return fitted[self.chosen]

    def _make(self, name: str) -> Predictor:
        return PREDICTORS[name](self.space, self.seed, encoding=self._encoding)

    def _predict(self, genomes: Genomes) -> Prediction:
        return self._best.predict(genomes)

    def _held_out_means(self) -> Floats:
        return self._best.held_out_means()


def comparison_size(num_samples: int) -> int:
    """The largest size of 25, 31, 40, 50, 63, ... (and below) that is at most `num_samples`."""
    step = floor(3 * log2((num_samples + 0.5) / 25))
    return min(num_samples, max(2, round(25 * 2 ** (step / 3))))
