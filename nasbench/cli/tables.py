"""Tables that commands print."""

import csv
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nasbench.errors import unknown_name
from nasbench.experiment.run import Run
from nasbench.objectives import METRICS
from nasbench.space import Choice

if TYPE_CHECKING:
    from nasbench.experiment.device_files import DeviceFile
    from nasbench.experiment.measuring import MeasuredModel
    from nasbench.experiment.prediction import PredictorReport
    from nasbench.experiment.profile import Profile
    from nasbench.supernet.nested import NestedModel

Row = TypeVar("Row")

_MAX_ROWS = 20
_BUSY = 0.1  # drift of a control that does nothing but convolutions


def table_console() -> Console:
    """Standard output; where it is no terminal, as wide as the table needs."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_outcome(run: Run) -> None:
    """The front, where everything was written, and what to try next."""
    with (run.folder / "pareto.csv").open(newline="") as stream:
        front = [row for row in csv.DictReader(stream) if row["rank"] == "1"]
    shown = {
        "architecture": "architecture_id",
        **_measured_columns(run, front[0]),
        "latency [ms]": "latency_ms",
        "MACs": "num_macs [count]",
        "parameters": "num_parameters [count]",
    }
    shown = {heading: column for heading, column in shown.items() if column in front[0]}
    exported = run.record["stages"].get("export", {}).get("architecture_id")
    table = Table(title=f"Pareto front of {escape(run.config.name)}: {len(front)} sub-networks")
    for heading in shown:
        table.add_column(escape(heading), justify="left" if heading == "architecture" else "right")
    for row in spread(front):
        is_exported = row["architecture_id"] == exported
        cells = [_cell(heading, row[column]) for heading, column in shown.items()]
        table.add_row(*cells, style="bold" if is_exported else None)
    console = table_console()
    console.print(table)
    left = {
        "table": run.folder / "pareto.csv",
        "figure": run.folder / "pareto.png",
        "report": run.page,
    }
    if exported is not None:
        left["exported"] = run.folder / "export" / exported
    for label, path in left.items():
        if path.exists():
            console.print(f"{label:>9}: {path}", highlight=False, markup=False, soft_wrap=True)
    if exported is None:
        return
    middle = float(front[len(front) // 2][shown.get("latency [ms]", shown["MACs"])])
    bound = f"latency <= {middle:.3g} ms" if "latency [ms]" in shown else f"macs <= {middle:.0f}"
    console.print(
        f'     next: nasbench export {shlex.quote(str(run.folder))} --where "{bound}"',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _measured_columns(run: Run, columns: Iterable[str]) -> dict[str, str]:
    """Heading -> column of the first metric that depends on data, as the run has it."""
    measured = next((column for column in columns if column.startswith("validation_")), None)
    if measured is None:  # a table without validation data
        headers = [METRICS[objective.metric].header for objective in run.objectives]
        return {header: header for header in headers}
    metric = measured.removeprefix("validation_")
    label = metric.partition(" ")[0].removeprefix("top1_")
    return {f"{split} {label}": f"{split}_{metric}" for split in ("validation", "test")}


def spread(rows: Sequence[Row]) -> Sequence[Row]:
    """At most `_MAX_ROWS` rows, evenly, with both ends."""
    if len(rows) <= _MAX_ROWS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (_MAX_ROWS - 1))] for i in range(_MAX_ROWS)]


def _cell(heading: str, text: str) -> str:
    if heading == "architecture":
        return text
    value = float(text)
    if "accuracy" in heading:
        return f"{100 * value:.2f} %"
    if heading in ("MACs", "parameters"):
        return f"{value:,.0f}"
    return f"{value:.4f}" if "[ms]" in heading else f"{value:.4g}"


def print_ladder(run: Run, model: "NestedModel") -> None:
    """The members of a bundle, how monotone they are, and where they were written."""
    device, quality = model.devices[0], model.quality.metric
    table = Table(title=f"{len(model.members)} nested sub-networks of {escape(run.config.name)}")
    headings = ("member", "parameters", "MACs", "latency [ms]", "validation", "test", "")
    for heading in headings:
        table.add_column(escape(heading), justify="right" if heading else "left")
    for number, member in enumerate(model.members):
        values = (member.validation[quality], member.test[quality])
        table.add_row(
            str(number),
            f"{member.num_parameters:,}",
            f"{member.num_macs:,}",
            f"{member.latency[device]['latency_ms']:.4f}",
            *(_cell(quality, str(value)) for value in values),
            "no better than a smaller one" if member.is_dominated else "",
        )
    console = table_console()
    console.print(table)
    num_behind = sum(member.is_dominated for member in model.members)
    bundle, ladder = run.bundle, run.folder / "ladder.png"
    middle = model.members[len(model.members) // 2].latency[device]["latency_ms"]
    for line in (
        f"  quality: {quality}; {num_behind} of {len(model.members)} members are no better on "
        "validation data than a smaller one, and selection passes them over",
        f"   bundle: {bundle}",
        f"   figure: {ladder}",
        f"     next: nasbench export {shlex.quote(str(run.folder))} --nested "
        f'--where "latency <= {middle:.3g} ms"',
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_export(manifest: Mapping[str, Any], folder: Path) -> None:
    """What was measured of each target, beside the network that they were written from."""
    metric = next(iter(manifest["test"]))
    table = Table(title=f"Exported: {escape(manifest['architecture_id'])}")
    headings = ("target", "kB", "precision", "difference", f"test {metric}", "latency [ms]")
    for heading in headings:
        table.add_column(escape(heading), justify="left" if heading == "target" else "right")
    trained = manifest.get("training")
    if trained is not None:
        before = _cell(metric, str(trained["test_before"][metric]))
        table.add_row("(as the supernet left it)", "", "", "", before, "")
    table.add_row("(in PyTorch)", "", "", "", _cell(metric, str(manifest["test"][metric])), "")
    for target, found in manifest["targets"].items():
        files = [file for file in manifest["files"].values() if file.get("target") == target]
        difference = found.get("largest_difference", found.get("relative_rms_difference"))
        latency = found["latency"]
        table.add_row(
            target,
            f"{sum(file['bytes'] for file in files) / 1000:,.0f}",
            found["precision"],
            f"{difference:.2g}" if found["precision"] == "float32" else f"{difference:.1%}",
            _cell(metric, str(found["test"][metric])),
            "-" if latency is None else f"{latency['latency_ms']:.4f}",
        )
    console = table_console()
    console.print(table)
    for line in (
        f"difference: the largest of any output ({manifest['verified_on']}); of int8, root mean "
        "square, as a share of the outputs'",
        f"  written: {folder}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_summaries(summaries: Sequence[Mapping[str, Any]], page: Path) -> None:
    """One row per run, and where the page was written."""
    table = Table()
    headings = ("run", "algorithm", "seed", "completed", "failed", "on the front", "hypervolume")
    for heading in headings:
        table.add_column(escape(heading), justify="left" if heading in headings[:2] else "right")
    for each in summaries:
        counts = ("seed", "num_completed", "num_failed", "num_front")
        volume = "-" if each["hypervolume"] is None else f"{each['hypervolume']:.4f}"
        table.add_row(
            escape(each["run"]), each["algorithm"], *(str(each[name]) for name in counts), volume
        )
    console = table_console()
    console.print(table)
    for line in (
        f"hypervolume: share of the box up to {summaries[0]['reference_point']}",
        f"     report: {page}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_classes(probabilities: Mapping[str, float]) -> None:
    """The five most probable classes."""
    table = Table()
    table.add_column("class")
    table.add_column("probability", justify="right")
    for name, probability in list(probabilities.items())[:5]:
        table.add_row(escape(name), f"{100 * probability:.2f} %")
    table_console().print(table)


def print_profile(profile: "Profile") -> None:
    """The space's size and its extremes."""
    table = Table(title=f"{profile.name}: {profile.size:,} sub-networks")
    for heading in ("sub-network", "parameters", "MACs"):
        table.add_column(escape(heading), justify="left" if heading == "sub-network" else "right")
    for name, counts in profile.counts.items():
        table.add_row(name, f"{counts['num_parameters']:,.0f}", f"{counts['num_macs']:,.0f}")
    ratios = [profile.ratio("num_parameters"), profile.ratio("num_macs")]
    table.add_row("largest : smallest", *(f"{ratio:.1f}" for ratio in ratios))
    console = table_console()
    console.print(table)
    if profile.found:
        _print_found(console, profile)
    else:
        for names, choices in _alike(profile.elastic).items():
            console.print(f"{names}: {choices}", highlight=False, markup=False, soft_wrap=True)
    if profile.num_added:
        share = profile.num_added / (profile.num_trained - profile.num_added)
        console.print(
            f"training holds {profile.num_trained:,} parameters, {profile.num_added:,} "
            f"({share:.0%}) more than plain slices would; what is extracted has none of those",
            highlight=False,
            soft_wrap=True,
        )
    for constraint, verdict in profile.constraints.items():
        console.print(f"{constraint}: {verdict}", highlight=False, markup=False, soft_wrap=True)


def _alike(elastic: Mapping[str, Sequence[Choice]]) -> dict[str, str]:
    """Dimensions of one kind with the same choices on one line: names -> choices.

    Numbers in a row are a range: layer1 to layer6 are `layer1-6`.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for name, choices in elastic.items():
        kind = re.sub(r"\d+", "#", name)
        found.setdefault((kind, *map(str, choices)), []).append(name)
    return {_named(names): ", ".join(choices) for (_, *choices), names in found.items()}


def _named(names: Sequence[str]) -> str:
    """Names that differ in one number as one, `layer1-6.width`; of many others the ends."""
    numbers = [[int(number) for number in re.findall(r"\d+", name)] for name in names]
    if len(names) > 1 and all(len(of) == 1 for of in numbers):
        first, last = numbers[0][0], numbers[-1][0]
        if [of[0] for of in numbers] == list(range(first, last + 1)):
            return re.sub(r"\d+", f"{first}-{last}", names[0])
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]}, ..., {names[-1]} ({len(names)} dimensions)"


def _print_found(console: Console, profile: "Profile") -> None:
    """The dimensions of a network of one's own, and what stays as it is."""
    table = Table()
    for heading in ("dimension", "choices", "active where"):
        table.add_column(heading)
    for dimension in profile.found:
        when = dimension.active_when
        condition = f"{when.dimension} is {_listed(when.choices)}" if when else ""
        table.add_row(escape(dimension.name), _listed(dimension.choices), escape(condition))
    console.print(table)
    of_reason: dict[str, list[str]] = {}
    for part in profile.static:
        of_reason.setdefault(part.reason, []).append(part.name)
    for reason, names in of_reason.items():
        said = f"static, because {reason}: {', '.join(names)}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def _listed(choices: Sequence[object]) -> str:
    return ", ".join(map(str, choices))


def print_presets(profiles: list["Profile"]) -> None:
    """One row per preset: size, and parameters and MACs from the smallest to the largest."""
    table = Table()
    for heading in ("preset", "sub-networks", "parameters", "MACs"):
        table.add_column(escape(heading), justify="left" if heading == "preset" else "right")
    for profile in profiles:
        size = f"{profile.size:,}" if profile.size < 10**9 else f"{float(profile.size):.2e}"
        ranges = [
            " to ".join(_short(profile.counts[end][metric]) for end in ("smallest", "largest"))
            for metric in ("num_parameters", "num_macs")
        ]
        table.add_row(profile.name, size, *ranges)
    table_console().print(table)


def _short(count: float) -> str:
    """Three digits and k, M or G."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g}{suffix}"
    return f"{count:.0f}"


def print_predictors(reports: Sequence["PredictorReport"], figures: Sequence[Path]) -> None:
    """One row per metric, predictor and size: means over the fits, tau with its spread."""
    strata = any(at.mean.within_tau is not None for report in reports for at in report.at_sizes)
    first = reports[0].at_sizes[0]
    title = f"{len(reports[0].values)} trials; means over {first.num_fits} held-out folds"
    table = Table(title=title)
    headings = ["metric", "predictor", "samples", "tau", *(["tau within"] if strata else [])]
    for heading in (*headings, "Spearman", "RMSE", "MAPE", "within 1 std"):
        table.add_column(escape(heading), justify="left" if heading in headings[:2] else "right")
    for report in reports:
        for at in report.at_sizes:
            mean = at.mean
            within = f"{mean.within_tau:.3f}" if mean.within_tau is not None else "-"
            table.add_row(
                report.metric,
                report.predictor,
                str(at.size),
                f"{mean.tau:.3f} ± {at.std.tau:.3f}",
                *([within] if strata else []),
                f"{mean.spearman:.3f}",
                f"{mean.rmse:.4g}",
                f"{100 * mean.mape:.2f} %" if mean.mape is not None else "-",
                f"{100 * mean.coverage:.0f} %",
            )
    console = table_console()
    console.print(table)
    for path in figures:
        console.print(f"figure: {path}", highlight=False, markup=False, soft_wrap=True)


def print_measured(measured: Sequence["MeasuredModel"], recorded_in: Path | None = None) -> None:
    """One row per network, the conditions that all share, and where it was written, if it was."""
    table = Table(title="Latency of one forward pass")
    headings = ["median [ms]", "95 % interval", "p10", "p90", "memory [MB]", "energy [mJ]"]
    for heading in ("network", *headings, "stopped by", "control's drift"):
        table.add_column(escape(heading), justify="left" if heading == "network" else "right")
    for each in measured:
        latency, interval = each.latency, each.latency.interval_ms
        memory, energy = each.peak_memory.value, each.energy.value
        table.add_row(
            each.model,
            f"{latency.median_ms:.4g}",
            f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "-",
            f"{latency.p10_ms:.4g}",
            f"{latency.p90_ms:.4g}",
            "-" if memory is None else f"{memory / 1e6:.3g}",
            "-" if energy is None else f"{energy:.3g}",
            f"{latency.stopped_by} ({latency.num_repeats} passes)",
            "-" if latency.drift is None else f"{100 * latency.drift:.1f} %",
        )
    console = table_console()
    console.print(table)
    reasons = {f"memory: {each.peak_memory.reason}" for each in measured if each.peak_memory.reason}
    reasons |= {f"energy: {each.energy.reason}" for each in measured if each.energy.reason}
    if any(each.latency.drift is not None and each.latency.drift > _BUSY for each in measured):
        reasons.add("the control drifted: something else ran meanwhile; an idle machine says more")
    conditions = dict.fromkeys(_conditions(each.latency.conditions()) for each in measured)
    written = [f"recorded in: {recorded_in}"] if recorded_in else []
    for line in (*conditions, *sorted(reasons), *written):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _conditions(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    length = found["sequence_length"]
    return (
        f"on {found['device']}: engine {found['engine']} ({versions}), batch of "
        f"{found['batch_size']}{f' x {length} tokens' if length else ''}, "
        f"{found['num_threads']} thread(s)"
    )


def print_device(path: Path, file: "DeviceFile") -> None:
    """How good what is known of a device is, and how to use it."""
    table = Table(
        title=f"{escape(file.device)}: latency predicted from {len(file.fitted_to)} networks"
    )
    for heading in ("tested on", "MAPE", "RMSE [ms]", "tau", "tau of MACs", "within 1 std"):
        table.add_column(escape(heading), justify="right")
    if file.tested_on:
        found = file.quality
        table.add_row(
            f"{len(file.tested_on)} others",
            _number(found["mape"], "{:.2%}"),
            _number(found["rmse_ms"], "{:.4g}"),
            _number(found["tau"], "{:.3f}"),
            _number(found["tau_of_macs"], "{:.3f}"),
            _number(found["coverage"], "{:.0%}"),
        )
    console = table_console()
    console.print(table)
    for line in (
        _conditions(file.conditions),
        f"written: {path}",
        "to search with it: --set search.objectives=[top1_error,predicted_latency_ms] "
        f"--set latency.predictor={shlex.quote(str(path))}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def catalogue_of(kind: str | None) -> dict[str, list[str]]:
    """The names in the registries, of one kind or all."""
    from nasbench.export import EXPORTERS
    from nasbench.hardware import ENGINES
    from nasbench.predictors import PREDICTORS
    from nasbench.search import ALGORITHMS
    from nasbench.supernet import SUPERNETS
    from nasbench.supernet.sharing import SHARINGS
    from nasbench.supernet.training.strategies import STRATEGIES
    from nasbench.tasks import TASKS
    from nasbench.tasks.tables import TABLES

    catalogue: dict[str, Iterable[str]] = {
        "supernets": SUPERNETS,
        "sharings": SHARINGS,
        "algorithms": ALGORITHMS,
        "predictors": PREDICTORS,
        "tasks": TASKS,
        "tables": TABLES,
        "strategies": STRATEGIES,
        "engines": ENGINES,
        "targets": EXPORTERS,
    }
    if kind is not None and kind not in catalogue:
        raise unknown_name("kind of entry", kind, catalogue)
    return {name: sorted(catalogue[name]) for name in ([kind] if kind else catalogue)}


def print_catalogue(catalogue: Mapping[str, Sequence[str]]) -> None:
    """A line for each kind."""
    for kind, names in catalogue.items():
        print(f"{kind}: {', '.join(names)}")
