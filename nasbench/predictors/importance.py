"""Which elastic dimensions a metric depends on: what shuffling each costs a prediction.

Breiman's permutation importance (Random Forests, Machine Learning 2001) in scikit-learn, of
architectures that the predictor did not learn from.

Shape legend: R repetitions, N architectures, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.inspection import permutation_importance

from nasbench.errors import RequestError
from nasbench.predictors.base import Floats, Predictor, assign_folds
from nasbench.space import Genomes, SearchSpace


@dataclass(frozen=True, slots=True)
class Importances:
    """How much of a held-out prediction each dimension carries.

    Args:
        drops_RD: by how much R2 falls where the choices of one dimension are shuffled among the
            architectures. Where a metric is a sum of one term per dimension, a perfect predictor
            has twice the term's share of the variance, so drops can exceed 1 together.
        r2_R: R2 of the unshuffled prediction: 1 is perfect; near 0, or below, the predictor knows
            nothing and its importances say nothing.
    """

    drops_RD: Floats
    r2_R: Floats


def measure_importances(
    make: Callable[[SearchSpace, int], Predictor],
    space: SearchSpace,
    genomes: Genomes,
    values: Floats,
    *,
    num_repeats: int = 10,
    seed: int = 0,
) -> Importances:
    """Permutation importances over held-out folds; each repetition draws folds and shuffles anew.

    A shuffled genome is read in canonical form: with a smaller depth, the layers that are gone
    take no part. What is explained is the metric *among these architectures*. A search
    prefers some, so a dimension that it has settled early can matter and not show.

    Args:
        make: builds a predictor from a space and a seed, as an entry of `PREDICTORS` does.
        genomes: of shape (N, D), with `values` of shape (N,).

    Raises:
        RequestError: for fewer than ten architectures, or where all values are equal.
    """
    num = len(values)
    if num < 10:
        raise RequestError(f"importances take at least 10 architectures, but there were {num}")
    variance = float(np.var(values))
    if variance == 0:
        raise RequestError("importances explain differences, but all values are equal")

    def score(predictor: Predictor, genomes: Genomes, values: Floats) -> float:
        """R2, of the variance of all folds together."""
        return 1 - float(np.mean((predictor.predict_mean(genomes) - values) ** 2)) / variance

    drops_RD, r2_R = np.zeros((num_repeats, len(space))), np.zeros(num_repeats)
    for repeat in range(num_repeats):
        folds = assign_folds(num, seed + repeat)
        for fold in range(folds.max() + 1):
            out = folds == fold
            predictor = make(space, seed + repeat).fit(genomes[~out], values[~out])
            found = permutation_importance(
                predictor, genomes[out], values[out],
                scoring=score, n_repeats=1, random_state=seed + repeat,
            )  # fmt: skip
            drops_RD[repeat] += np.mean(out) * found.importances_mean
            r2_R[repeat] += np.mean(out) * score(predictor, genomes[out], values[out])
    return Importances(drops_RD, r2_R)
