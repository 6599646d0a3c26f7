"""Gradient-boosted trees on ordinal features: finds interactions, needs some hundred samples.

The only door to lightgbm (Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision
Tree, NeurIPS 2017).

Shape legend: N architectures, K folds.
"""

from typing import Any

import lightgbm
import numpy as np

from nasbench.predictors.base import Floats, Prediction, Predictor, assign_folds
from nasbench.predictors.encoding import ordinal
from nasbench.space import Genomes

_NUM_TREES = 150
_SETTINGS: dict[str, Any] = {
    # Tens to hundreds of samples: shallow trees whose leaves hold few of them.
    "objective": "regression",
    "learning_rate": 0.08,
    "num_leaves": 8,
    "min_data_in_leaf": 4,
    "min_data_in_bin": 1,
    "feature_fraction": 0.7,
    "lambda_l2": 1.0,
    # The same trees for a seed, whatever the machine.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class BoostingPredictor(Predictor):
    """Five sets of boosted trees, each grown without one fifth of the samples, averaged.

    What each says of the samples that it has not seen gives the residual error; the standard
    deviation is that error and the disagreement of the five, added as variances.
    """

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        features_ND = ordinal(self.space, genomes)
        fold_of_row = assign_folds(len(targets), self.seed)
        self._ensemble = []
        self._held_out = np.empty(len(targets))
        for fold in range(fold_of_row.max() + 1):
            out = fold_of_row == fold
            trees = self._grow(features_ND[~out], targets[~out])
            self._held_out[out] = trees.predict(features_ND[out])
            self._ensemble.append(trees)
        self._residual = float(np.sqrt(np.mean((self._held_out - targets) ** 2)))

    def _grow(self, features_ND: Floats, targets: Floats) -> Any:
        samples = lightgbm.Dataset(features_ND, targets, free_raw_data=True)
        return lightgbm.train(_SETTINGS | {"seed": self.seed}, samples, _NUM_TREES)

    def _predict(self, genomes: Genomes) -> Prediction:
        features_ND = ordinal(self.space, genomes)
        means_KN = np.array([trees.predict(features_ND, num_threads=1) for trees in self._ensemble])
        spread = means_KN.std(axis=0)
        return Prediction(means_KN.mean(axis=0), np.sqrt(self._residual**2 + spread**2))

    def _held_out_means(self) -> Floats:
        return self._held_out
