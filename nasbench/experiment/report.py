"""The table of a search: every completed trial, the front first, with its test results."""

from collections.abc import Mapping, Sequence

import pandas as pd

from nasbench.experiment.run import Run
from nasbench.objectives import METRICS, losses_of
from nasbench.pareto import non_domination_ranks


def write_pareto_csv(
    run: Run, tested: Mapping[int, Mapping[str, float]], metrics: Sequence[str]
) -> None:
    """Write `pareto.csv`: rank 1 is the front, and only it has test results.

    Args:
        run: its feasible completed trials are the rows.
        tested: trial number -> metrics on test data.
        metrics: those that depend on the split; the others are properties of the network.
    """
    trials = run.completed
    ranks = non_domination_ranks(losses_of(run.objectives, [t.measurements for t in trials]))
    rows = []
    for rank, trial in zip(ranks.tolist(), trials, strict=True):
        row = {"rank": rank, "architecture_id": trial.architecture.id, "trial": trial.number}
        for name, value in trial.measurements.items():
            prefix = "validation_" if name in metrics else ""
            row[prefix + METRICS[name].header] = value
            if name in metrics:
                found = tested.get(trial.number, {})
                row["test_" + METRICS[name].header] = found.get(name)
        if run.config.evaluation.screening is not None:
            row["fidelity"] = trial.fidelity
        rows.append({**row, **trial.architecture})
    frame = pd.DataFrame(rows)
    first, *_ = run.objectives
    prefix = "validation_" if first.metric in metrics else ""
    best_first = first.direction == "minimize"
    frame = frame.sort_values(
        ["rank", prefix + METRICS[first.metric].header], ascending=[True, best_first]
    )
    partial = run.folder / ".pareto.csv.partial"
    frame.to_csv(partial, index=False)
    partial.replace(run.folder / "pareto.csv")
