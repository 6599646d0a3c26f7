"""What a report says of runs, read from their folders; nothing is measured or changed.

A part that a run does not have (no training of its own, no nested sub-networks, predictors that
nobody judged) is left out. A part that is there and cannot be read is an error that names its file.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nasbench.errors import RequestError
from nasbench.experiment.prediction import QUALITY_FILE, PredictorSummary
from nasbench.experiment.run import Run
from nasbench.objectives import METRICS, losses_of, violations_of
from nasbench.pareto import knee_index, non_dominated
from nasbench.space import SearchSpace
from nasbench.trials import Trial, TrialState

Read = TypeVar("Read")


class Kind(StrEnum):
    """What a completed trial is among those of its run."""

    FRONT = "front"
    DOMINATED = "dominated"
    INFEASIBLE = "infeasible"


class _Part(BaseModel):
    """What is read of a file that may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Epoch(_Part):
    """An epoch of training: its mean loss, and metrics of the sub-networks that were looked at."""

    epoch: int
    loss: float
    looks: dict[str, dict[str, float]] = {}


class Latency(_Part):
    """Of a member of a ladder on a device."""

    latency_ms: float


class Member(_Part):
    """A member of a ladder of nested sub-networks."""

    architecture_id: str
    num_parameters: float
    num_macs: float
    validation: dict[str, float] = Field(min_length=1)
    test: dict[str, float] = {}
    latency: dict[str, Latency] = {}


class Ladder(_Part):
    """The manifest of a run's nested sub-networks, from the smallest to the largest."""

    members: tuple[Member, ...] = Field(min_length=1)


class DevicePredictor(_Part):
    """A file that predicts a device's latency, and how well it did on networks it never saw."""

    device: str
    fitted_to: tuple[Any, ...]
    tested_on: tuple[Any, ...] = ()
    quality: dict[str, float | None] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedRun:
    """A run as a report shows it.

    Args:
        number: its place among the runs of the report, which its color goes by.
        label: tells it from the other runs of the report.
        space: of its architectures.
        finished: its completed and failed trials, in the order in which they were proposed.
        kinds: trial number -> what it is, of the completed ones.
        tested: trial number -> metrics on test data, of the front.
        history: of its training; empty where it trained nothing.
        predictors: as `nasbench predictors` judged them last.
        devices: path -> what predicts a device's latency.
        ladder: its nested sub-networks.
    """

    run: Run
    number: int
    label: str
    space: SearchSpace
    finished: Sequence[Trial]
    kinds: Mapping[int, Kind]
    tested: Mapping[int, Mapping[str, float]]
    history: Sequence[Epoch]
    predictors: Sequence[PredictorSummary]
    devices: Mapping[str, DevicePredictor]
    ladder: Ladder | None

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the metrics that it optimized."""
        return tuple(objective.metric for objective in self.run.objectives)

    @property
    def trials(self) -> list[Trial]:
        """The completed trials."""
        return [trial for trial in self.finished if trial.number in self.kinds]

    @property
    def front(self) -> list[Trial]:
        """The trials of the front, from the best in the first objective to the worst."""
        found = [trial for trial in self.trials if self.kinds[trial.number] is Kind.FRONT]
        first = self.run.objectives[0]
        return sorted(found, key=lambda trial: first.to_loss(trial.measurements[first.metric]))

    @property
    def knee(self) -> Trial:
        """The front's knee."""
        losses = losses_of(self.run.objectives, [trial.measurements for trial in self.front])
        return self.front[knee_index(losses)]


def read_runs(runs: Sequence[Run]) -> list[ReportedRun]:
    """Read what is to be reported.

    Raises:
        RequestError: if a run has no front, or one of its files cannot be read.
    """
    names = [run.config.name for run in runs]
    return [
        _read_run(run, number, name if names.count(name) == 1 else f"{name} ({run.folder})")
        for number, (run, name) in enumerate(zip(runs, names, strict=True))
    ]


def _read_run(run: Run, number: int, label: str) -> ReportedRun:
    finished = [trial for trial in run.trials if trial.state.is_finished]
    kinds = _kinds(run, [trial for trial in finished if trial.state is TrialState.COMPLETE])
    if Kind.FRONT not in kinds.values():
        raise RequestError(f"no completed trial of '{run.folder}' respects the constraints")
    training = run.record.get("stages", {}).get("train", {})
    state = run.checkpoints / Path(str(training.get("checkpoint", ""))).name / "state.json"
    history = _read_part(state, _History)
    return ReportedRun(
        run=run,
        number=number,
        label=label,
        space=run.space,
        finished=finished,
        kinds=kinds,
        tested=_read_tested(run.folder / "pareto.csv"),
        history=history.history if history else (),
        predictors=_read_part(run.folder / QUALITY_FILE, tuple[PredictorSummary, ...]) or (),
        devices={
            path.relative_to(run.folder).as_posix(): found
            for path in sorted(run.folder.glob("devices/*/*.json"))
            if (found := _read_part(path, DevicePredictor)) is not None
        },
        ladder=_read_part(run.folder / "nest" / "manifest.json", Ladder),
    )


class _History(_Part):
    history: tuple[Epoch, ...]


def _kinds(run: Run, completed: Sequence[Trial]) -> dict[int, Kind]:
    """Trial number -> what it is."""
    violations = violations_of(run.constraints, [trial.measurements for trial in completed])
    feasible = [t for t, amount in zip(completed, violations, strict=True) if amount == 0]
    losses = losses_of(run.objectives, [trial.measurements for trial in feasible])
    kinds = {trial.number: Kind.INFEASIBLE for trial in completed}
    for trial, is_member in zip(feasible, non_dominated(losses), strict=True):
        kinds[trial.number] = Kind.FRONT if is_member else Kind.DOMINATED
    return kinds


def _read_part(path: Path, kind: type[Read]) -> Read | None:
    """The content of a JSON file; None where there is no such file."""
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"cannot read '{path}': {where}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read '{path}': {' '.join(str(error).split())}") from None


def _read_tested(path: Path) -> dict[int, dict[str, float]]:
    """Trial number -> test metrics, as `pareto.csv` has them."""
    columns = {f"test_{metric.header}": name for name, metric in METRICS.items()}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        found = {
            int(row["trial"]): {columns[c]: float(v) for c, v in row.items() if c in columns and v}
            for row in rows
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"cannot read '{path}': {' '.join(str(error).split())}") from None
    return {number: metrics for number, metrics in found.items() if metrics}
