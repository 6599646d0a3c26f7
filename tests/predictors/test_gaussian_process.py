"""The Gaussian process: its formulas against independent ones, and what it chooses."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import kendalltau
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

from nasbench.predictors import PREDICTORS
from nasbench.predictors import gaussian_process as gp
from nasbench.predictors.base import assign_folds
from nasbench.space import ElasticDimension, SearchSpace
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 5))
TARGETS = X[:, 0] + np.sin(2 * X[:, 1]) + 0.1 * RNG.normal(size=30)
GROUPS = np.array([0, 0, 1, 2, 2])
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
CELLS = SearchSpace(
    [ElasticDimension(f"edge{a}_{b}", OPERATIONS) for b in (1, 2, 3) for a in range(b)]
)


def test_the_gradient_is_that_of_the_loss():
    parameters = np.random.default_rng(1).normal(size=8) - 1.0
    inflation = np.random.default_rng(2).uniform(0.5, 3.0, size=30)

    def loss(at):
        return gp._loss_and_gradient(at, GROUPS, X, TARGETS, inflation)[0]

    _, gradient = gp._loss_and_gradient(parameters, GROUPS, X, TARGETS, inflation)
    np.testing.assert_allclose(gradient, approx_fprime(parameters, loss, 1e-6), atol=1e-4)


def posterior(rows=slice(None), inflation=1.0):
    weights = gp._Weights(np.full(5, 0.3), np.full(5, np.sqrt(0.2)), 1.5, 0.05)
    count = len(X[rows])
    return gp._Posterior(weights, X[rows], TARGETS[rows], np.full(count, inflation))


def test_the_posterior_is_that_of_an_independent_implementation():
    kernel = (
        ConstantKernel(1.0)
        + ConstantKernel(0.3) * DotProduct(sigma_0=1e-9)
        + ConstantKernel(1.5) * RBF(length_scale=np.sqrt(1 / (2 * 0.2)))
    )
    reference = GaussianProcessRegressor(kernel, alpha=0.05 + 1e-6, optimizer=None).fit(X, TARGETS)
    others = np.random.default_rng(3).normal(size=(20, 5))
    expected, std = reference.predict(others, return_std=True)
    mean, variance = posterior().predict(others)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(variance), std, rtol=1e-5)
    evidence = reference.log_marginal_likelihood_value_ + 15 * np.log(2 * np.pi)
    assert posterior().loss == pytest.approx(-evidence)


def test_left_out_folds_are_as_if_they_had_not_been_there():
    fold_of_row = assign_folds(30, seed=0)
    errors, variances = posterior().left_out(fold_of_row)
    for fold in range(5):
        out = fold_of_row == fold
        mean, variance = posterior(~out).predict(X[out])
        np.testing.assert_allclose(TARGETS[out] - errors[out], mean)
        np.testing.assert_allclose(variances[out], variance + 0.05 + 1e-6)


def test_it_warps_what_has_a_long_tail_and_nothing_else():
    genomes, losses = ToyProblem(MIXED_SPACE, 1, interaction=0.0).sample(150)
    values = losses[:, 0] / losses.std()
    plain = PREDICTORS["gp"](MIXED_SPACE).fit(genomes, values)
    tailed = PREDICTORS["gp"](MIXED_SPACE).fit(genomes, np.exp(2 * values))
    assert plain._settings.warp is None
    assert tailed._settings.warp is not None
    taus = [kendalltau(p.predict(genomes).mean, values).statistic for p in (plain, tailed)]
    assert min(taus) > 0.9


def test_a_warped_prediction_stays_near_what_was_learned():
    genomes, losses = ToyProblem(MIXED_SPACE, 1).sample(200)
    values = np.exp(3 * losses[:, 0] / losses.std())
    prediction = PREDICTORS["gp"](MIXED_SPACE).fit(genomes[:30], values[:30]).predict(genomes)
    width = np.ptp(values[:30])
    assert prediction.mean.max() <= values[:30].max() + width * 1.001
    assert prediction.mean.min() >= values[:30].min() - width * 1.001


def test_a_few_measurements_gone_wrong_do_not_matter():
    genomes, losses = ToyProblem(MOBILE_SPACE, 1, interaction=0.0).sample(300)
    values = losses[:, 0].copy()
    values[:12] += 2 * np.ptp(values)
    fitted = PREDICTORS["gp"](MOBILE_SPACE).fit(genomes[:150], values[:150])
    tau = kendalltau(fitted.predict(genomes[150:]).mean, values[150:]).statistic
    ridge = PREDICTORS["ridge"](MOBILE_SPACE).fit(genomes[:150], values[:150])
    of_ridge = kendalltau(ridge.predict(genomes[150:]).mean, values[150:]).statistic
    assert tau > 0.6
    assert tau > of_ridge + 0.1


def test_features_compete():
    genomes = CELLS.sample_genomes(60, np.random.default_rng(0))
    by_number = (genomes == 2).sum(axis=1) + 3.0 * (genomes == 3).sum(axis=1)
    fitted = PREDICTORS["gp"](CELLS).fit(genomes, by_number)
    assert type(fitted.encode).__name__ == "CellCounts"
    fitted = PREDICTORS["gp"](CELLS).fit(genomes, 1.0 * genomes[:, 5] + genomes[:, 0])
    assert type(fitted.encode).__name__ != "CellCounts"
    fitted = PREDICTORS["gp"](CELLS, encoding="one_hot").fit(genomes, by_number)
    assert type(fitted.encode).__name__ == "OneHot"


def test_many_samples_are_all_learned_from():
    genomes, losses = ToyProblem(MOBILE_SPACE, 1).sample(gp._MAX_FITTED + 150)
    fitted = PREDICTORS["gp"](MOBILE_SPACE).fit(genomes, losses[:, 0])
    assert len(fitted._posterior.dual_N) == len(genomes)
    np.testing.assert_allclose(fitted.predict(genomes).mean, losses[:, 0], atol=0.3 * losses.std())
