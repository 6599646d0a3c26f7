"""Support vector regression with a Gaussian kernel on features: best for accuracy.

LINAS's papers pair it with ridge: below some hundred samples one of the two is ahead of neural
networks (Cummings et al., 2205.10358). Their code searches C by cross-validation with a tube of
width 0; the tube here is a tenth of the targets' deviation, which fits noise less and is faster.

Shape legend: N architectures, S support vectors, F features.
"""

import numpy as np
from sklearn.svm import SVR

from nasbench.predictors.base import Floats, Prediction, Predictor, assign_folds
from nasbench.space import Genomes

_TUBE = 0.1
_GRID = [(c, gamma) for c in (1.0, 10.0, 100.0) for gamma in (1.0, 3.0)]
_MAX_GRID_SAMPLES = 300  # which setting is best shows on fewer samples than are learned from


class SVRPredictor(Predictor):
    """Gaussian support vector regression, its two settings chosen by cross-validation.

    The standard deviation is the same for every candidate: the root mean square of the
    cross-validated residuals.
    """

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        features_NF = self.encode(genomes)
        distances_NN = _squared_distances(features_NF, features_NF)
        c, gamma = self._best_setting(distances_NN, targets, features_NF.shape[1])
        kernel_NN = np.exp(-gamma * distances_NN)
        self._held_out = self._cross_validate(kernel_NN, targets, c)
        self._residual = float(np.sqrt(np.mean((self._held_out - targets) ** 2)))
        dual_N, self._intercept = _solve(kernel_NN, targets, c)
        support = np.flatnonzero(dual_N)
        self._dual_S, self._support_SF, self._gamma = dual_N[support], features_NF[support], gamma

    def _predict(self, genomes: Genomes) -> Prediction:
        distances_NS = _squared_distances(self.encode(genomes), self._support_SF)
        mean = np.exp(-self._gamma * distances_NS) @ self._dual_S + self._intercept
        return Prediction(mean, np.full(len(genomes), self._residual))

    def _held_out_means(self) -> Floats:
        return self._held_out

    def _best_setting(
        self, distances_NN: Floats, targets: Floats, num_features: int
    ) -> tuple[float, float]:
        rows = np.random.default_rng(self.seed).permutation(len(targets))[:_MAX_GRID_SAMPLES]
        distances, targets = distances_NN[np.ix_(rows, rows)], targets[rows]
        errors = {}
        for c, multiple in _GRID:
            gamma = multiple / num_features
            means = self._cross_validate(np.exp(-gamma * distances), targets, c)
            errors[c, gamma] = float(np.mean((means - targets) ** 2))
        return min(errors, key=errors.__getitem__)

    def _cross_validate(self, kernel_NN: Floats, targets: Floats, c: float) -> Floats:
        means = np.empty(len(targets))
        fold_of_row = assign_folds(len(targets), self.seed)
        for fold in range(fold_of_row.max() + 1):
            out, kept = np.flatnonzero(fold_of_row == fold), np.flatnonzero(fold_of_row != fold)
            dual, intercept = _solve(kernel_NN[np.ix_(kept, kept)], targets[kept], c)
            means[out] = kernel_NN[np.ix_(out, kept)] @ dual + intercept
        return means


def _solve(kernel_NN: Floats, targets: Floats, c: float) -> tuple[Floats, float]:
    """Dual coefficients of shape (N,), zero but for support vectors, and the intercept."""
    machine = SVR(kernel="precomputed", C=c, epsilon=_TUBE).fit(kernel_NN, targets)
    dual_N = np.zeros(len(targets))
    dual_N[machine.support_] = machine.dual_coef_[0]
    return dual_N, float(machine.intercept_[0])


def _squared_distances(a_NF: Floats, b_NF: Floats) -> Floats:
    """Squared Euclidean distance of each row of `a` to each row of `b`."""
    squares = (a_NF**2).sum(axis=1)[:, None] + (b_NF**2).sum(axis=1)
    distances: Floats = squares - 2.0 * a_NF @ b_NF.T
    return distances
