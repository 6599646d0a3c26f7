"""Progress of a run: a live bar where there is a terminal, plain lines where there is none."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress as bars
from rich.console import Console

from nasbench.experiment.progress import Progress

_LINE_EVERY_S = 5.0
_LINE_EVERY_SHARE = 0.02  # of the time so far: long work prints about fifty lines for each tenfold


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
        bars.TimeRemainingColumn(elapsed_when_finished=False),
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

    def looked(self, epoch: int, quality: float) -> None:
        """Nothing; the text of the step has it."""


class PlainLines:
    """A line when a stage begins and ends, and every few seconds between."""

    def __init__(self) -> None:
        self._stage, self._total, self._done, self._last = "", 0, 0, 0.0
        self._started, self._done_before = 0.0, 0

    def start(self, stage: str, total: int, done: int) -> None:
        """Print how much there is to do."""
        self._stage, self._total, self._done = stage, total, done
        self._last = self._started = time.monotonic()
        self._done_before = done
        print(f"{stage}: {done} of {total} done before" if done else f"{stage}: {total} to do")

    def advance(self, text: str) -> None:
        """Print where things are, if the last line is long ago or this is the end."""
        self._done += 1
        now = time.monotonic()
        elapsed = now - self._started
        pause = max(_LINE_EVERY_S, _LINE_EVERY_SHARE * elapsed)
        if self._done == self._total or now - self._last >= pause:
            print(f"{self._stage}: {self._done} of {self._total}, {text}{self._left(elapsed)}")
            sys.stdout.flush()
            self._last = now

    def looked(self, epoch: int, quality: float) -> None:
        """Nothing; the text of the step has it."""

    def _left(self, elapsed: float) -> str:
        """How long the rest takes at the pace so far; nothing where that is under a minute."""
        left = elapsed / (self._done - self._done_before) * (self._total - self._done)
        if left < 60:
            return ""
        hours, minutes = divmod(round(left / 60), 60)
        return f" (about {f'{hours} h ' if hours else ''}{minutes} min left)"
