"""Gradient-boosted trees on ordinal features: finds interactions, needs some hundred samples.

The only door to lightgbm (Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision
Tree, NeurIPS 2017).

Shape legend: N architectures, F features.
"""

from typing import Any, ClassVar

import lightgbm
import numpy as np

from nasbench.predictors.base import Floats
from nasbench.predictors.folds import FoldsPredictor, Model

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


class BoostingPredictor(FoldsPredictor):
    """Five sets of 150 boosted trees."""

    general_encoding: ClassVar[str] = "ordinal"

    def _learn(self, features_NF: Floats, targets: Floats, seed: int) -> Model:
        samples = lightgbm.Dataset(features_NF, targets, free_raw_data=True)
        trees = lightgbm.train(_SETTINGS | {"seed": seed}, samples, _NUM_TREES)
        return lambda features: np.asarray(trees.predict(features, num_threads=1))
