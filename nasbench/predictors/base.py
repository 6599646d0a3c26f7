"""What every predictor promises, and what all of them share: checks and the labels' scale.

Shape legend: N architectures, D dimensions of the space.
"""

import copy
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from nasbench.encoding import Floats as Floats
from nasbench.errors import RequestError
from nasbench.predictors.encoding import Encoding, build_encoding
from nasbench.space import Genomes, SearchSpace

_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a metric is expected to be, in the unit of the values that were learned from.

    Args:
        mean: the expected value, float64 of shape (N,).
        std: standard deviation of what a measurement would differ by, float64 of shape (N,); 0
            where nothing learned says how large it is (one sample, or all values equal).
    """

    mean: Floats
    std: Floats


class Predictor(ABC):
    """Learns one metric from measured architectures.

    An implementation learns targets in `_fit` and answers in `_predict`; both receive canonical
    genomes. Targets have mean 0 and standard deviation 1, so that its settings mean the same
    for a latency in milliseconds and an error in per cent (LINAS's published code divides by
    a power of ten instead), and they are never all equal. `_fit` binds new attributes and
    changes none in place, so that a copy can be fitted to something else.

    Args:
        space: what the genomes belong to; its declared choices are the vocabulary.
        seed: of all randomness in fitting, at least 0.
        encoding: a name of `ENCODINGS`, or an encoding of this space; None takes the one that
            belongs to the space, or else the class's `general_encoding`.
    """

    general_encoding: ClassVar[str] = "one_hot"

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, encoding: str | Encoding | None = None
    ) -> None:
        self.space = space
        self.seed = seed
        self.encode = build_encoding(space, encoding, self.general_encoding)
        self._samples: tuple[Genomes, Floats] | None = None
        self._center = self._scale = 0.0

    @abstractmethod
    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        """Learn targets of shape (N,), N >= 2, from genomes of shape (N, D)."""

    @abstractmethod
    def _predict(self, genomes: Genomes) -> Prediction:
        """Mean and standard deviation of the targets of genomes of shape (N, D)."""

    def _predict_mean(self, genomes: Genomes) -> Floats:
        """The mean alone; override where it costs less."""
        return self._predict(genomes).mean

    def _held_out_means(self) -> Floats:
        """The targets learned from, each predicted without it; override where `_fit` knows."""
        genomes, targets = self._learned()
        means = np.empty(len(targets))
        fold_of_row = assign_folds(len(targets), self.seed)
        for fold in range(fold_of_row.max() + 1):
            out = fold_of_row == fold
            learner = copy.copy(self).fit(genomes[~out], targets[~out])
            means[out] = learner.predict(genomes[out]).mean
        return means

    def fit(self, genomes: NDArray[Any], values: NDArray[Any]) -> Self:
        """Learn from scratch; what was learned before is forgotten.

        Args:
            genomes: choice indices, integers of shape (N, D) with N >= 1; a row may repeat.
            values: the metric of each row, finite, of shape (N,), in any unit.

        Raises:
            RequestError: for another shape, an index that a dimension does not have, or a value
                that is not finite (leave failed trials out).
        """
        genomes, values = self._checked(genomes, values)
        self._center, self._scale = float(values[0]), 0.0
        if np.ptp(values) > 0:
            self._center, self._scale = float(values.mean()), float(values.std())
        targets = (values - self._center) / (self._scale or 1.0)
        self._samples = genomes, targets
        if self._scale > 0:
            with _one_thread():
                self._fit(genomes, targets)
        return self

    def predict(self, genomes: NDArray[Any]) -> Prediction:
        """The metric of genomes of shape (N, D), in the unit of the values learned from.

        Raises:
            RequestError: for another shape, an index that a dimension does not have, or where
                nothing was learned yet.
        """
        self._learned()
        genomes = self.space.canonical_genomes(genomes)
        if self._scale == 0 or len(genomes) == 0:
            return Prediction(np.full(len(genomes), self._center), np.zeros(len(genomes)))
        with _one_thread():
            targets = self._predict(genomes)
        return Prediction(self._center + self._scale * targets.mean, self._scale * targets.std)

    def predict_mean(self, genomes: NDArray[Any]) -> Floats:
        """The mean of `predict` alone, of shape (N,): all that an inner search asks for."""
        self._learned()
        genomes = self.space.canonical_genomes(genomes)
        if self._scale == 0 or len(genomes) == 0:
            return np.full(len(genomes), self._center)
        with _one_thread():
            return self._center + self._scale * self._predict_mean(genomes)

    def held_out_means(self) -> Floats:
        """Each value learned from as it is predicted from other samples only, of shape (N,).

        What a choice between predictors should look at: by five-fold cross-validation, in the
        same folds for predictors of the same seed.

        Raises:
            RequestError: where less than two samples were learned.
        """
        _, targets = self._learned()
        if len(targets) < 2:
            raise RequestError("cross-validation needs at least two samples, but there was one")
        if self._scale == 0:
            return np.full(len(targets), self._center)
        with _one_thread():
            return self._center + self._scale * self._held_out_means()

    def _learned(self) -> tuple[Genomes, Floats]:
        """The samples learned from, as genomes and targets."""
        if self._samples is None:
            raise RequestError(
                f"{type(self).__name__} has learned nothing yet; call fit(genomes, values) first"
            )
        return self._samples

    def _checked(self, genomes: NDArray[Any], values: NDArray[Any]) -> tuple[Genomes, Floats]:
        genomes = self.space.canonical_genomes(genomes)
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(genomes),):
            raise RequestError(
                f"expected values of shape ({len(genomes)},), one per genome, "
                f"but they had shape {values.shape}"
            )
        if len(values) == 0:
            raise RequestError("a predictor learns from at least one sample, but there was none")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise RequestError(
                f"the value in row {row} is {values[row]}, but a predictor learns from finite "
                "values only; leave out what failed"
            )
        return genomes, values


def assign_folds(num_rows: int, seed: int) -> NDArray[np.int64]:
    """A fold for each of at least two rows, 0 to 4 (fewer folds where there are fewer rows)."""
    order = np.random.default_rng(seed).permutation(num_rows)
    return order % min(_NUM_FOLDS, num_rows)


def _one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one thread: the same sums on every machine.

    These matrices are small. Threads that share their cores with an evaluation make a product
    of them a hundred times slower.
    """
    limit: AbstractContextManager[object] = _thread_pools().limit(limits=1, user_api="blas")
    return limit


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()
