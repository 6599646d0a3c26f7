"""Ridge and support vector regression, stacked.

A last regression weighs the two by what each says of samples that it did not learn from
(Wolpert, Stacked Generalization, Neural Networks 1992); the combination is that of LINAS's
papers (Cummings et al., 2205.10358).

Shape legend: N architectures.
"""

import numpy as np
from scipy.optimize import nnls

from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.predictors.ridge import RidgePredictor
from nasbench.predictors.svr import SVRPredictor
from nasbench.space import Genomes

_PRIOR_SAMPLES = 10.0  # how many samples' worth of evidence the plain average starts with


class StackedPredictor(Predictor):
    """A weighted sum of ridge and support vector regression.

    The standard deviation is the same for every candidate: the root mean square of the
    residuals of the sum on held-out predictions.
    """

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        self._members = [
            member(self.space, self.seed).fit(genomes, targets)
            for member in (RidgePredictor, SVRPredictor)
        ]
        held_out_N2 = np.column_stack([member.held_out_means() for member in self._members])
        self._weights_2 = _weigh(held_out_N2, targets)
        residuals = held_out_N2 @ self._weights_2 - targets
        self._residual = float(np.sqrt(np.mean(residuals**2)))

    def _predict(self, genomes: Genomes) -> Prediction:
        means_N2 = np.column_stack([member.predict(genomes).mean for member in self._members])
        return Prediction(means_N2 @ self._weights_2, np.full(len(genomes), self._residual))


def _weigh(held_out_N2: Floats, targets: Floats) -> Floats:
    """Weights of shape (2,) by ridge regression around the plain average.

    None is negative: held-out predictions of few samples lean against what was held out.
    """
    strength = np.sqrt(_PRIOR_SAMPLES)
    weights_2: Floats = nnls(
        np.vstack([held_out_N2, strength * np.eye(2)]),
        np.concatenate([targets, strength * np.full(2, 0.5)]),
    )[0]
    return weights_2
