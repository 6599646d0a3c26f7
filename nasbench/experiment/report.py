"""The table of a search: every completed trial, the front first, with its test results."""

from collections.abc import Mapping

import pandas as pd

from nasbench.experiment.run import Run
from nasbench.objectives import METRICS, losses_of
from nasbench.pareto import non_domination_ranks

TESTED_METRICS = ("top1_accuracy", "top1_error", "cross_entropy")
"""Metrics that depend on the split; the others are properties of the network."""


def write_pareto_csv(run: Run, tested: Mapping[int, Mapping[str, float]]) -> None:
    """Write `pareto.csv`: rank 1 is the front, and only it has test results.

    Args:
        run: its feasible completed trials are the rows.
        tested: trial number -> metrics on test data.
    """
    trials = run.completed
    ranks = non_domination_ranks(losses_of(run.objectives, [t.measurements for t in trials]))
    rows = []
    for rank, trial in zip(ranks.tolist(), trials, strict=True):
        row = {"rank": rank, "architecture_id": trial.architecture.id, "trial": trial.number}
        for name, value in trial.measurements.items():
            prefix = "validation_" if name in TESTED_METRICS else ""
            row[prefix + METRICS[name].header] = value
            if name in TESTED_METRICS:
                found = tested.get(trial.number, {})
                row["test_" + METRICS[name].header] = found.get(name)
        rows.append({**row, **trial.architecture})
    frame = pd.DataFrame(rows)
    first, *_ = run.objectives
    prefix = "validation_" if first.metric in TESTED_METRICS else ""
    best_first = first.direction == "minimize"
    frame = frame.sort_values(
        ["rank", prefix + METRICS[first.metric].header], ascending=[True, best_first]
    )
    partial = run.folder / ".pareto.csv.partial"
    frame.to_csv(partial, index=False)
    partial.replace(run.folder / "pareto.csv")
