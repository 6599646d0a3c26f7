"""The predictor that ranks held-out samples best, chosen anew for each metric as samples arrive."""

import copy
from collections.abc import Sequence

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.predictors.encoding import Encoding
from nasbench.predictors.quality import rank_agreement
from nasbench.predictors.schedule import FirstSamples
from nasbench.space import Genomes, SearchSpace

_MARGIN = 0.02  # of tau, by which a later candidate has to be better


class AutoPredictor(Predictor):
    """Whichever candidate has the highest Kendall tau between held-out predictions and values.

    Ranks decide because they are what a search uses of a prediction. LINAS's code chooses
    between ridge and support vector regression likewise, by relative error (2205.10358).

    The choice is made thrice per doubling of the samples (`schedule.py`).

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
        self._compared: FirstSamples | None = None
        self.chosen = self._candidates[0]

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        values = self._center + self._scale * targets  # targets' scale changes with every sample
        first = FirstSamples.of(genomes, values)
        if not first.are(self._compared):
            self._compared = first
            self._best = self._compare(first.genomes, first.values)
        if len(first) < len(values):
            self._best = copy.copy(self._best).fit(genomes, values)

    def _compare(self, genomes: Genomes, values: Floats) -> Predictor:
        """Choose, and return the chosen candidate as it was fitted for that."""
        fitted = {name: self._make(name).fit(genomes, values) for name in self._candidates}
        quality = {
            name: rank_agreement(candidate.held_out_means(), values)
            for name, candidate in fitted.items()
        }
        quality[self._candidates[0]] += _MARGIN
        self.chosen = max(quality, key=quality.__getitem__)
        return fitted[self.chosen]

    def _make(self, name: str) -> Predictor:
        return PREDICTORS[name](self.space, self.seed, encoding=self._encoding)

    def _predict(self, genomes: Genomes) -> Prediction:
        predicted = self._best.predict(genomes)
        mean = (predicted.mean - self._center) / self._scale
        return Prediction(mean, predicted.std / self._scale)

    def _predict_mean(self, genomes: Genomes) -> Floats:
        return (self._best.predict_mean(genomes) - self._center) / self._scale

    def _held_out_means(self) -> Floats:
        return (self._best.held_out_means() - self._center) / self._scale
