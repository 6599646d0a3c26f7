"""Ridge regression on one-hot features: each choice adds its share. Best for latency.

Cummings et al., A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
Modalities (2205.10358) find ridge ahead of neural networks below some hundred samples.

Shape legend: N architectures, F features, A strengths of the penalty.
"""

import numpy as np

from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.space import Genomes

_ALPHAS_A = np.logspace(-3, 3, 25)  # one-hot columns are 0 or 1, targets have variance 1


class RidgePredictor(Predictor):
    """Linear in the choices, with the penalty that predicts left-out samples best.

    One eigendecomposition gives the exact leave-one-out error of every penalty (Golub, Heath
    and Wahba, Technometrics 1979). The standard deviation is that of a new measurement under
    the linear model: the noise, and more of it the farther a candidate is from the samples.
    """

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        features_NF = self.encode(genomes)
        self._mean_F = features_NF.mean(axis=0)
        centered_NF = features_NF - self._mean_F
        eigenvalues_F, self._basis_FF = np.linalg.eigh(centered_NF.T @ centered_NF)
        eigenvalues_F = np.maximum(eigenvalues_F, 0.0)  # rounding can make a zero negative
        rotated_NF = centered_NF @ self._basis_FF
        shrunk_FA = 1.0 / (eigenvalues_F[:, None] + _ALPHAS_A)
        weights_FA = shrunk_FA * (rotated_NF.T @ targets)[:, None]
        slack_NA = 1.0 - 1.0 / len(targets) - rotated_NF**2 @ shrunk_FA  # 1 - leverage
        left_out_error_NA = (targets[:, None] - rotated_NF @ weights_FA) / slack_NA
        best = int(np.argmin((left_out_error_NA**2).mean(axis=0)))
        self._weights_F = weights_FA[:, best]
        self._shrunk_F = shrunk_FA[:, best]
        # A left-out error has the noise's variance over its slack.
        self._noise = float(np.sqrt((left_out_error_NA**2 * slack_NA)[:, best].mean()))
        self._num_samples = len(targets)

    def _predict(self, genomes: Genomes) -> Prediction:
        rotated_NF = (self.encode(genomes) - self._mean_F) @ self._basis_FF
        leverage = 1.0 / self._num_samples + rotated_NF**2 @ self._shrunk_F
        return Prediction(rotated_NF @ self._weights_F, self._noise * np.sqrt(1.0 + leverage))
