"""How good a predictor is: rank agreement, error and honesty, at several training sizes.

Kendall's tau first, since a search uses predictions to rank (White et al., How Powerful are
Performance Predictors in Neural Architecture Search?, NeurIPS 2021). Where one dimension decides
most of a metric, tau over all architectures flatters: any predictor that knows that dimension
ranks most pairs right. So tau *within strata*, of architectures that share a choice of that
dimension, stands beside it.

Shape legend: N architectures, D dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from nasbench.errors import RequestError
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.space import Genomes, SearchSpace

_MIN_STRATUM = 5  # fewer architectures say little about a rank


@dataclass(frozen=True, slots=True)
class Quality:
    """What predictions of some architectures are worth.

    Args:
        tau: Kendall's tau-b; 0 where all predictions are equal. Where measured values tie and
            predictions do not, a perfect order has less than 1.
        spearman: Spearman's rank correlation; 0 likewise.
        within_tau: mean of tau within strata, weighed by their sizes; None without strata.
        rmse: root mean square error, in the metric's unit.
        mape: mean absolute error relative to the value, as a fraction; None where a value is 0.
        coverage: share of errors below the predicted standard deviation; 0.68 is honest.
    """

    tau: float
    spearman: float
    within_tau: float | None
    rmse: float
    mape: float | None
    coverage: float


def measure_quality(
    prediction: Prediction, values: Floats, strata: NDArray[Any] | None = None
) -> Quality:
    """Compare predictions with the N measured values.

    Args:
        strata: a label per architecture, of shape (N,).
    """
    errors = prediction.mean - values
    return Quality(
        tau=rank_agreement(prediction.mean, values),
        spearman=_of_ranks(spearmanr, prediction.mean, values),
        within_tau=None if strata is None else _within(prediction.mean, values, strata),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mape=float(np.mean(np.abs(errors / values))) if np.all(values != 0) else None,
        coverage=float(np.mean(np.abs(errors) <= prediction.std)),
    )


def rank_agreement(means: Floats, values: Floats) -> float:
    """Kendall's tau-b; 0 where either side is all equal, which ranks nothing."""
    return _of_ranks(kendalltau, means, values)


def _of_ranks(statistic: Callable[..., Any], means: Floats, values: Floats) -> float:
    if len(values) < 2 or np.ptp(means) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(statistic(means, values).statistic)


def _within(means: Floats, values: Floats, strata: NDArray[Any]) -> float | None:
    sizes, taus = [], []
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        if len(rows) >= _MIN_STRATUM:
            sizes.append(len(rows))
            taus.append(rank_agreement(means[rows], values[rows]))
    return float(np.average(taus, weights=sizes)) if sizes else None


# -- cross-validation ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QualityAtSize:
    """Quality after learning from some number of samples, over the folds of all repetitions.

    Args:
        size: samples learned from.
        num_fits: folds times repetitions.
        mean: of each property.
        std: its standard deviation over the fits.
    """

    size: int
    num_fits: int
    mean: Quality
    std: Quality


def cross_validate(
    make: Callable[[SearchSpace, int], Predictor],
    space: SearchSpace,
    genomes: Genomes,
    values: Floats,
    *,
    sizes: Sequence[int],
    num_folds: int = 5,
    num_repeats: int = 3,
    stratify_by: str | None = None,
    seed: int = 0,
) -> list[QualityAtSize]:
    """Quality on held-out folds, by repeated k-fold, for every training size.

    Args:
        make: builds a predictor from a space and a seed, as an entry of `PREDICTORS` does.
        genomes: of shape (N, D), with `values` of shape (N,).
        sizes: how many of the training folds' samples are learned from.
        stratify_by: the dimension whose choices are the strata.

    Raises:
        RequestError: if there are fewer samples than folds, or a size exceeds the training folds.
    """
    strata = None
    if stratify_by is not None:
        strata = genomes[:, space.dimensions.index(space[stratify_by])]
    smallest = len(values) - -(-len(values) // num_folds)
    if len(values) < 2 * num_folds:
        raise RequestError(
            f"{num_folds} folds need at least {2 * num_folds} samples, but there were {len(values)}"
        )
    if not sizes or min(sizes) < 1 or max(sizes) > smallest:
        raise RequestError(
            f"of {len(values)} samples in {num_folds} folds, 1 to {smallest} can be learned from, "
            f"but the sizes were {list(sizes)}"
        )
    found: dict[int, list[Quality]] = {size: [] for size in sizes}
    for repeat, known, unknown in _folds(len(values), num_folds, num_repeats, seed):
        for size in sizes:
            predictor = make(space, seed + repeat).fit(genomes[known[:size]], values[known[:size]])
            prediction = predictor.predict(genomes[unknown])
            of_fold = None if strata is None else strata[unknown]
            found[size].append(measure_quality(prediction, values[unknown], of_fold))
    return [
        QualityAtSize(size, len(each), _over_fits(each, np.mean), _over_fits(each, np.std))
        for size, each in found.items()
    ]


def held_out_prediction(
    make: Callable[[SearchSpace, int], Predictor],
    space: SearchSpace,
    genomes: Genomes,
    values: Floats,
    *,
    num_folds: int = 5,
    seed: int = 0,
) -> Prediction:
    """Each of N samples as predicted from the folds that it is not in: what a parity plot shows."""
    mean, std = np.empty((2, len(values)))
    for _, known, unknown in _folds(len(values), num_folds, 1, seed):
        found = make(space, seed).fit(genomes[known], values[known]).predict(genomes[unknown])
        mean[unknown], std[unknown] = found.mean, found.std
    return Prediction(mean, std)


def _folds(
    num_rows: int, num_folds: int, num_repeats: int, seed: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """(repetition, shuffled rows of the other folds, rows of the fold)."""
    for repeat in range(num_repeats):
        order = np.random.default_rng([seed, repeat]).permutation(num_rows)
        for fold in range(num_folds):
            is_out = np.arange(num_rows) % num_folds == fold
            yield repeat, order[~is_out], order[is_out]


def _over_fits(found: Sequence[Quality], statistic: Callable[[list[float]], Any]) -> Quality:
    """A statistic of each property, over the fits in which it is known."""
    values: dict[str, float | None] = {}
    for field in fields(Quality):
        known = [v for each in found if (v := getattr(each, field.name)) is not None]
        values[field.name] = float(statistic(known)) if known else None
    return Quality(**values)  # type: ignore[arg-type]
