"""A random forest on ordinal features: few settings matter, and outliers stay in their leaves.

Breiman, Random Forests (Machine Learning 2001), in scikit-learn.

Shape legend: N architectures, F features.
"""

from typing import ClassVar

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from nasbench.predictors.base import Floats
from nasbench.predictors.folds import FoldsPredictor, Model

_NUM_TREES = 40


class RandomForestPredictor(FoldsPredictor):
    """Five forests of 40 trees, each split among half of the features."""

    general_encoding: ClassVar[str] = "ordinal"

    def _learn(self, features_NF: Floats, targets: Floats, seed: int) -> Model:
        forest = RandomForestRegressor(
            _NUM_TREES, max_features=0.5, min_samples_leaf=2, random_state=seed
        ).fit(features_NF, targets)
        return lambda features: np.asarray(forest.predict(features))
