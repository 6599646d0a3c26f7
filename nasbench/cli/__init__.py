"""The command line: arguments in, progress and one table out, exit codes.

0: done. 1: the work failed. 2: the request was wrong (one sentence, nothing written). 130: stopped
by Ctrl-C; the same command carries on. What is heavy is imported by the command that needs it.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nasbench.cli.devices import device, lut, measure_command
from nasbench.cli.options import (
    Address,
    ConfigOrRun,
    Out,
    Settings,
    StoppedError,
    load,
    open_run,
    stoppable,
)
from nasbench.cli.tables import print_catalogue, print_outcome, print_presets, print_profile
from nasbench.errors import NasbenchError, RequestError, without_passwords
from nasbench.experiment.run import Run, load_run

app = typer.Typer(
    help="Train one supernet, search it for the Pareto front, ship the sub-network that fits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("measure")(measure_command)
app.add_typer(lut, name="lut", no_args_is_help=True)
app.add_typer(device, name="device", no_args_is_help=True)


@app.command("run")
def run_command(
    config: ConfigOrRun, settings: Settings = None, out: Out = None, address: Address = None
) -> None:
    """Train, search, report and export; again = carry on where it stopped."""
    opened = open_run(config, settings, out, address)
    _do(opened, opened.stages)


def _stage_command(stage: str, does: str) -> None:
    def command(
        run: ConfigOrRun, settings: Settings = None, out: Out = None, address: Address = None
    ) -> None:
        _do(open_run(run, settings, out, address), (stage,))

    command.__doc__ = does
    app.command(stage)(command)


_stage_command("train", "Train the supernet, from its last checkpoint.")
_stage_command("search", "Measure sub-networks until the budget is spent.")


@app.command("report")
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(help="A run's folder, or its YAML file; several are compared.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(help="The page to write [default: RUN/report.html; of several, report.html]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the fronts as CSV.")] = False,
    settings: Settings = None,
    out: Out = None,
    address: Address = None,
) -> None:
    """Test the front; write pareto.csv, pareto.png and report.html, or compare several runs."""
    from nasbench.cli.tables import fronts_csv, print_summaries

    if len(runs) > 1 and out is not None:
        raise RequestError("--out names the folder of one run; the page of several is --html")
    if as_json and as_csv:
        raise RequestError("give --json or --csv, not both")
    opened = [open_run(path, settings, out, address) for path in runs]
    for run in opened:
        run.check_folder()
        if not run.is_done("report"):
            _execute(run, ("report",), is_silent=as_json or as_csv)
    from nasbench.experiment.html_report import summarize, write_html_report

    page = html or (opened[0].page if len(opened) == 1 else Path("report.html"))
    write_html_report(opened, page)
    summaries = summarize(opened)
    if as_json:
        typer.echo(json.dumps(summaries, indent=2))
    elif as_csv:
        typer.echo(fronts_csv(summaries), nl=False)
    else:
        print_summaries(summaries, page)


@app.command("export")
def export_command(
    run: ConfigOrRun,
    where: Annotated[
        str, typer.Option(help='The best that respects this: "latency <= 3 ms and macs <= 1M"')
    ] = "",
    pick: Annotated[
        str | None,
        typer.Option(help="knee, best, or an architecture's id; of --nested, a member's number."),
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="Choose among the members of the run's bundle.")
    ] = False,
    settings: Settings = None,
    out: Out = None,
) -> None:
    """Write the chosen sub-network for every target, verified."""
    from nasbench.cli.progress import shown_progress
    from nasbench.experiment.nesting import export_member
    from nasbench.experiment.stages import export

    if where and pick:
        raise RequestError("give --where or --pick, not both")
    if nested:
        opened = open_run(run, settings, out, None)
        opened.check_folder()
        with stoppable(), opened.exclusive(), shown_progress() as progress:
            export_member(opened, progress, where=where, pick=pick or "")
        return
    opened = open_run(
        run, [*(settings or []), *([f"export.pick={pick}"] if pick else [])], out, None
    )
    opened.check_folder()
    opened.check_stages(["export"])
    with stoppable(), opened.exclusive(), shown_progress() as progress:
        export(opened, progress, where=where)


@app.command("nest")
def nest_command(
    run: ConfigOrRun,
    members: Annotated[
        int | None,
        typer.Option(help="How many [default: 16, or the chain that the run was trained on]."),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the supernet further on the chain first.")
    ] = False,
    settings: Settings = None,
    out: Out = None,
) -> None:
    """Make one file that holds a network for every budget: nested sub-networks, measured."""
    from nasbench.cli.progress import shown_progress
    from nasbench.cli.tables import print_ladder
    from nasbench.experiment.nesting import nest

    overrides = [
        *(settings or []),
        *([f"nest.num_members={members}"] if members is not None else []),
        *(["nest.finetune=true"] if finetune else []),
    ]
    opened = open_run(run, overrides, out, None)
    opened.check_folder()
    opened.check_stages(["train"])
    if not opened.folder.exists():
        raise RequestError(f"'{opened.folder}' is not trained; run: nasbench train")
    with stoppable(), opened.exclusive(), shown_progress() as progress:
        model = nest(opened, progress)
    print_ladder(opened, model)


@app.command("infer")
def infer_command(
    export: Annotated[Path, typer.Argument(help="The folder of an export: RUN/export/ID.")],
    sample: Annotated[Path, typer.Option("--input", help="An image file.")],
    target: Annotated[
        str | None, typer.Option(help="The file to run, onnx or pt2 [default: onnx where it is].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every class as JSON.")] = False,
) -> None:
    """Run an exported file, in its own runtime, on a sample of yours."""
    from nasbench.cli.tables import print_classes
    from nasbench.experiment.inference import classify

    found = classify(export, sample, target)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        print_classes(found)


@app.command("list")
def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="supernets, algorithms, predictors, tasks, tables, strategies, engines or targets"
        ),
    ] = None,
) -> None:
    """What there is to choose from."""
    print_catalogue(kind)


@app.command("profile")
def profile_command(
    config: Annotated[
        str, typer.Argument(help="A YAML file, a run's folder, or a supernet family's name.")
    ],
    settings: Settings = None,
) -> None:
    """What a space holds, before any training; of a family, all its presets."""
    from nasbench.experiment.profile import profile_family, profile_run
    from nasbench.supernet import SUPERNETS

    if config in SUPERNETS:
        print_presets(profile_family(config))
    else:
        print_profile(profile_run(load(Path(config), settings or [])))


@app.command("predictors")
def predictors_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run with completed trials.")],
    predictors: Annotated[
        list[str] | None, typer.Option("--predictor", help="One to judge; may be repeated.")
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Of these instead of the objectives.")
    ] = None,
    sizes: Annotated[
        list[int] | None, typer.Option("--size", help="Learn from so many trials; repeatable.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="Report tau within the choices of this dimension, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; draw nothing.")] = False,
) -> None:
    """Judge predictors on a run's trials by cross-validation; draw what they predict."""
    from nasbench.cli.tables import predictors_json, print_predictors
    from nasbench.experiment.prediction import (
        DEFAULT_PREDICTORS,
        assess_predictors,
        keep_reports,
    )

    opened = load_run(run)
    reports = assess_predictors(
        opened,
        metrics=metrics or (),
        predictors=predictors or DEFAULT_PREDICTORS,
        sizes=sizes or (),
        stratify_by=within,
    )
    if as_json:
        typer.echo(predictors_json(reports))
    else:
        print_predictors(reports, keep_reports(opened, reports))


def _do(run: Run, stages: Sequence[str]) -> None:
    """Check the request, do what is not done, and say what came of it."""
    run.check_folder()
    run.check_stages(stages)
    if all(run.is_done(stage) for stage in stages):
        typer.echo(f"'{run.folder}' is finished ({', '.join(stages)}); nothing to do.")
    else:
        _execute(run, stages)
    if run.is_finished:
        print_outcome(run)


def _execute(run: Run, stages: Sequence[str], *, is_silent: bool = False) -> None:
    """Check the request and do what is not done."""
    with stoppable():
        from nasbench.cli.progress import shown_progress
        from nasbench.experiment.checks import check
        from nasbench.experiment.progress import SILENT
        from nasbench.experiment.stages import execute

        check(run)
        with nullcontext(SILENT) if is_silent else shown_progress() as progress:
            execute(run, stages, progress)


def main() -> None:
    """Entry point of the console script."""
    sys.path.insert(0, str(Path.cwd()))  # plug-ins named module:object lie where the user works
    try:
        app()
    except NasbenchError as error:
        typer.echo(without_passwords(f"nasbench: {error}"), err=True)
        codes = {RequestError: 2, StoppedError: 130}
        sys.exit(next((code for kind, code in codes.items() if isinstance(error, kind)), 1))
    except OSError as error:  # a full disk, a folder that went away
        typer.echo(f"nasbench: {error}; what is finished is kept", err=True)
        sys.exit(1)
