"""Progress of a run: a live bar where there is a terminal, plain lines where there is none."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress as bars
from rich.console import Console

from nasbench.experiment.progress import Progress

_LINE_EVERY_S = 5.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Whatever suits standard output."""
    if not sys.stdout.isatty():
        yield PlainLines()
        return
    columns = (
        bars.TextColumn("{task.description:>8}"),
        bars.BarColumn(bar_width=28),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[text]}", style="dim", markup=False),
    )
    with bars.Progress(*columns, console=Console()) as display:
        yield Bars(display)


class Bars:
    """One bar per stage."""

    def __init__(self, display: bars.Progress) -> None:
        self._display = display
        self._task = bars.TaskID(0)

    def start(self, stage: str, total: int, done: int) -> None:
        """Add the stage's bar."""
        self._task = self._display.add_task(stage, total=total, completed=done, text="")

    def advance(self, text: str) -> None:
        """Move the bar."""
        self._display.update(self._task, advance=1, text=text)


class PlainLines:
    """A line when a stage begins and ends, and every few seconds between."""

    def __init__(self) -> None:
        self._stage, self._total, self._done, self._last = "", 0, 0, 0.0

    def start(self, stage: str, total: int, done: int) -> None:
        """Print how much there is to do."""
        self._stage, self._total, self._done = stage, total, done
        self._last = time.monotonic()
        print(f"{stage}: {done} of {total} done before" if done else f"{stage}: {total} to do")

    def advance(self, text: str) -> None:
        """Print where things are, if the last line is long ago or this is the end."""
        self._done += 1
        now = time.monotonic()
        if self._done == self._total or now - self._last >= _LINE_EVERY_S:
            print(f"{self._stage}: {self._done} of {self._total}, {text}", flush=True)
            self._last = now
