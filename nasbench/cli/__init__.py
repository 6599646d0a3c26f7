"""The command line: arguments in, progress and one table out, exit codes.

0: done. 1: the work failed. 2: the request was wrong (one sentence, nothing written). 130: stopped
by Ctrl-C; the same command carries on. What is heavy is imported by the command that needs it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nasbench.cli.devices import device, lut, measure_command
from nasbench.cli.exports import export_command, infer_command
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
from nasbench.cli.output import (
    Found,
    Result,
    of_catalogue,
    of_fronts,
    of_ladder,
    of_predictors,
    of_profiles,
    prints_table,
)
from nasbench.cli.sweep import sweep_command
from nasbench.cli.tables import (
    catalogue_of,
    print_catalogue,
    print_outcome,
    print_presets,
    print_profile,
)
from nasbench.errors import NasbenchError, RequestError, without_passwords
from nasbench.experiment.run import Run, load_run

app = typer.Typer(
    help="Train one supernet, search it for the Pareto front, ship the sub-network that fits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("measure")(measure_command)
app.command("sweep")(sweep_command)
app.add_typer(lut, name="lut", no_args_is_help=True)
app.add_typer(device, name="device", no_args_is_help=True)


@app.command("run")
@prints_table
def run_command(
    config: ConfigOrRun, settings: Settings = None, out: Out = None, address: Address = None
) -> Result:
    """Train, search, report and export; again = carry on where it stopped."""
    opened = open_run(config, settings, out, address)
    return _do(opened, opened.stages)


def _stage_command(stage: str, does: str) -> None:
    def command(
        run: ConfigOrRun, settings: Settings = None, out: Out = None, address: Address = None
    ) -> Result:
        return _do(open_run(run, settings, out, address), (stage,))

    command.__doc__ = does
    app.command(stage)(prints_table(command))


_stage_command("train", "Train the supernet, from its last checkpoint.")
_stage_command("search", "Measure sub-networks until the budget is spent.")


@app.command("report")
@prints_table
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(help="A run's folder, or its YAML file; several are compared.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(help="The page to write [default: RUN/report.html; of several, report.html]."),
    ] = None,
    settings: Settings = None,
    out: Out = None,
    address: Address = None,
) -> Result:
    """Test the front; write pareto.csv, pareto.png and report.html, or compare several runs."""
    from nasbench.cli.tables import print_summaries

    if len(runs) > 1 and out is not None:
        raise RequestError("--out names the folder of one run; the page of several is --html")
    opened = [open_run(path, settings, out, address) for path in runs]
    for run in opened:
        run.check_folder()
        if not run.is_done("report"):
            _execute(run, ("report",))
    from nasbench.experiment.html_report import summarize, write_html_report

    page = html or (opened[0].page if len(opened) == 1 else Path("report.html"))
    write_html_report(opened, page)
    summaries = summarize(opened)
    return Result(show=lambda: print_summaries(summaries, page), find=lambda: of_fronts(summaries))


app.command("export")(export_command)
app.command("infer")(infer_command)


@app.command("nest")
@prints_table
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
) -> Result:
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
    return Result(show=lambda: print_ladder(opened, model), find=lambda: of_ladder(model))


@app.command("list")
@prints_table
def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="supernets, algorithms, predictors, tasks, tables, strategies, engines or targets"
        ),
    ] = None,
) -> Result:
    """What there is to choose from."""
    catalogue = catalogue_of(kind)
    return Result(show=lambda: print_catalogue(catalogue), find=lambda: of_catalogue(catalogue))


@app.command("profile")
@prints_table
def profile_command(
    config: Annotated[
        str,
        typer.Argument(
            help="A YAML file, a run's folder, a supernet family's name, or module:function for a "
            "network of your own."
        ),
    ],
    settings: Settings = None,
) -> Result:
    """What a space holds, before any training; of a family, all its presets."""
    from nasbench.experiment.profile import profile_family, profile_run
    from nasbench.supernet import SUPERNETS

    if config in SUPERNETS:
        presets = profile_family(config)
        return Result(show=lambda: print_presets(presets), find=lambda: of_profiles(presets))
    if ":" in config and not Path(config).exists():
        (profile,) = profile_family(config)
    else:
        profile = profile_run(load(Path(config), settings or []))
    return Result(show=lambda: print_profile(profile), find=lambda: of_profiles([profile]))


@app.command("predictors")
@prints_table
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
) -> Result:
    """Judge predictors on a run's trials by cross-validation; draw what they predict."""
    from nasbench.cli.tables import print_predictors
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
    return Result(
        show=lambda: print_predictors(reports, keep_reports(opened, reports)),
        find=lambda: of_predictors(reports),  # and draws nothing
    )


def _do(run: Run, stages: Sequence[str]) -> Result:
    """Check the request, do what is not done, and say what came of it once all of it is."""
    run.check_folder()
    run.check_stages(stages)
    if all(run.is_done(stage) for stage in stages):
        typer.echo(f"'{run.folder}' is finished ({', '.join(stages)}); nothing to do.")
    else:
        _execute(run, stages)

    def show() -> None:
        if run.is_finished:
            print_outcome(run)

    def find() -> Found:
        from nasbench.experiment.html_report import summarize

        return of_fronts(summarize([run]) if run.is_finished else [])

    return Result(show, find)


def _execute(run: Run, stages: Sequence[str]) -> None:
    """Check the request and do what is not done."""
    with stoppable():
        from nasbench.cli.progress import shown_progress
        from nasbench.experiment.checks import check
        from nasbench.experiment.stages import execute

        check(run)
        with shown_progress() as progress:
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
