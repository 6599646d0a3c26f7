"""A surrogate: what the losses and violations of any candidate are expected to be.

Metrics that can be counted are counted; one predictor per remaining objective is fitted to what
was measured.

Shape legend: N architectures, D dimensions, M objectives.
"""

from typing import Self

import numpy as np

from nasbench.predictors import PREDICTORS, Predictor
from nasbench.search.problem import CountedMetrics, Floats, SearchProblem
from nasbench.space import Genomes

_ROUNDING = 1e-9  # of violations, which are relative to their bound


class Surrogate:
    """Losses and violations as predicted from measured trials.

    The violation of a constraint on an objective follows from the predicted objective. What
    remains, constraints on metrics that are neither counted nor an objective, is known only
    as a sum that is 0 for every feasible trial: it is predicted as such, and a candidate
    violates as much as the prediction exceeds its own standard deviation. So a candidate is
    taken to be feasible until measurements say otherwise.

    Args:
        problem: whose metrics to predict.
        counted: the exact ones among them.
        predictor: a name of `PREDICTORS`.
        seed: of the predictors.

    Attributes:
        num_samples: trials that it was fitted to.
    """

    def __init__(
        self, problem: SearchProblem, counted: CountedMetrics, predictor: str, seed: int
    ) -> None:
        self._problem = problem
        self._counted = counted
        self._predictor = predictor
        self._seed = seed
        self.num_samples = 0
        self._loss_predictors: dict[str, Predictor] = {}
        self._violation_predictor: Predictor | None = None

    def fit(self, genomes: Genomes, losses: Floats, violations: Floats) -> Self:
        """Learn from N >= 1 measured trials, of shapes (N, D), (N, M) and (N,)."""
        for objective, column in zip(self._problem.objectives, losses.T, strict=True):
            if objective.metric not in self._problem.counted:
                predictor = self._loss_predictors.setdefault(objective.metric, self._make())
                predictor.fit(genomes, column)
        known = self._known_violations(genomes, losses)
        rest = np.where(violations - known > _ROUNDING, violations - known, 0.0)
        self._violation_predictor = self._make().fit(genomes, rest) if rest.any() else None
        self.num_samples = len(genomes)
        return self

    def score(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Losses (N, M) and violations (N,) of candidates of shape (N, D)."""
        losses = np.empty((len(genomes), len(self._problem.objectives)))
        counted = self._counted.values(genomes)
        for column, objective in enumerate(self._problem.objectives):
            name = objective.metric
            losses[:, column] = (
                [objective.to_loss(value) for value in counted[name]]
                if name in counted
                else self._loss_predictors[name].predict(genomes).mean
            )
        violations = self._known_violations(genomes, losses)
        if self._violation_predictor is not None:
            rest = self._violation_predictor.predict(genomes)
            violations += np.maximum(rest.mean - rest.std, 0.0)
        return losses, violations

    def _make(self) -> Predictor:
        return PREDICTORS[self._predictor](self._problem.space, self._seed)

    def _known_violations(self, genomes: Genomes, losses: Floats) -> Floats:
        """Violations of the constraints on counted metrics and on objectives, of shape (N,)."""
        violations = self._counted.violations(genomes)
        for objective, column in zip(self._problem.objectives, losses.T, strict=True):
            for constraint in self._problem.constraints:
                if constraint.metric == objective.metric not in self._problem.counted:
                    violations += [constraint.violation(objective.from_loss(x)) for x in column]
        return violations
