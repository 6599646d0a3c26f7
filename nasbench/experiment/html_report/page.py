"""Filling the page: the template's values, and the policy that lets nothing else run in it.

A report may be opened by somebody who did not make it, and names in it come from configuration
files. So the template escapes every text, data is a block that browsers do not run, and the page's
policy allows two scripts by their hashes and no request at all.
"""

import base64
import hashlib
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from nasbench.errors import RequestError
from nasbench.experiment.html_report import figures
from nasbench.experiment.html_report.figures import known_metric, plain, shown, written
from nasbench.experiment.html_report.reading import Kind, ReportedRun, read_runs
from nasbench.experiment.run import Run
from nasbench.space import SearchSpace
from nasbench.trials import Trial

_TEST = "test:"  # stands before the name of a metric on test data


def write_html_report(runs: Sequence[Run], path: Path) -> None:
    """Write the report of one run, or of several beside each other.

    Raises:
        RequestError: if a run has no front, or one of its files cannot be read; nothing is written.
    """
    text = _render(read_runs(runs))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write '{path}': {error.strerror}") from None
    partial.replace(path)


def summarize(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the report's table says of each run, JSON-able; hypervolumes have one reference point.

    The hypervolume is None for a run with other objectives than the first.
    """
    reported = read_runs(runs)
    _, reference, volumes = _hypervolume(reported)
    return [
        {
            "run": run.label,
            "folder": str(run.run.folder),
            "algorithm": run.run.config.search.algorithm,
            "seed": run.run.config.seed,
            "objectives": list(run.objectives),
            "num_completed": len(run.trials),
            "num_failed": len(run.finished) - len(run.trials),
            "num_front": len(run.front),
            "hypervolume": volumes.get(number),
            "reference_point": reference if number in volumes else None,
            "front": [
                {
                    "architecture_id": trial.architecture.id,
                    "trial": trial.number,
                    **trial.measurements,
                    **{f"test_{k}": v for k, v in run.tested.get(trial.number, {}).items()},
                }
                for trial in run.front
            ],
        }
        for number, run in enumerate(reported)
    ]


def _hypervolume(runs: Sequence[ReportedRun]) -> tuple[figures.Figure, str, dict[int, float]]:
    """Figure, reference point, and hypervolumes by the run's number: of those like the first."""
    like = [n for n, run in enumerate(runs) if run.objectives == runs[0].objectives]
    figure, reference, last = figures.hypervolume([runs[number] for number in like])
    return figure, reference, dict(zip(like, last, strict=True))


def _render(runs: Sequence[ReportedRun]) -> str:
    environment = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0], "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files(__package__ or "")
    scripts = {"plotly": get_plotlyjs().strip(), "own": (folder / "report.js").read_text()}
    shown_figures = dict(_figures(runs))
    hypervolume, reference, volumes = _hypervolume(runs)
    shown_figures["hypervolume"] = hypervolume
    return environment.get_template("report.html").render(
        title=" and ".join(run.label for run in runs) if len(runs) < 3 else f"{len(runs)} runs",
        policy=_policy(scripts.values()),
        css=(folder / "report.css").read_text(),
        scripts=scripts,
        data={
            "runs": [{**_run_data(run), **figures.style(run)} for run in runs],
            "axes": _axes(runs),
            "base": figures.layout({}, {}),
            "figures": shown_figures,
            "grey": figures.GREY,
        },
        axes=_axes(runs),
        num_trials=sum(len(run.trials) for run in runs),
        runs=[_run_view(run) for run in runs],
        summaries=[
            {**_facts(run), "hypervolume": f"{volumes[n]:.4f}" if n in volumes else "-"}
            for n, run in enumerate(runs)
        ],
        reference=reference,
        figures=shown_figures,
    )


def _policy(scripts: Iterable[str]) -> str:
    """Content-Security-Policy: these scripts by their hashes, styles of the page, nothing else.

    plotly.js sets styles as it draws, and makes pictures of figures from blobs.
    """
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _figures(runs: Sequence[ReportedRun]) -> Iterator[tuple[str, figures.Figure]]:
    """The figures that only some runs have, by the name of their place on the page."""
    trained = [run for run in runs if run.history]
    if trained:
        yield "training-loss", figures.training_loss(trained)
        looks = figures.training_looks(trained)
        if looks is not None:
            yield "training-looks", looks
    for number, run in enumerate(runs):
        drawn = {summary.metric: summary for summary in reversed(run.predictors)}
        for metric, summary in drawn.items():
            yield f"parity-{number}-{metric}", figures.parity(summary)
        if run.ladder is not None:
            yield f"ladder-{number}", figures.ladder(run.ladder)


# -- trials and their metrics ----------------------------------------------------------------------


def _metrics(run: ReportedRun) -> list[str]:
    """Names of what was measured: each objective and what it is on test data, then the others."""
    measured = dict.fromkeys([*run.objectives, *run.trials[0].measurements])
    tested = dict.fromkeys(name for found in run.tested.values() for name in found)
    split = [name for name in tested if name in measured]  # the others do not depend on data
    dependent = [f"{_TEST}{name}" for name in split if not known_metric(name).is_counted]
    pairs = [name for objective in run.objectives for name in (objective, f"{_TEST}{objective}")]
    first = [name for name in pairs if name in measured or name in dependent]
    return list(dict.fromkeys([*first, *measured, *dependent]))


def _label(name: str) -> str:
    metric = known_metric(name.removeprefix(_TEST))
    return f"{metric.label} on test data" if name.startswith(_TEST) else metric.label


def _value(run: ReportedRun, trial: Trial, name: str) -> float | None:
    if name.startswith(_TEST):
        return run.tested.get(trial.number, {}).get(name.removeprefix(_TEST))
    return trial.measurements.get(name)


def _axes(runs: Sequence[ReportedRun]) -> dict[str, dict[str, str]]:
    """What an axis may show: name -> title (as text, and for plotly.js) and format."""
    axes = {}
    for name in dict.fromkeys(name for run in runs for name in _metrics(run)):
        metric = known_metric(name.removeprefix(_TEST))
        title = figures.axis_title(metric).replace(metric.label, _label(name), 1)
        form = figures.axis(metric)["tickformat"]
        axes[name] = {"title": title, "html": plain(title), "tickformat": form}
    return {**axes, "trial": {"title": "trial", "html": "trial", "tickformat": ""}}


def _run_data(run: ReportedRun) -> dict[str, Any]:
    """What the page's script needs of a run. Texts that plotly.js shows are escaped."""
    names = _metrics(run)
    active = run.space.active(run.space.to_genomes([t.architecture for t in run.trials]))
    trials = []
    for trial, is_active in zip(run.trials, active.tolist(), strict=True):
        values = {name: _value(run, trial, name) for name in names}
        metrics = {name: known_metric(name.removeprefix(_TEST)) for name in names}
        genome = run.space.to_genome(trial.architecture).tolist()
        trials.append(
            {
                "id": trial.architecture.id,
                "kind": run.kinds[trial.number],
                "genome": [c if on else -1 for c, on in zip(genome, is_active, strict=True)],
                "values": {
                    "trial": trial.number,
                    **{
                        name: float(f"{shown(metrics[name], value):.6g}")
                        for name, value in values.items()
                        if value is not None and math.isfinite(value)  # else it has no place
                    },
                },
                "texts": [written(metrics[name], value) for name, value in values.items()],
                "hover": "<br>".join(
                    [f"<b>{plain(trial.architecture.id)}</b>, trial {trial.number}"]
                    + [
                        f"{plain(_label(name))}: {written(metrics[name], value)}"
                        for name, value in values.items()
                        if value is not None
                    ]
                ),
            }
        )
    return {
        "label": plain(run.label),
        "objectives": list(run.objectives),
        "rising": [o.direction == "minimize" for o in run.run.objectives],
        "command": _export_command(run),
        "choices": [[str(choice) for choice in d.choices] for d in run.space],
        "trials": trials,
        "chosen": run.trials.index(run.knee),
    }


def _export_command(run: ReportedRun) -> str:
    """What exports a sub-network, up to its id; nothing where there is no network to export."""
    folder = shlex.quote(str(run.run.folder))
    return f"nasbench export {folder} --pick " if run.run.is_done("train") else ""


# -- what the template shows -----------------------------------------------------------------------


def _run_view(run: ReportedRun) -> dict[str, Any]:
    names = _metrics(run)
    metrics = {name: known_metric(name.removeprefix(_TEST)) for name in names}
    index = {trial.number: position for position, trial in enumerate(run.trials)}

    def view(trial: Trial) -> dict[str, Any]:
        return {
            "index": index[trial.number],
            "id": trial.architecture.id,
            "number": trial.number,
            "texts": [written(metrics[name], _value(run, trial, name)) for name in names],
        }

    return {
        "label": run.label,
        "command": _export_command(run),
        "metrics": [_label(name) for name in names],
        "knee": view(run.knee),
        "front": [view(trial) for trial in run.front],
        "parts": _diagram(run.space),
        "predictors": run.predictors,
        "parities": sorted({summary.metric for summary in run.predictors}),
        "devices": run.devices,
        "ladder": run.ladder,
        "conditions": _conditions(run),
    }


def _diagram(space: SearchSpace) -> list[dict[str, Any]]:
    """Where each dimension stands in the drawing: parts (stages) hold blocks, in order.

    A name's dots say where: "stage1.block2.kernel_size" is a row of block2 in stage1,
    "stage1.depth" one of stage1 itself, "depth" one of the network.
    """
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, dimension in enumerate(space):
        *place, name = dimension.name.split(".")
        part, block = (place[0], ".".join(place[1:])) if place else ("", "")
        row = {"number": number, "name": name.replace("_", " ")}
        parts.setdefault(part, {}).setdefault(block, []).append(row)
    return [
        {
            "name": part,
            "own": blocks.get("", []),
            "blocks": [{"name": name, "rows": rows} for name, rows in _merged(blocks).items()],
        }
        for part, blocks in parts.items()
    ]


def _merged(blocks: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Blocks with what is deeper in them: "layer1.self_attention" is a part of layer1."""
    merged: dict[str, list[dict[str, Any]]] = {}
    for name, rows in blocks.items():
        block, _, inner = name.partition(".")
        if block:
            prefix = f"{inner.replace('_', ' ').replace('.', ' ')} " if inner else ""
            merged.setdefault(block, []).extend(
                {**row, "name": prefix + row["name"]} for row in rows
            )
    return merged


def _facts(run: ReportedRun) -> dict[str, Any]:
    kinds = list(run.kinds.values())
    return {
        "label": run.label,
        "algorithm": run.run.config.search.algorithm,
        "seed": run.run.config.seed,
        "objectives": ", ".join(_label(name) for name in run.objectives),
        "completed": len(kinds),
        "failed": len(run.finished) - len(kinds),
        "infeasible": kinds.count(Kind.INFEASIBLE),
        "front": kinds.count(Kind.FRONT),
        "tested": sum(trial.number in run.tested for trial in run.front),
    }


def _conditions(run: ReportedRun) -> dict[str, str]:
    """Under which conditions the run's numbers were measured, as its folder has them."""
    config, record = run.run.config, run.run.record
    stages, asked = record.get("stages", {}), config.identity()
    sections = [name for name in ("task", "table", "supernet", "evaluation") if name in asked]
    return {
        **{k: v for name in sections for k, v in _flat(name, asked[name]).items()},
        "search": f"{config.search.algorithm}, {len(run.finished)} trials, seed {config.seed}",
        "constraints": ", ".join(map(str, run.run.constraints)) or "none",
        **_flat("latency", stages.get("search", {}).get("latency_conditions", {})),
        **_flat("metric", stages.get("report", {}).get("metric_conditions", {})),
        **_flat("machine", record.get("machine", {})),
        **_flat("version of", record.get("versions", {})),
        **_flat("digest of data:", stages.get("train", {}).get("data", {})),
        "fingerprint": str(record.get("fingerprint", "")),
    }


def _flat(prefix: str, found: object) -> dict[str, str]:
    """Nested values by their joined names; None, which says nothing, is left out."""
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        return {prefix: str(found)}
    flat: dict[str, str] = {}
    for name, value in found.items():
        flat |= _flat(f"{prefix} {str(name).replace('_', ' ')}", value)
    return flat
