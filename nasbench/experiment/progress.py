"""How stages tell whoever is watching what they are doing."""

from typing import Protocol


class Progress(Protocol):
    """Receives what happens during a run; shows it or not."""

    def start(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` equal parts begins, of which `done` were done before."""

    def advance(self, text: str) -> None:
        """One more part is done; the text says what came of it."""

    def looked(self, epoch: int, quality: float) -> None:
        """Training has looked at sub-networks; larger is better. It may be ended by this call."""


class Silent:
    """Shows nothing."""

    def start(self, stage: str, total: int, done: int) -> None:
        """Nothing."""

    def advance(self, text: str) -> None:
        """Nothing."""

    def looked(self, epoch: int, quality: float) -> None:
        """Nothing."""


SILENT = Silent()
