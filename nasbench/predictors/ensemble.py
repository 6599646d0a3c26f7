"""Predictors of different kinds, weighed by what each says of samples that it did not learn from.

Wolpert, Stacked Generalization (Neural Networks 1992).

Shape legend: N architectures, K members.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.predictors.encoding import Encoding
from nasbench.space import Genomes, SearchSpace

_PRIOR_SAMPLES = 10.0  # how many samples' worth of evidence the plain average starts with


class EnsemblePredictor(Predictor):
    """A weighted sum of other predictors.

    The standard deviation is the same for every candidate: the root mean square of the sum's
    errors on held-out samples.

    Args:
        space: what the genomes belong to.
        seed: of all randomness in fitting.
        encoding: that of every member; None lets each take its own.
        members: names of `PREDICTORS`.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        encoding: str | Encoding | None = None,
        members: Sequence[str] = ("gp", "ridge", "lightgbm"),
    ) -> None:
        super().__init__(space, seed, encoding=encoding)
        if not members:
            raise RequestError("an ensemble has members; name at least one")
        for name in members:
            PREDICTORS.check(name)
        self._kinds = tuple(members)
        self._encoding = encoding

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        self._members = [
            PREDICTORS[name](self.space, self.seed, encoding=self._encoding).fit(genomes, targets)
            for name in self._kinds
        ]
        held_out_NK = np.column_stack([member.held_out_means() for member in self._members])
        self._weights_K = _weigh(held_out_NK, targets)
        residuals = held_out_NK @ self._weights_K - targets
        self._residual = float(np.sqrt(np.mean(residuals**2)))

    def _predict(self, genomes: Genomes) -> Prediction:
        means_NK = np.column_stack([member.predict(genomes).mean for member in self._members])
        return Prediction(means_NK @ self._weights_K, np.full(len(genomes), self._residual))


def _weigh(held_out_NK: Floats, targets: Floats) -> Floats:
    """Weights of shape (K,) by ridge regression around the plain average.

    None is negative: held-out predictions of few samples lean against what was held out.
    """
    num_members = held_out_NK.shape[1]
    strength = np.sqrt(_PRIOR_SAMPLES)
    weights_K: Floats = nnls(
        np.vstack([held_out_NK, strength * np.eye(num_members)]),
        np.concatenate([targets, np.full(num_members, strength / num_members)]),
    )[0]
    return weights_K
