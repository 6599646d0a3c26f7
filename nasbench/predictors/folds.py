"""Predictors that are an ensemble over folds: trees and networks.

Shape legend: N architectures, F features, K folds.
"""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from nasbench.predictors.base import Floats, Prediction, Predictor, assign_folds
from nasbench.space import Genomes

Model = Callable[[Floats], Floats]


class FoldsPredictor(Predictor):
    """Five models, each learned without one fifth of the samples, averaged.

    What each says of the samples that it has not seen gives the residual error; the standard
    deviation is that error and the disagreement of the five, added as variances.
    """

    @abstractmethod
    def _learn(self, features_NF: Floats, targets: Floats, seed: int) -> Model:
        """One model: a function from features of shape (N, F) to means of shape (N,)."""

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        features_NF = self.encode(genomes)
        fold_of_row = assign_folds(len(targets), self.seed)
        self._models = []
        self._held_out = np.empty(len(targets))
        for fold in range(fold_of_row.max() + 1):
            out = fold_of_row == fold
            model = self._learn(features_NF[~out], targets[~out], self.seed + fold)
            self._held_out[out] = model(features_NF[out])
            self._models.append(model)
        self._residual = float(np.sqrt(np.mean((self._held_out - targets) ** 2)))

    def _predict(self, genomes: Genomes) -> Prediction:
        features_NF = self.encode(genomes)
        means_KN = np.array([model(features_NF) for model in self._models])
        spread = means_KN.std(axis=0)
        return Prediction(means_KN.mean(axis=0), np.sqrt(self._residual**2 + spread**2))

    def _held_out_means(self) -> Floats:
        return self._held_out
