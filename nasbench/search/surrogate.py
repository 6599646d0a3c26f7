"""A surrogate: what the losses and violations of any candidate are expected to be.

Metrics that can be counted are counted; one predictor per remaining objective is fitted to what
was measured.

Shape legend: N architectures, D dimensions, M objectives.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np

from nasbench.predictors import PREDICTORS, Predictor
from nasbench.predictors.schedule import settled_size
from nasbench.predictors.transfer import TransferPredictor
from nasbench.search.problem import CountedMetrics, Floats, SearchProblem
from nasbench.search.selection import Rows, best_rows
from nasbench.search.stretch import Stretch
from nasbench.space import Genomes

_ROUNDING = 1e-9  # of violations, which are relative to their bound
_MAX_SAMPLES = 300  # of the first trials; processes take time cubic in them
_SHARE_OF_BEST = 0.75


class Surrogate:
    """Losses and violations as predicted from measured trials.

    The violation of a constraint on an objective follows from the predicted objective. What
    remains, constraints on metrics that are neither counted nor an objective, is known only
    as a sum that is 0 for every feasible trial: it is predicted as such, and a candidate
    violates as much as the prediction exceeds its own standard deviation. So a candidate is
    taken to be feasible until measurements say otherwise.

    Where there are more than 300 trials, it learns from the best 225 of them, 75 others, and
    those of the last batches.

    Args:
        problem: whose metrics to predict.
        counted: the exact ones among them.
        predictor: a name of `PREDICTORS`.
        seed: of the predictors.
        stretched: whether predictors learn losses on a scale that favors the best (`Stretch`).
        priors: metric -> a fitted predictor, which that of the metric corrects (`transfer`).

    Attributes:
        num_samples: trials that it was fitted to.
        predictors: metric -> what learned its losses, of those that cannot be counted.
    """

    def __init__(
        self,
        problem: SearchProblem,
        counted: CountedMetrics,
        predictor: str,
        seed: int,
        *,
        stretched: bool = False,
        priors: Mapping[str, Predictor] | None = None,
    ) -> None:
        self._problem = problem
        self._counted = counted
        self._predictor = predictor
        self._seed = seed
        self._stretched = stretched
        self._priors = priors or {}
        self.num_samples = 0
        self._scales: list[Stretch] = []
        self.predictors: dict[str, Predictor] = {}
        self._violation_predictor: Predictor | None = None

    def fit(self, genomes: Genomes, losses: Floats, violations: Floats) -> Self:
        """Learn from N >= 1 measured trials, of shapes (N, D), (N, M) and (N,)."""
        rows = _learned_rows(losses, violations)
        known = self._known_violations(genomes, losses)
        rest = np.where(violations - known > _ROUNDING, violations - known, 0.0)
        if self._stretched:
            first = losses[: settled_size(len(losses))]
            self._scales = [Stretch.of(column) for column in first.T]
        for column, objective in enumerate(self._problem.objectives):
            if objective.metric not in self._problem.counted:
                prior = self._priors.get(objective.metric)
                predictor = self.predictors.setdefault(objective.metric, self._make(prior))
                predictor.fit(genomes[rows], self.on_scale(losses)[rows, column])
        self._violation_predictor = (
            self._make().fit(genomes[rows], rest[rows]) if rest[rows].any() else None
        )
        self.num_samples = len(genomes)
        return self

    def score(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Losses (N, M) and violations (N,) of candidates of shape (N, D)."""
        losses = np.empty((len(genomes), len(self._problem.objectives)))
        counted = self._counted.values(genomes)
        for column, objective in enumerate(self._problem.objectives):
            name = objective.metric
            if name in counted:
                losses[:, column] = [objective.to_loss(value) for value in counted[name]]
            else:
                mean = self.predictors[name].predict_mean(genomes)
                losses[:, column] = self._scales[column].to_losses(mean) if self._scales else mean
        return losses, self._violations(genomes, losses)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Means and standard deviations of losses on their scale, each (N, M); 0 where counted."""
        losses, stds = np.zeros((2, len(genomes), len(self._problem.objectives)))
        counted = self._counted.values(genomes)
        for column, objective in enumerate(self._problem.objectives):
            if objective.metric in counted:
                exact = [objective.to_loss(value) for value in counted[objective.metric]]
                losses[:, column] = self._on_scale_of(column, np.array(exact))
            else:
                prediction = self.predictors[objective.metric].predict(genomes)
                losses[:, column], stds[:, column] = prediction.mean, prediction.std
        return losses, stds

    def on_scale(self, losses: Floats) -> Floats:
        """Losses (N, M) on the scale of `predict`."""
        columns = [self._on_scale_of(column, values) for column, values in enumerate(losses.T)]
        return np.column_stack(columns)

    def _on_scale_of(self, column: int, losses: Floats) -> Floats:
        return self._scales[column].of_losses(losses) if self._scales else losses

    def _make(self, prior: Predictor | None = None) -> Predictor:
        if prior is not None:
            return TransferPredictor(self._problem.space, self._seed, prior=prior)
        return PREDICTORS[self._predictor](self._problem.space, self._seed)

    def _violations(self, genomes: Genomes, losses: Floats) -> Floats:
        """Violations (N,) of candidates whose losses are these."""
        violations = self._known_violations(genomes, losses)
        if self._violation_predictor is not None:
            rest = self._violation_predictor.predict(genomes)
            violations += np.maximum(rest.mean - rest.std, 0.0)
        return violations

    def _known_violations(self, genomes: Genomes, losses: Floats) -> Floats:
        """Violations of the constraints on counted metrics and on objectives, of shape (N,)."""
        violations = self._counted.violations(genomes)
        for objective, column in zip(self._problem.objectives, losses.T, strict=True):
            for constraint in self._problem.constraints:
                if constraint.metric == objective.metric not in self._problem.counted:
                    violations += [constraint.violation(objective.from_loss(x)) for x in column]
        return violations


def _learned_rows(losses: Floats, violations: Floats) -> Rows:
    """The trials to learn from, in order; which of the first ones changes thrice per doubling."""
    num_first = settled_size(len(losses))
    if num_first <= _MAX_SAMPLES:
        return np.arange(len(losses))
    best = best_rows(losses[:num_first], violations[:num_first], int(_SHARE_OF_BEST * _MAX_SAMPLES))
    others = np.setdiff1d(np.arange(num_first), best)
    spread = np.linspace(0, len(others) - 1, _MAX_SAMPLES - len(best)).astype(np.int64)
    first = np.sort(np.concatenate([best, others[spread]]))
    return np.concatenate([first, np.arange(num_first, len(losses))])
