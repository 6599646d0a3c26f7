"""What came of a sweep: a row per member, hypervolume over trials, and the front of all members.

Members are compared where they measure the same: those with another task, table, device or set of
objectives have a reference point, figures and a front of their own.
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench import plots
from nasbench.experiment.html_report.figures import described_point
from nasbench.experiment.run import Run
from nasbench.experiment.sweep.place import Place
from nasbench.experiment.sweep.settings import Member, Sweep
from nasbench.experiment.sweep.sweep import Status
from nasbench.objectives import METRICS, Objective, losses_of
from nasbench.pareto import comparable_hypervolumes, non_dominated
from nasbench.space import SearchSpace
from nasbench.trials import Trial

_COMPARED = ("task", "table", "latency", "evaluation", "search.objectives")
HYPERVOLUME = "hypervolume [share of the box]"
_MAX_GROUPS = 6  # as many as a figure has styles for


@dataclass(frozen=True)
class Outcome:
    """What is said at the end.

    Args:
        rows: one per member, as `sweep.csv` has them.
        references: reference point of the hypervolumes, in words, of each set of members that are
            compared.
        files: what was written, by name.
    """

    rows: Sequence[Mapping[str, Any]]
    references: Mapping[str, str]
    files: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a finished member found, read once; a figure takes it for a run."""

    member: Member
    objectives: list[Objective]
    space: SearchSpace
    completed: list[Trial]
    infeasible: list[Trial]
    losses: NDArray[np.float64]
    front: list[Trial]
    table: Mapping[Any, Mapping[Any, Any]]  # the rows of pareto.csv, by the trial's number
    seconds: float

    @classmethod
    def of(cls, member: Member, run: Run) -> "_Found":
        table = pd.read_csv(run.folder / "pareto.csv").set_index("trial")
        return cls(
            member=member,
            objectives=run.objectives,
            space=run.space,
            completed=run.completed,
            infeasible=run.infeasible,
            losses=run.losses,
            front=run.pareto_front(),
            table=table.to_dict("index"),
            seconds=sum(stage["seconds"] for stage in run.record["stages"].values()),
        )


def conclude(sweep: Sweep, place: Place, statuses: Mapping[str, Status]) -> Outcome:
    """Write `sweep.csv`, and of the finished members the front and the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            member.name: _Found.of(
                member,
                Run(place.folder(member.name, for_reading=Path(scratch)), member.config),
            )
            for member in sweep.members
            if statuses[member.name].state == "finished"
        }
        written, references, fronts = [], {}, []
        volumes: dict[str, float] = {}
        points: dict[str, str] = {}
        problems = _problems(list(found.values()))
        for label, searches in problems.items():
            reference, curves = comparable_hypervolumes([each.losses for each in searches])
            references[label] = described_point(searches[0].objectives, reference)
            volumes |= {
                each.member.name: float(curve[-1])
                for each, curve in zip(searches, curves, strict=True)
            }
            points |= dict.fromkeys((each.member.name for each in searches), references[label])
            fronts += _merged_front(searches)
            suffix = "" if len(problems) == 1 else "-" + re.sub(r"[^A-Za-z0-9._]+", "-", label)
            written += _draw(searches, volumes, Path(scratch), suffix)
        for name in written:
            place.write(name, (Path(scratch) / name).read_bytes())
    rows = []
    for member in sweep.members:
        row = _row(member, statuses[member.name], found.get(member.name))
        if member.name in volumes:
            row |= {HYPERVOLUME: volumes[member.name], "reference_point": points[member.name]}
        rows.append(row)
    place.write("sweep.csv", pd.DataFrame(rows).to_csv(index=False))
    if fronts:
        place.write("pareto.csv", pd.DataFrame(fronts).to_csv(index=False))
        written.append("pareto.csv")
    return Outcome(rows, references, ["sweep.csv", *sorted(written)])


def _problems(found: Sequence[_Found]) -> dict[str, list[_Found]]:
    """Label -> the members that measure the same."""
    problems: dict[str, list[_Found]] = {}
    for each in found:
        problems.setdefault(_measured(each.member), []).append(each)
    labels = [_label(searches[0].member) for searches in problems.values()]
    return {
        label if labels.count(label) == 1 else f"{label} {number + 1}".strip(): searches
        for number, (label, searches) in enumerate(zip(labels, problems.values(), strict=True))
    }


def _measured(member: Member) -> str:
    """Of everything that says what a member measures."""
    identity = member.config.identity()
    parts = [identity.get(section) for section in ("task", "table", "latency", "evaluation")]
    return json.dumps([*parts, member.config.search.objectives], sort_keys=True)


def _label(member: Member) -> str:
    others = [key for key in member.settings if not _is_compared(key)]
    return member.group(without=others) if len(others) < len(member.settings) else ""


def _is_compared(key: str) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in _COMPARED)


def _groups(searches: Sequence[_Found]) -> dict[str, list[_Found]]:
    """Label -> the members that differ in their seed alone."""
    groups: dict[str, list[_Found]] = {}
    for each in searches:
        without = [key for key in each.member.settings if _is_compared(key)]
        groups.setdefault(each.member.group(without), []).append(each)
    return groups


def _draw(
    searches: Sequence[_Found], volumes: Mapping[str, float], folder: Path, suffix: str
) -> list[str]:
    """Write the figures that there is something to draw for; their names."""
    groups = _groups([each for each in searches if each.completed])
    if not groups:
        return []
    best = sorted(groups, key=lambda label: -_median(groups[label], volumes))[:_MAX_GROUPS]
    shown = {label: groups[label] for label in groups if label in best}
    axes = {"hypervolume": plots.plot_hypervolume(shown)}
    if len(searches[0].objectives) == 2:
        axes["pareto"] = plots.plot_merged_front(groups)
    written = []
    for name, ax in axes.items():
        if name == "hypervolume" and len(shown) < len(groups):
            plots.add_title(ax, f"the best {len(shown)} of {len(groups)} settings")
        plots.save(ax, folder / f"{name}{suffix}.png")
        written.append(f"{name}{suffix}.png")
    return written


def _median(members: Sequence[_Found], volumes: Mapping[str, float]) -> float:
    return float(np.median([volumes[each.member.name] for each in members]))


def _merged_front(searches: Sequence[_Found]) -> list[dict[str, Any]]:
    """The sub-networks that no other of any member dominates, with their test results."""
    pairs = [(each, trial) for each in searches for trial in each.front]
    objectives = searches[0].objectives
    losses = losses_of(objectives, [trial.measurements for _, trial in pairs])
    on_front = np.flatnonzero(non_dominated(losses))
    on_front = on_front[np.lexsort(losses[on_front].T[::-1])]
    rows = []
    for each, trial in (pairs[index] for index in on_front):
        row = {key: value for key, value in each.table[trial.number].items() if key != "rank"}
        settings = {key: _cell(value) for key, value in each.member.settings.items()}
        rows.append({"member": each.member.name, **settings, "trial": trial.number, **row})
    return rows


def _row(member: Member, status: Status, found: _Found | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "member": member.name,
        **{key: _cell(value) for key, value in member.settings.items()},
        "state": status.state,
        "reason": status.reason,
        "supernet_of": member.leader or "",
    }
    if found is None:
        return row
    row |= {
        "num_completed": len(found.completed) + len(found.infeasible),
        "num_trials": len(found.losses),
    }
    for objective in found.objectives:
        values = [trial.measurements[objective.metric] for trial in found.completed]
        best = min(values, key=objective.to_loss, default=None)
        row[f"best {METRICS[objective.metric].header}"] = best
    return {**row, "seconds": found.seconds}


def _cell(value: Any) -> Any:
    """A setting's value in a table: as it is, or as JSON."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)
