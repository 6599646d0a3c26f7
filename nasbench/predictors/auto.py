"""The predictor that ranks held-out samples best, chosen anew for each metric and each fit."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.space import Genomes, SearchSpace


class AutoPredictor(Predictor):
    """Whichever candidate has the highest Kendall tau between held-out predictions and values.

    Ranks decide because they are what a search uses of a prediction. LINAS's code chooses
    between ridge and support vector regression likewise, by relative error (2205.10358).

    Args:
        space: what the genomes belong to.
        seed: of all randomness in fitting, and of the folds that the candidates share.
        candidates: names of `PREDICTORS`; the first one wins ties.
    """

    def __init__(
        self, space: SearchSpace, seed: int = 0, candidates: Sequence[str] = ("ridge", "svr")
    ) -> None:
        super().__init__(space, seed)
        if not candidates:
            raise RequestError("predictor 'auto' chooses among candidates; name at least one")
        for name in candidates:
            PREDICTORS.check(name)
        self._candidates = tuple(candidates)
        self.chosen: str | None = None

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        fitted = {
            name: PREDICTORS[name](self.space, self.seed).fit(genomes, targets)
            for name in self._candidates
        }
        quality = {
            name: _rank_agreement(candidate.held_out_means(), targets)
            for name, candidate in fitted.items()
        }
        self.chosen = max(quality, key=quality.__getitem__)
        self._best = fitted[self.chosen]

    def _predict(self, genomes: Genomes) -> Prediction:
        return self._best.predict(genomes)

    def _held_out_means(self) -> Floats:
        return self._best.held_out_means()


def _rank_agreement(means: Floats, values: Floats) -> float:
    """Kendall's tau-b; -1 where the predictions are all equal, which rank nothing."""
    return float(kendalltau(means, values).statistic) if np.ptp(means) > 0 else -1.0
