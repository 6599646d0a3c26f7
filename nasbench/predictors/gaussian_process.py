"""A Gaussian process over groups of features: the most from few samples, and how sure it is.

The covariance of two architectures is a sum (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, section 4.2.4)

    1 + sum_g a_g <x_g, y_g> + v exp(-sum_g w_g |x_g - y_g|^2)

of what each group g of features adds by itself, as latency adds up over layers, and of a product
over groups, in which they interact. A group is what one dimension says (`Encoding.groups`): for
one-hot columns the product's factor depends on whether two choices are equal (a Hamming kernel),
for a number's column on their distance. Each group has a weight in either part, so that what does
not matter fades out (automatic relevance determination).

Shape legend: N samples, F features, G groups, M candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from sklearn.preprocessing import PowerTransformer

from nasbench.predictors.base import Floats, Prediction, Predictor, assign_folds
from nasbench.predictors.encoding import ENCODINGS, Encoding, encodings_of
from nasbench.predictors.schedule import FirstSamples
from nasbench.space import Genomes, SearchSpace

_JITTER = 1e-6
_MAX_FITTED = 200  # samples that the weights are fitted to; all are learned from
_MAX_COMPARED = 100  # samples that show which features and whether to warp
_DEGREES_OF_FREEDOM = 2.0
_NUM_REWEIGHTINGS = 4
_CALIBRATION_PRIOR = 20.0  # samples' worth of trust in the model's own deviations


@dataclass(frozen=True, slots=True)
class _Weights:
    """The covariance's parameters.

    Args:
        added_F: a_g of every column.
        scales_F: the square root of w_g of every column.
        interaction: v.
        noise: variance of a measurement.
    """

    added_F: Floats
    scales_F: Floats
    interaction: float
    noise: float

    def parts(self, a_NF: Floats, b_MF: Floats) -> tuple[Floats, Floats]:
        """The sum's linear part with its constant, and its product part, each of shape (N, M)."""
        scaled_a, scaled_b = a_NF * self.scales_F, b_MF * self.scales_F
        product = scaled_a @ (2.0 * scaled_b).T  # everything from here on happens in place
        product -= (scaled_a**2).sum(axis=1)[:, None]
        product -= (scaled_b**2).sum(axis=1)
        np.exp(np.minimum(product, 0.0, out=product), out=product)
        product *= self.interaction
        linear = (a_NF * self.added_F) @ b_MF.T
        linear += 1.0
        return linear, product

    def variances(self, a_NF: Floats) -> Floats:
        """The covariance of each row with itself, without noise, of shape (N,)."""
        return np.asarray(1.0 + a_NF**2 @ self.added_F + self.interaction)


class _Posterior:
    """What N samples say under given weights.

    Args:
        inflation_N: how many times the noise's variance each sample has.
    """

    def __init__(
        self, weights: _Weights, x_NF: Floats, targets_N: Floats, inflation_N: Floats
    ) -> None:
        self.weights, self.x_NF = weights, x_NF
        self.noise_N = weights.noise * inflation_N + _JITTER
        covariance_NN, self.product_NN = weights.parts(x_NF, x_NF)
        covariance_NN += self.product_NN
        covariance_NN.flat[:: len(x_NF) + 1] += self.noise_N
        self.factor = cholesky(covariance_NN, lower=True, overwrite_a=True, check_finite=False)
        lower, _ = dpotri(self.factor, lower=1)  # with zeros above the diagonal
        self.inverse_NN = lower + lower.T
        self.inverse_NN.flat[:: len(x_NF) + 1] *= 0.5
        self.dual_N = self.inverse_NN @ targets_N
        self.loss = float(0.5 * targets_N @ self.dual_N + np.log(np.diag(self.factor)).sum())

    def predict(self, x_MF: Floats) -> tuple[Floats, Floats]:
        """Mean and variance, without noise, of M candidates."""
        linear, product = self.weights.parts(x_MF, self.x_NF)
        cross_MN = linear + product
        explained = (cross_MN * cho_solve((self.factor, True), cross_MN.T).T).sum(axis=1)
        variances = np.maximum(self.weights.variances(x_MF) - explained, 0.0)
        return np.asarray(cross_MN @ self.dual_N), variances

    def predict_mean(self, x_MF: Floats) -> Floats:
        """The mean alone, which costs a small part of both."""
        linear, product = self.weights.parts(x_MF, self.x_NF)
        return np.asarray((linear + product) @ self.dual_N)

    def inflation(self) -> Floats:
        """The variance of each sample's noise over `noise`, expected under a t distribution."""
        residuals = self.noise_N * self.dual_N
        variances = self.noise_N * (1.0 - self.noise_N * np.diag(self.inverse_NN))
        squares = residuals**2 + np.maximum(variances, 0.0)
        nu = _DEGREES_OF_FREEDOM
        return np.asarray((nu + squares / self.weights.noise) / (nu + 1.0))

    def left_out(self, fold_of_row: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Error and variance of each sample as predicted without its fold, in closed form.

        Rasmussen and Williams, section 5.4.2, with a fold in place of a single sample.
        """
        errors, variances = np.empty((2, len(self.dual_N)))
        for fold in range(fold_of_row.max() + 1):
            out = np.flatnonzero(fold_of_row == fold)
            covariance = np.linalg.inv(self.inverse_NN[np.ix_(out, out)])
            errors[out] = covariance @ self.dual_N[out]
            variances[out] = np.diag(covariance)
        return errors, variances


class _Features:
    """An encoding whose groups have variance 1 over some samples."""

    def __init__(self, encode: Encoding, genomes: Genomes) -> None:
        features_NF = encode(genomes)
        self.encode, self.groups = encode, encode.groups
        self._center_F = features_NF.mean(axis=0)
        variances_G = np.bincount(self.groups, weights=features_NF.var(axis=0))
        self._scale_F = np.sqrt(np.where(variances_G > 0, variances_G, 1.0))[self.groups]

    def __call__(self, genomes: Genomes) -> Floats:
        return np.asarray((self.encode(genomes) - self._center_F) / self._scale_F)


class _Warp:
    """A power transform to targets that are more like normal ones, and back.

    Yeo and Johnson (Biometrika 2000), in scikit-learn.
    """

    def __init__(self, targets: Floats) -> None:
        self._transform = PowerTransformer("yeo-johnson").fit(targets[:, None])
        margin = np.ptp(targets)  # how far beyond those learned from `back` goes
        self._ends = self(np.array([targets.min() - margin, targets.max() + margin]))

    def __call__(self, targets: Floats) -> Floats:
        return np.asarray(self._transform.transform(targets[:, None])[:, 0])

    def back(self, warped: Floats) -> Floats:
        inside = np.clip(warped, *self._ends)
        return np.asarray(self._transform.inverse_transform(inside[:, None])[:, 0])

    def log_slopes(self, targets: Floats) -> float:
        """Sum of the logarithms of the transform's derivatives at the targets."""
        exponent = self._transform.lambdas_[0] - 1.0
        scale = self._transform._scaler.scale_[0]
        each = exponent * np.sign(targets) * np.log1p(np.abs(targets)) - np.log(scale)
        return float(each.sum())


@dataclass(frozen=True, slots=True)
class _Settings:
    """What was chosen on the first samples.

    Args:
        features: their encoding, and how it is scaled.
        warp: of targets; None leaves them.
        center: the mean of their values.
        scale: the standard deviation of their values.
        weights: of the covariance.
        rows: the samples that the weights were fitted to.
        inflation: of these samples' noise.
    """

    features: _Features
    warp: _Warp | None
    center: float
    scale: float
    weights: _Weights
    rows: NDArray[np.int64]
    inflation: Floats

    def warped(self, values: Floats) -> Floats:
        """Values on the scale of the process."""
        targets = (values - self.center) / self.scale
        return targets if self.warp is None else self.warp(targets)

    def unwarped(self, warped: Floats) -> Floats:
        """And back."""
        targets = warped if self.warp is None else self.warp.back(warped)
        return self.center + self.scale * targets


class GaussianProcessPredictor(Predictor):
    """Gaussian process regression, its weights, features and scale those of greatest evidence.

    *Features*: without a setting, the encodings that belong to the space, or else one-hot and
    totals, compete by how probable they make the targets, which tells a device that runs
    operation after operation from one that compiles the network. *Warping*: targets pass through
    a power transform where that is more probable, as it is for accuracies with a long tail of
    failures (Snelson et al., Warped Gaussian Processes, NeurIPS 2003). *Outliers*: noise is a
    Student's t distribution, fitted as a mixture of normal ones by expectation maximization
    (Lange et al., JASA 1989), since some latencies are measured while a device does something
    else. *Deviations* are scaled to cover held-out errors as those of a normal distribution would.
    Features, warping and weights are chosen thrice per doubling of the samples (`schedule.py`).

    Args:
        space: what the genomes belong to.
        seed: of all randomness in fitting.
        encoding: the only features to consider; None lets them compete.
    """

    general_encoding = "totals"

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, encoding: str | Encoding | None = None
    ) -> None:
        super().__init__(space, seed, encoding=encoding)
        names = encodings_of(space) or ("one_hot", self.general_encoding)
        competing = [self.encode] if encoding else [ENCODINGS[name](space) for name in names]
        self._beliefs = dict.fromkeys(competing, 0.0)  # log odds before anything was measured
        self._settled_on: FirstSamples | None = None

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        values = self._center + self._scale * targets  # targets' scale changes with every sample
        first = FirstSamples.of(genomes, values)
        if not first.are(self._settled_on):
            self._settled_on = first
            self._settings = self._settle(first)
        settings = self._settings
        self.encode = settings.features.encode
        x_NF, warped = settings.features(genomes), settings.warped(values)
        inflation = np.ones(len(values))
        inflation[settings.rows] = settings.inflation
        posterior = _Posterior(settings.weights, x_NF, warped, inflation)
        if len(settings.rows) < len(values):
            posterior = _Posterior(settings.weights, x_NF, warped, posterior.inflation())
        self._posterior = posterior

        errors, variances = posterior.left_out(assign_folds(len(targets), self.seed))
        self._held_out = warped - errors
        typical = np.sqrt(variances - posterior.noise_N + settings.weights.noise + _JITTER)
        covering = np.quantile(np.abs(errors) / typical, 0.6827)
        trust = _CALIBRATION_PRIOR / (_CALIBRATION_PRIOR + len(targets))
        self._stretch = trust + (1.0 - trust) * covering

    def _settle(self, first: FirstSamples) -> "_Settings":
        """What the first samples say of features, scale, weights and outliers."""
        center, scale = float(first.values.mean()), float(first.values.std())
        targets = (first.values - center) / (scale or 1.0)
        rows = np.random.default_rng(self.seed).permutation(len(first))
        encode, warp, start = self._choose(first.genomes, targets, rows[:_MAX_COMPARED])
        features = _Features(encode, first.genomes)
        some = np.sort(rows[:_MAX_FITTED])
        x_NF = features(first.genomes[some])
        warped = targets[some] if warp is None else warp(targets[some])
        weights, inflation = _fit_robustly(features.groups, x_NF, warped, start)
        return _Settings(features, warp, center, scale or 1.0, weights, some, inflation)

    def _choose(
        self, genomes: Genomes, targets: Floats, rows: NDArray[np.int64]
    ) -> tuple[Encoding, _Warp | None, Floats]:
        """The encoding and the scale that make some of the targets most probable, and by what."""
        targets = targets[rows]
        equally_noisy = np.ones(len(rows))
        warps: list[_Warp | None] = [None]
        if np.ptp(targets) > 0:
            warps.append(_Warp(targets))
        found = {}
        for encode, belief in self._beliefs.items():
            features = _Features(encode, genomes[rows])
            x_NF = features(genomes[rows])
            for warp in warps:
                warped = targets if warp is None else warp(targets)
                parameters, loss = _maximize(features.groups, x_NF, warped, equally_noisy)
                log_slopes = 0.0 if warp is None else warp.log_slopes(targets)
                found[encode, warp] = loss - log_slopes - belief, parameters
        encode, warp = min(found, key=lambda key: found[key][0])
        return encode, warp, found[encode, warp][1]

    def _predict(self, genomes: Genomes) -> Prediction:
        settings = self._settings
        mean, variance = self._posterior.predict(settings.features(genomes))
        std = self._stretch * np.sqrt(variance + settings.weights.noise)
        low, middle, high = (
            (settings.unwarped(mean + shift * std) - self._center) / self._scale
            for shift in (-1.0, 0.0, 1.0)
        )
        return Prediction(middle, (high - low) / 2)

    def _predict_mean(self, genomes: Genomes) -> Floats:
        mean = self._posterior.predict_mean(self._settings.features(genomes))
        return (self._settings.unwarped(mean) - self._center) / self._scale

    def _held_out_means(self) -> Floats:
        return (self._settings.unwarped(self._held_out) - self._center) / self._scale


# -- fitting ------------------------------------------------------------------------------------


def _fit_robustly(
    groups: NDArray[np.int64], x_NF: Floats, targets: Floats, start: Floats
) -> tuple[_Weights, Floats]:
    """Weights, and how many times the noise's variance each sample has.

    Args:
        start: parameters that suit some of the samples.
    """
    inflation = np.ones(len(targets))
    parameters, _ = _maximize(groups, x_NF, targets, inflation, start, num_steps=20)
    for _ in range(_NUM_REWEIGHTINGS):
        posterior = _Posterior(_weights(groups, parameters), x_NF, targets, inflation)
        inflation = posterior.inflation()
        parameters, _ = _maximize(groups, x_NF, targets, inflation, parameters, num_steps=10)
    return _weights(groups, parameters), inflation


def _maximize(
    groups: NDArray[np.int64],
    x_NF: Floats,
    targets: Floats,
    inflation: Floats,
    start: Floats | None = None,
    num_steps: int = 30,
) -> tuple[Floats, float]:
    """Parameters of greatest posterior density, and their negative log density.

    The parameters are the logarithms of all a_g, all w_g, v and the noise's variance.
    """
    prior = _prior_means(groups)
    found = minimize(
        _loss_and_gradient,
        prior if start is None else start,
        args=(groups, x_NF, targets, inflation),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-14.0, 7.0)] * len(prior),
        options={"maxiter": num_steps},
    )
    return found.x, float(found.fun)


def _prior_means(groups: NDArray[np.int64]) -> Floats:
    """No group matters much, a few may.

    The more groups there are, the smaller is each one's weight, so that distances stay of order
    one (Hvarfner et al., Vanilla Bayesian Optimization Performs Great in High Dimensions, ICML
    2024).
    """
    num_groups = int(groups.max()) + 1
    added, scales = np.log(0.5 / num_groups), np.log(0.1 / num_groups)
    return np.concatenate([np.full(num_groups, added), np.full(num_groups, scales), [0.0, -3.0]])


def _weights(groups: NDArray[np.int64], parameters: Floats) -> _Weights:
    num_groups = len(parameters) // 2 - 1
    added, scales, (interaction, noise) = np.split(np.exp(parameters), [num_groups, 2 * num_groups])
    return _Weights(added[groups], np.sqrt(scales)[groups], float(interaction), float(noise))


def _loss_and_gradient(
    parameters: Floats,
    groups: NDArray[np.int64],
    x_NF: Floats,
    targets: Floats,
    inflation: Floats,
) -> tuple[float, Floats]:
    """Negative log posterior density of the parameters, but for a constant, and its gradient.

    Rasmussen and Williams, section 5.4.1. Every derivative of the covariance is a product of
    matrices that are there already, so none is formed for a group by itself.
    """
    weights = _weights(groups, parameters)
    posterior = _Posterior(weights, x_NF, targets, inflation)
    outer_NN = np.outer(posterior.dual_N, -0.5 * posterior.dual_N)
    outer_NN += 0.5 * posterior.inverse_NN
    product_NN = outer_NN * posterior.product_NN
    row_sums = product_NN.sum(axis=1)
    added = weights.added_F * (x_NF * (outer_NN @ x_NF)).sum(axis=0)
    moved = (x_NF**2).T @ row_sums - (x_NF * (product_NN @ x_NF)).sum(axis=0)
    gradient = np.concatenate(
        [
            np.bincount(groups, weights=added),
            np.bincount(groups, weights=-2.0 * weights.scales_F**2 * moved),
            [row_sums.sum(), weights.noise * (np.diag(outer_NN) @ inflation)],
        ]
    )
    deviations = np.array([1.5] * (len(parameters) - 1) + [2.0])
    away = (parameters - _prior_means(groups)) / deviations
    return posterior.loss + 0.5 * float(away @ away), gradient + away / deviations
