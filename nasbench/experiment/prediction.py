"""How well a run's metrics can be predicted from its own trials."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nasbench.errors import RequestError, unknown_name
from nasbench.experiment.run import Run
from nasbench.objectives import METRICS
from nasbench.predictors import PREDICTORS, Prediction
from nasbench.predictors.base import Floats
from nasbench.predictors.quality import QualityAtSize, cross_validate, held_out_prediction
from nasbench.trials import TrialState

DEFAULT_PREDICTORS = ("auto", "gp", "ridge", "lightgbm")
QUALITY_FILE = "predictors/quality.json"
"""Where a run keeps how well its predictors did when they were judged last."""
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class PredictorReport:
    """One predictor of one metric.

    Args:
        at_sizes: quality by the number of samples learned from.
        values: the metric of N trials, and `held_out`, what the predictor says of each without it.
    """

    metric: str
    predictor: str
    at_sizes: list[QualityAtSize]
    values: Floats
    held_out: Prediction

    def to_json(self) -> dict[str, Any]:
        """What `PredictorSummary` reads."""
        return {
            "metric": self.metric,
            "predictor": self.predictor,
            "num_trials": len(self.values),
            "at_sizes": [asdict(at) for at in self.at_sizes],
            "measured": self.values.tolist(),
            "held_out_mean": self.held_out.mean.tolist(),
            "held_out_std": self.held_out.std.tolist(),
        }


class PredictorSummary(BaseModel):
    """A `PredictorReport` as it was written to `QUALITY_FILE`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str
    predictor: str
    num_trials: int
    at_sizes: tuple[QualityAtSize, ...]
    measured: tuple[float, ...] = Field(min_length=1)
    held_out_mean: tuple[float, ...] = Field(min_length=1)
    held_out_std: tuple[float, ...]


def predicted_metrics(run: Run) -> list[str]:
    """The objectives that only measuring can tell."""
    names = [objective.metric for objective in run.objectives]
    return [name for name in names if name not in METRICS or not METRICS[name].is_counted]


def assess_predictors(
    run: Run,
    *,
    metrics: Sequence[str] = (),
    predictors: Sequence[str] = DEFAULT_PREDICTORS,
    sizes: Sequence[int] = (),
    stratify_by: str | None = None,
) -> list[PredictorReport]:
    """Cross-validate predictors on the completed trials of a run, feasible or not.

    Args:
        metrics: names of measured metrics; none means those objectives that are not counted.
        predictors: names of `PREDICTORS`.
        sizes: numbers of trials to learn from; none means an eighth, a quarter, a half and all of
            the training folds.
        stratify_by: the dimension within whose choices tau is reported, too.

    Raises:
        RequestError: for an unknown name, or if the trials are too few.
    """
    if "transfer" in predictors:
        raise RequestError("predictor 'transfer' needs another device's model, which no run has")
    trials = [trial for trial in run.trials if trial.state is TrialState.COMPLETE]
    if len(trials) < 2 * _NUM_FOLDS:
        raise RequestError(
            f"'{run.folder}' has {len(trials)} completed trials; judging a predictor takes at "
            f"least {2 * _NUM_FOLDS}"
        )
    space = run.space
    genomes = space.to_genomes([trial.architecture for trial in trials])
    num_known = len(trials) - -(-len(trials) // _NUM_FOLDS)
    sizes = sizes or sorted({max(2, num_known // share) for share in (8, 4, 2, 1)})
    reports = []
    for metric in metrics or predicted_metrics(run):
        if metric not in trials[0].measurements:
            raise unknown_name("measured metric", metric, trials[0].measurements)
        values = np.array([trial.measurements[metric] for trial in trials])
        for name in predictors:
            make = PREDICTORS[name]
            at_sizes = cross_validate(
                make, space, genomes, values,
                sizes=sizes, num_folds=_NUM_FOLDS, stratify_by=stratify_by, seed=run.config.seed,
            )  # fmt: skip
            held_out = held_out_prediction(make, space, genomes, values, seed=run.config.seed)
            reports.append(PredictorReport(metric, name, at_sizes, values, held_out))
    return reports


def keep_reports(run: Run, reports: Sequence[PredictorReport]) -> list[Path]:
    """Write `QUALITY_FILE`, which `nasbench report` shows, and draw RUN/predictors/METRIC.png.

    Returns:
        The figures: one per metric, of the first predictor that was judged.
    """
    from nasbench.plots import add_title, plot_parity, save

    first = {report.metric: report for report in reversed(reports)}
    file = run.folder / QUALITY_FILE
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps([report.to_json() for report in reports]) + "\n")
    partial.replace(file)
    paths = []
    for metric, report in sorted(first.items()):
        ax = plot_parity(report.values, report.held_out, metric)
        add_title(ax, report.predictor)
        paths.append(file.with_name(f"{metric}.png"))
        save(ax, paths[-1])
    return paths
