"""What commands share: the arguments that name a run, and Ctrl-C."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nasbench.config import RunConfig, load_config
from nasbench.errors import NasbenchError
from nasbench.experiment.run import Run, check_code_of_others, load_run

ConfigOrRun = Annotated[Path, typer.Argument(help="A YAML file, or the folder of a run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting of the YAML: search.num_trials=500"),
]
Out = Annotated[Path | None, typer.Option(help="The run's folder [default: runs/NAME].")]
Address = Annotated[
    str | None, typer.Option(help="A Ray cluster to use; the default starts Ray here.")
]


def load(path: Path, settings: Sequence[str]) -> RunConfig:
    """The configuration in a YAML file or a run's folder, with settings replaced."""
    if not path.is_dir():
        return load_config(path, settings)
    config = load_config(path / "config.yaml", settings)
    check_code_of_others(config, path)
    return config


def open_run(path: Path, settings: list[str] | None, out: Path | None, address: str | None) -> Run:
    """The run that the arguments name; nothing is written yet."""
    if path.is_dir() and not (path / "config.yaml").is_file():
        load_run(path)  # says that it is no run
    overrides = [*(settings or []), *([f"resources.address={address}"] if address else [])]
    config = load(path, overrides)
    return Run(out or (path if path.is_dir() else Path("runs") / config.name), config)


class StoppedError(NasbenchError):
    """Somebody pressed Ctrl-C."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C ends the block cleanly; what carries on is the same command."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["nasbench", *sys.argv[1:]])
        raise StoppedError(f"stopped; what is finished is kept. Carry on with: {command}") from None
