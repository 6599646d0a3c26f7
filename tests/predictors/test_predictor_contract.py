from nasbench.testing.predictors import PredictorContract


class TestPredictorContract(PredictorContract):
    pass
