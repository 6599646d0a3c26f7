"""Commands that ship a network: write it for its targets, and try what was written."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nasbench.cli.options import ConfigOrRun, Out, Settings, open_run, stoppable
from nasbench.cli.output import Found, Result, of_export, of_inference, prints_table
from nasbench.errors import RequestError


@prints_table
def export_command(
    run: ConfigOrRun,
    where: Annotated[
        str, typer.Option(help='The best that respects this: "latency <= 3 ms and macs <= 1M"')
    ] = "",
    pick: Annotated[
        str | None,
        typer.Option(
            help="knee, best, most-accurate, fastest, or an architecture's id; of --nested, a "
            "member's number."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Choose by predicted_latency_ms of this device, which the run knows from: "
            "nasbench lut build, or device fit; of --nested, by what was measured on it."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="A target instead of those of the YAML; repeatable. See: nasbench list"),
    ] = None,
    finetune: Annotated[
        int | None, typer.Option(help="Train the network alone first, for so many epochs.")
    ] = None,
    retrain: Annotated[
        int | None, typer.Option(help="The same from fresh weights, for so many epochs.")
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="Choose among the members of the run's bundle.")
    ] = False,
    settings: Settings = None,
    out: Out = None,
) -> Result:
    """Write the chosen sub-network for every target: verified, tested and timed in its runtime."""
    from nasbench.cli.progress import shown_progress
    from nasbench.cli.tables import print_export
    from nasbench.experiment.exporting import export, export_member

    if where and pick:
        raise RequestError("give --where or --pick, not both")
    overrides = [
        *(settings or []),
        *([f"export.pick={pick}"] if pick and not nested else []),
        *([f"export.targets=[{','.join(target)}]"] if target else []),
        *([f"export.finetune={finetune}"] if finetune is not None else []),
        *([f"export.retrain={retrain}"] if retrain is not None else []),
    ]
    opened = open_run(run, overrides, out, None)
    opened.check_folder()
    if not nested:
        opened.check_stages(["export"])
    with stoppable(), opened.exclusive(), shown_progress() as progress:
        if nested:
            folder = export_member(opened, progress, where=where, pick=pick or "", device=device)
        else:
            done = export(opened, progress, where=where, device=device)
            folder = opened.folder / "export" / done["architecture_id"]
    if not opened.config.export.targets:
        return Result(show=lambda: None, find=lambda: Found({}, []))
    manifest = json.loads((folder / "manifest.json").read_text())
    return Result(show=lambda: print_export(manifest, folder), find=lambda: of_export(manifest))


@prints_table
def infer_command(
    export: Annotated[Path, typer.Argument(help="The folder of an export: RUN/export/ID.")],
    sample: Annotated[
        str,
        typer.Option("--input", help="An image file; or a text, for a network that reads text."),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="What to run, one of the export's targets [default: onnx where it is]."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="That a language model writes.")] = 64,
) -> Result:
    """Run an exported file, in its own runtime, on a sample of yours."""
    from nasbench.cli.tables import print_classes
    from nasbench.experiment.inference import infer

    found = infer(export, sample, target, max_new_tokens=max_new_tokens)

    def show() -> None:
        if isinstance(found, str):
            typer.echo(found)
        else:
            print_classes(found)

    return Result(show=show, find=lambda: of_inference(found))
