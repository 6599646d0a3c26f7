"""What commands found, for machines: JSON or CSV in place of the tables of `tables.py`.

Every command that prints a table is one that `prints_table`, and so takes --json and --csv.
Standard output then has the data and nothing else: progress, and what libraries say, goes to
standard error. JSON has all that was found, in one document; CSV has the rows of the table, with
units in the names of its columns. docs/reference/outputs.md describes both, and a test holds every
command to it.
"""

import csv
import inspect
import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from nasbench.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from nasbench.experiment.device_files import DeviceFile
    from nasbench.experiment.measuring import MeasuredModel
    from nasbench.experiment.prediction import PredictorReport
    from nasbench.experiment.profile import Profile
    from nasbench.experiment.sweep import Outcome
    from nasbench.supernet.nested import NestedModel

Row = Mapping[str, Any]
Options = ParamSpec("Options")


@dataclass(frozen=True, slots=True)
class Found:
    """What a command found.

    Args:
        document: all of it, of what JSON has.
        rows: what its table shows; a row lacks the columns that it has nothing for.
    """

    document: Any
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Result:
    """How a command's findings are printed: `show` for people, `find` for machines."""

    show: Callable[[], None]
    find: Callable[[], Found]


def prints_table(command: Callable[Options, Result]) -> Callable[..., None]:
    """A command with --json and --csv beside its own options, which prints what it returns."""

    @wraps(command)
    def printing(*args: Any, as_json: bool, as_csv: bool, **options: Any) -> None:
        if as_json and as_csv:
            raise RequestError("give --json or --csv, not both")
        if not (as_json or as_csv):
            command(*args, **options).show()
            return
        with redirect_stdout(sys.stderr):
            found = command(*args, **options).find()
        sys.stdout.write(_json(found.document) if as_json else _csv(found.rows))

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            f"as_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[
                bool, typer.Option(f"--{name}", help=f"Print {name.upper()}, and nothing else.")
            ],
        )
        for name in ("json", "csv")
    ]
    parameters = [*signature.parameters.values(), *added]
    printing.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    return printing


def _json(document: Any) -> str:
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The same without infinities and NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if columns:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def of_fronts(summaries: Sequence[Mapping[str, Any]]) -> Found:
    """Of runs, as `html_report.summarize` has them: a row for each sub-network of a front."""
    rows = [{"run": each["run"], **trial} for each in summaries for trial in each["front"]]
    return Found(list(summaries), rows)


def of_ladder(model: "NestedModel") -> Found:
    """Of a bundle: a row for each member, on the device that made it."""
    rows = []
    for number, member in enumerate(model.members):
        measured = member.latency[model.devices[0]]
        rows.append(
            {
                "member": number,
                "num_parameters": member.num_parameters,
                "num_macs": member.num_macs,
                "latency_ms": measured["latency_ms"],
                "is_dominated": member.is_dominated,
                **{f"validation_{name}": value for name, value in member.validation.items()},
                **{f"test_{name}": value for name, value in member.test.items()},
            }
        )
    members = [
        {**row, "architecture": dict(member.architecture)}
        for row, member in zip(rows, model.members, strict=True)
    ]
    return Found({"device": model.devices[0], "members": members}, rows)


def of_sweep(outcome: "Outcome") -> Found:
    """Of a sweep: a row for each member; the document has its settings and best values, too."""
    from nasbench.experiment.sweep import HYPERVOLUME

    rows = [
        {
            "member": each["member"],
            "state": each["state"],
            "reason": each["reason"],
            "hypervolume": each.get(HYPERVOLUME),
            "num_trials": each.get("num_trials"),
            "seconds": each.get("seconds"),
        }
        for each in outcome.rows
    ]
    members = [dict(each) for each in outcome.rows]
    document = {"members": members, "references": outcome.references, "files": outcome.files}
    return Found(document, rows)


def of_profiles(profiles: Sequence["Profile"]) -> Found:
    """Of spaces: rows are the smallest, the middle and the largest sub-network of each."""
    counts_of = {
        profile.name: {
            name: {metric: round(count) for metric, count in counts.items()}
            for name, counts in profile.counts.items()
        }
        for profile in profiles
    }
    rows = [
        {"space": profile.name, "size": profile.size, "subnetwork": name, **counts}
        for profile in profiles
        for name, counts in counts_of[profile.name].items()
    ]
    document = [
        {
            "space": profile.name,
            "size": profile.size,
            "counts": counts_of[profile.name],
            "constraints": profile.constraints,
            "num_trained": profile.num_trained or None,
            "num_added": profile.num_added,
        }
        for profile in profiles
    ]
    return Found(document, rows)


def of_predictors(reports: Sequence["PredictorReport"]) -> Found:
    """Of judged predictors: a row for each metric, predictor and number of samples."""
    rows = [
        {
            "metric": report.metric,
            "predictor": report.predictor,
            "num_samples": at.size,
            "num_fits": at.num_fits,
            "tau": at.mean.tau,
            "tau_std": at.std.tau,
            "within_tau": at.mean.within_tau,
            "spearman": at.mean.spearman,
            "rmse": at.mean.rmse,
            "mape": at.mean.mape,
            "coverage": at.mean.coverage,
        }
        for report in reports
        for at in report.at_sizes
    ]
    return Found([report.to_json() for report in reports], rows)


def of_measured(measured: Sequence["MeasuredModel"]) -> Found:
    """Of measured networks: JSON has every timed pass, and `nasbench device import` reads it."""
    rows = []
    for each in measured:
        latency, conditions = each.latency, each.latency.conditions()
        low, high = latency.interval_ms or (None, None)
        rows.append(
            {
                "network": each.model,
                "median_ms": latency.median_ms,
                "interval_low_ms": low,
                "interval_high_ms": high,
                "p10_ms": latency.p10_ms,
                "p90_ms": latency.p90_ms,
                "peak_memory_bytes": each.peak_memory.value,
                "energy_mj": each.energy.value,
                "num_repeats": latency.num_repeats,
                "stopped_by": latency.stopped_by,
                "drift": latency.drift,
                **{name: conditions[name] for name in ("device", "engine", "batch_size")},
                **{name: conditions[name] for name in ("sequence_length", "num_threads")},
            }
        )
    return Found([each.to_json() for each in measured], rows)


_QUALITY_OF_DEVICE = ("tau", "spearman", "rmse_ms", "mape", "coverage", "tau_of_macs")


def of_device(path: "Path", file: "DeviceFile") -> Found:
    """Of what is known of a device: one row, the quality of its predictions."""
    row = {
        "file": str(path),
        "device": file.device,
        "num_fitted": len(file.fitted_to),
        "num_tested": len(file.tested_on),
        **{name: file.quality.get(name) for name in _QUALITY_OF_DEVICE},
    }
    return Found({**row, "conditions": file.conditions}, [row])


def of_inference(found: Mapping[str, float] | str) -> Found:
    """Of a sample: a row for each class, the most probable first; or the text that was written."""
    if isinstance(found, str):
        return Found({"text": found}, [{"text": found}])
    rows = [{"class": name, "probability": value} for name, value in found.items()]
    return Found(dict(found), rows)


def of_export(manifest: Mapping[str, Any]) -> Found:
    """Of an export: a row for each target; the document is its manifest."""
    rows = []
    for target, found in manifest["targets"].items():
        latency = found["latency"] or {}
        rows.append(
            {
                "target": target,
                "precision": found["precision"],
                "difference": found.get("largest_difference", found.get("relative_rms_difference")),
                "latency_ms": latency.get("latency_ms"),
                **{f"test_{name}": value for name, value in found["test"].items()},
            }
        )
    return Found(manifest, rows)


def of_catalogue(catalogue: Mapping[str, Sequence[str]]) -> Found:
    """Of registries: a row for each entry."""
    rows = [{"kind": kind, "name": name} for kind, names in catalogue.items() for name in names]
    return Found(dict(catalogue), rows)
