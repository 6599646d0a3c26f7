"""`nasbench sweep`: many runs, a table of where they are, and what came of them."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Address, Settings, stoppable
from nasbench.cli.output import Result, of_sweep, prints_table
from nasbench.errors import WorkError

if TYPE_CHECKING:
    from nasbench.experiment.sweep import Outcome
    from nasbench.experiment.sweep.sweep import Status

_MAX_RUNNING = 24  # rows of the table while members are done
_LINE_EVERY_S = 15.0


@prints_table
def sweep_command(
    config: Annotated[Path, typer.Argument(help="The YAML file of a sweep.")],
    settings: Settings = None,
    out: Annotated[
        str | None,
        typer.Option(help="The sweep's folder, or an fsspec URL [default: runs/NAME]."),
    ] = None,
    address: Address = None,
) -> Result:
    """Do many runs on Ray Tune; again = carry on. One table and one figure at the end."""
    with stoppable():
        from nasbench.experiment.sweep import (
            Place,
            check_sweep,
            conclude,
            execute_sweep,
            load_sweep,
            read_statuses,
        )

        sweep = load_sweep(config, settings or [])
        location = out or str(Path("runs") / sweep.config.name)
        place = Place.of(location, on_cluster=address is not None)
        check_sweep(sweep, place, address)
        statuses = read_statuses(sweep, place)
        if all(status.is_final for status in statuses.values()):
            typer.echo(f"'{place}' is finished ({len(statuses)} members); nothing to do.")
        else:
            with shown_members(statuses) as show:
                statuses = execute_sweep(sweep, place, address, show)
        outcome = conclude(sweep, place, statuses)

    def show_outcome() -> None:
        print_outcome(sweep.config.name, outcome, str(place))
        _check_failed(statuses)

    return Result(show=show_outcome, find=lambda: of_sweep(outcome))


def _check_failed(statuses: Mapping[str, "Status"]) -> None:
    """Raise WorkError where a member failed."""
    failed = {name: status for name, status in statuses.items() if status.state == "failed"}
    if failed:
        name, status = next(iter(failed.items()))
        raise WorkError(
            f"{len(failed)} of {len(statuses)} members failed, '{name}' with: {status.reason}; the "
            "others are done, and the same command tries those that failed again"
        )


@contextmanager
def shown_members(statuses: Mapping[str, "Status"]) -> Iterator["Any"]:
    """Whatever suits standard output: a table that is redrawn, or a line now and then."""
    table = _Members(statuses)
    if not sys.stdout.isatty():
        yield table.print_line
        return
    with Live(table, refresh_per_second=2, transient=True):
        yield table.update


class _Members:
    """The members under way, and how many wait and are done."""

    def __init__(self, statuses: Mapping[str, "Status"]) -> None:
        self._statuses = dict(statuses)
        self._began: dict[str, float] = {}
        self._last = time.monotonic()

    def update(self, name: str, status: "Status") -> None:
        """Note where a member is."""
        if self._statuses[name].state != status.state:
            self._began[name] = time.monotonic()
        self._statuses[name] = status

    def print_line(self, name: str, status: "Status") -> None:
        """Note where a member is, and print it where that is another state, or long ago."""
        is_other = self._statuses[name].state != status.state
        began = self._began.get(name, time.monotonic())
        self.update(name, status)
        now = time.monotonic()
        if is_other:
            took = f" after {now - began:.0f} s" if status.is_final else ""
            reason = f": {status.reason}" if status.reason else ""
            print(f"{name}: {status.state}{took}{reason} ({self._counts()})")
        elif now - self._last >= _LINE_EVERY_S:
            print(f"{name}: {status.text} ({self._counts()})")
        else:
            return
        self._last = now
        sys.stdout.flush()

    def _counts(self) -> str:
        counts = Counter(status.state for status in self._statuses.values())
        known = ("finished", "stopped", "failed", "running", "waiting")
        return ", ".join(f"{counts[state]} {state}" for state in known if counts[state])

    def __rich__(self) -> Group:
        table = Table()
        for heading in ("member", "for", "stage"):
            table.add_column(heading, justify="right" if heading == "for" else "left")
        running = [name for name, s in self._statuses.items() if s.state == "running"]
        for name in running[:_MAX_RUNNING]:
            seconds = time.monotonic() - self._began[name]
            table.add_row(name, f"{seconds:.0f} s", Text(self._statuses[name].text))
        left_out = len(running) - _MAX_RUNNING
        more = [Text(f"and {left_out} more")] if left_out > 0 else []
        return Group(table, *more, Text(f"{len(self._statuses)} members: {self._counts()}"))


def print_outcome(name: str, outcome: "Outcome", place: str) -> None:
    """One row per member, the reference point, and what was written."""
    from nasbench.cli.tables import spread, table_console
    from nasbench.experiment.sweep import HYPERVOLUME

    best = list(
        dict.fromkeys(key for row in outcome.rows for key in row if key.startswith("best "))
    )
    table = Table(title=f"{escape(name)}: {len(outcome.rows)} members")
    for heading in ("member", "state", "hypervolume", *best, "trials", "seconds"):
        is_left = heading in ("member", "state")
        table.add_column(escape(heading), justify="left" if is_left else "right")
    for row in spread(outcome.rows):
        state = f"{row['state']}: {row['reason']}" if row["reason"] else row["state"]
        numbers = [(HYPERVOLUME, ".4f"), *((key, ".4g") for key in best)]
        numbers += [("num_trials", "d"), ("seconds", ".0f")]
        cells = ["-" if row.get(key) is None else format(row[key], form) for key, form in numbers]
        table.add_row(escape(row["member"]), escape(state), *cells)
    printed = table_console()
    printed.print(table)
    lines = [
        f"hypervolume{f' of {label}' if label else ''}: share of the box up to {reference}"
        for label, reference in outcome.references.items()
    ]
    for line in (*lines, *(f"  {place}/{file}" for file in outcome.files)):
        printed.print(line, highlight=False, markup=False, soft_wrap=True)
