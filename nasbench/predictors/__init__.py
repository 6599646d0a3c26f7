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
        "gp": "nasbench.predictors.gaussian_process:GaussianProcessPredictor",
        "random_forest": "nasbench.predictors.forest:RandomForestPredictor",
        "lightgbm": "nasbench.predictors.boosting:BoostingPredictor",
        "mlp": "nasbench.predictors.neural:NeuralPredictor",
        "stacked": "nasbench.predictors.stacked:StackedPredictor",
        "ensemble": "nasbench.predictors.ensemble:EnsemblePredictor",
        "transfer": "nasbench.predictors.transfer:TransferPredictor",
        "lookup": "nasbench.predictors.lookup:LookupPredictor",
        "auto": "nasbench.predictors.auto:AutoPredictor",
    },
)
