"""The earlier search that a run begins from: read from its folder, kept as a copy in the run's own.

The copy is what the algorithm is given from then on, so that the run carries on as it began even
where the earlier one has grown, or gone, since.
"""

import inspect
import json
from typing import Any

from nasbench.errors import RequestError
from nasbench.experiment.run import Run, load_run
from nasbench.folders import write_atomically
from nasbench.objectives import losses_of
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.earlier import EarlierTrials
from nasbench.trials import TrialState

_FILE = "earlier.json"


def earlier_trials(run: Run, problem: SearchProblem) -> EarlierTrials:
    """The completed trials of the run that `search.earlier` names.

    Raises:
        RequestError: if that is no run that was searched, its space is another one, it did not
            measure an objective, it has too few trials, or the algorithm learns from none.
    """
    name = run.config.search.algorithm
    if "earlier" not in inspect.signature(ALGORITHMS[name]).parameters:
        raise RequestError(f"algorithm '{name}' does not learn from an earlier search; 'auto' does")
    found = _read(run, problem)
    measurements = [trial["measurements"] for trial in found]
    for objective in problem.objectives:
        if any(objective.metric not in measured for measured in measurements):
            raise RequestError(
                f"the earlier search '{run.config.search.earlier}' did not measure "
                f"'{objective.metric}'; it has: {', '.join(measurements[0])}"
            )
    genomes = problem.space.to_genomes([trial["architecture"] for trial in found])
    return EarlierTrials(genomes, losses_of(problem.objectives, measurements))


def keep_earlier(run: Run, problem: SearchProblem) -> None:
    """Copy the earlier trials into the run's folder, once."""
    path = run.folder / _FILE
    if run.config.search.earlier is not None and not path.exists():
        write_atomically(path, json.dumps(_read(run, problem)) + "\n")


def _read(run: Run, problem: SearchProblem) -> list[dict[str, Any]]:
    """Architecture and measurements of each trial, from the copy where there is one."""
    path = run.folder / _FILE
    if path.exists():
        try:
            kept: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise RequestError(
                f"'{path}' is damaged; delete it, and it is copied from "
                f"'{run.config.search.earlier}' again"
            ) from None
        return kept
    assert run.config.search.earlier is not None
    earlier = load_run(run.config.search.earlier)
    if earlier.space != problem.space:
        raise RequestError(
            f"the earlier search '{earlier.folder}' has another space than this run; a search "
            "learns from one of the same family, preset and options"
        )
    return [
        {
            "architecture": trial.architecture.to_json(),
            "measurements": dict(trial.measurements),
        }
        for trial in earlier.trials
        if trial.state is TrialState.COMPLETE
    ]
