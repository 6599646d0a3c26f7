"""Predictors: what a metric will be, learned from the architectures that were measured.

    prediction = PREDICTORS["ridge"](space, seed=0).fit(genomes, values).predict(genomes)
    prediction.mean, prediction.std

An entry is a `Predictor` class. Everything runs on one thread and is the same for a seed.
"""

from nasbench.predictors.base import Prediction, Predictor
from nasbench.registry import Registry

__all__ = ["PREDICTORS", "Prediction", "Predictor"]

PREDICTORS: Registry[type[Predictor]] = Registry(
    "predictor",
    {
        "ridge": "nasbench.predictors.ridge:RidgePredictor",
        "svr": "nasbench.predictors.svr:SVRPredictor",
        "stacked": "nasbench.predictors.stacked:StackedPredictor",
        "lightgbm": "nasbench.predictors.boosting:BoostingPredictor",
        "auto": "nasbench.predictors.auto:AutoPredictor",
    },
)
