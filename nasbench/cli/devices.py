"""Commands that take a clock: measure a network, and get to know a device."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nasbench.cli.options import Address, ConfigOrRun, Out, Settings, open_run, stoppable
from nasbench.cli.output import Result, of_device, of_measured, prints_table
from nasbench.config import LatencyConfig
from nasbench.errors import RequestError
from nasbench.experiment.run import Run

lut = typer.Typer(help="Look-up tables: what each block of a space takes on a device.")
device = typer.Typer(help="Devices: a predictor of latency from a few dozen measured networks.")

Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Its name. With --address the Ray node that offers device:NAME, else this machine.",
    ),
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="An inference engine; see: nasbench list engines")
]
Threads = Annotated[int, typer.Option(help="Threads that one forward pass may use.")]
BatchSize = Annotated[int, typer.Option(help="Samples of one forward pass.")]
SequenceLength = Annotated[
    int | None, typer.Option(help="Tokens of each sample, for networks that read tokens.")
]
Precision = Annotated[
    float, typer.Option(help="Stop when the median is known to within this share of it.")
]
Repeats = Annotated[int, typer.Option(help="Timed forward passes, at most.")]
Tests = Annotated[int, typer.Option("--test", help="Networks that the result is judged by.")]
PredictorName = Annotated[
    str | None, typer.Option("--predictor", help="What to fit [default: gp; transfer with --from].")
]
Prior = Annotated[
    str | None,
    typer.Option("--from", help="A device of this run, or its file, of which this one is like."),
]


@prints_table
def measure_command(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Files (.onnx, .pt2, .pte, .xml), folders of exports; a run and ids of its "
            "networks; or a bundle of nested sub-networks (RUN/nest)."
        ),
    ],
    engine: EngineName = None,
    threads: Threads = 1,
    batch_size: BatchSize = 1,
    sequence_length: SequenceLength = None,
    precision: Precision = 0.02,
    repeats: Repeats = 2000,
    record: Annotated[
        bool,
        typer.Option("--record", help="Add a bundle's latencies to it, as those of this device."),
    ] = False,
) -> Result:
    """Latency, peak memory and energy of networks on this machine."""
    from nasbench.cli.tables import print_measured
    from nasbench.experiment.measuring import measure_bundle, measure_files, measure_members
    from nasbench.hardware import ENGINES
    from nasbench.supernet.nested import is_bundle

    if engine is not None:
        ENGINES.check(engine)
    protocol = _protocol(threads, batch_size, sequence_length, precision, repeats)
    folder = Path(models[0])
    is_of_bundle = len(models) == 1 and is_bundle(folder)
    if record and not is_of_bundle:
        raise RequestError(
            f"--record adds latencies to one bundle (RUN/nest), but '{' '.join(models)}' is none"
        )
    with stoppable():
        if is_of_bundle:
            measured = measure_bundle(folder, engine, protocol, is_recorded=record)
        elif (folder / "config.yaml").is_file():
            measured = measure_members(folder, models[1:], engine, protocol)
        else:
            measured = measure_files([Path(model) for model in models], engine, protocol)
    recorded_in = folder if record else None
    return Result(
        show=lambda: print_measured(measured, recorded_in), find=lambda: of_measured(measured)
    )


@lut.command("build")
@prints_table
def build_command(
    run: ConfigOrRun,
    name: Device,
    samples: Annotated[int, typer.Option(help="Whole networks to fit the line to.")] = 10,
    tests: Tests = 20,
    engine: EngineName = None,
    threads: Threads = 1,
    batch_size: BatchSize = 1,
    precision: Precision = 0.02,
    repeats: Repeats = 2000,
    settings: Settings = None,
    out: Out = None,
    address: Address = None,
) -> Result:
    """Measure each distinct block of the run's space once; again = carry on."""
    from nasbench.cli.progress import shown_progress
    from nasbench.experiment.devices import build_lookup_table

    opened = open_run(run, settings, out, address)
    protocol = _protocol(threads, batch_size, None, precision, repeats)
    request = _request(opened, name, engine, protocol)
    with stoppable(), shown_progress() as progress:
        path = build_lookup_table(request, num_fitted=samples, num_tested=tests, progress=progress)
    return _known(path)


@device.command("fit")
@prints_table
def fit_command(
    run: ConfigOrRun,
    name: Device,
    samples: Annotated[
        int | None, typer.Option(help="Networks to learn from [default: 50; 20 with --from].")
    ] = None,
    tests: Tests = 20,
    predictor: PredictorName = None,
    prior: Prior = None,
    engine: EngineName = None,
    threads: Threads = 1,
    batch_size: BatchSize = 1,
    sequence_length: SequenceLength = None,
    precision: Precision = 0.02,
    repeats: Repeats = 2000,
    settings: Settings = None,
    out: Out = None,
    address: Address = None,
) -> Result:
    """Measure networks of the run's space, fit a predictor, judge it on others."""
    from nasbench.cli.progress import shown_progress
    from nasbench.experiment.devices import fit_device

    opened = open_run(run, settings, out, address)
    protocol = _protocol(threads, batch_size, sequence_length, precision, repeats)
    request = _request(opened, name, engine, protocol)
    with stoppable(), shown_progress() as progress:
        path = fit_device(
            request,
            num_samples=samples or (20 if prior else 50),
            num_tested=tests,
            predictor=predictor,
            prior=_prior(opened, prior),
            progress=progress,
        )
    return _known(path)


@device.command("prepare")
def prepare_command(
    run: ConfigOrRun,
    to: Annotated[Path, typer.Option("--to", help="A new folder for the files.")],
    samples: Annotated[int, typer.Option(help="Networks to learn from.")] = 50,
    tests: Tests = 20,
    engine: EngineName = None,
    batch_size: BatchSize = 1,
    sequence_length: SequenceLength = None,
    settings: Settings = None,
) -> None:
    """Write networks as files, for a device that Ray does not reach."""
    from nasbench.experiment.devices import prepare_networks

    opened = open_run(run, settings, None, None)
    protocol = _protocol(1, batch_size, sequence_length, 0.02, 2000)
    request = _request(opened, "elsewhere", engine, protocol)
    with stoppable():
        folders = prepare_networks(request, to, num_samples=samples, num_tested=tests)
    typer.echo(f"{len(folders)} networks in '{to}'. On the device, which needs nasbench:")
    sizes = f" --batch-size {batch_size}" if batch_size != 1 else ""
    typer.echo(f"  nasbench measure {to}/*{sizes} --json > device.json")
    typer.echo(f"and here: nasbench device import {run} device.json --device NAME")


@device.command("import")
@prints_table
def import_command(
    run: ConfigOrRun,
    file: Annotated[Path, typer.Argument(help="What `nasbench measure --json` printed there.")],
    name: Device,
    predictor: PredictorName = None,
    prior: Prior = None,
    settings: Settings = None,
    out: Out = None,
) -> Result:
    """Read what was measured on a device, fit a predictor, judge it."""
    from nasbench.experiment.devices import import_networks

    opened = open_run(run, settings, out, None)
    _check_name(name)
    opened.check_folder()
    with stoppable():
        path = import_networks(opened, file, name, predictor=predictor, prior=_prior(opened, prior))
    return _known(path)


def _protocol(
    threads: int, batch_size: int, sequence_length: int | None, precision: float, repeats: int
) -> Any:
    from dataclasses import replace

    from nasbench.hardware import CAREFUL

    return replace(
        CAREFUL,
        num_threads=threads,
        batch_size=batch_size,
        sequence_length=sequence_length,
        precision=precision,
        num_repeats=repeats,
    )


def _request(run: Run, name: str, engine: str | None, protocol: Any) -> Any:
    from nasbench.experiment.devices import DeviceRequest
    from nasbench.hardware import ENGINES

    _check_name(name)
    run.check_folder()
    engine = engine or run.config.latency.engine
    ENGINES.check(engine)
    return DeviceRequest(run, name, engine, protocol)


def _check_name(name: str) -> None:
    try:
        LatencyConfig(device=name)
    except ValueError:
        raise RequestError(
            f"'{name}' is no name for a device; it has letters, digits, '.', '_' and '-'"
        ) from None


def _prior(run: Run, name: str | None) -> Path | None:
    """The file of another device: given as such, or found in the run."""
    from nasbench.experiment.device_files import find_device_file

    return None if name is None else find_device_file(run.devices, name)


def _known(path: Path) -> Result:
    """What the file of a device says."""
    from nasbench.cli.tables import print_device
    from nasbench.experiment.device_files import read_device_file

    file = read_device_file(path)
    return Result(show=lambda: print_device(path, file), find=lambda: of_device(path, file))
