"""How trials are kept beside or in an Optuna storage: in memory, or as the lines of a log file.

A storage of Optuna's commits every attribute of a trial by itself. Here a batch of proposals is one
commit, and so is a finished trial: it is there with all its numbers, or not at all.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from nasbench.errors import RequestError, WorkError

_LOCK_PATIENCE_S = 10  # after which the lock of a killed process is broken


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new trial as it is kept.

    Args:
        choices: the active dimensions' choices.
        indices: their positions among the dimensions' choices.
        distributions: of all dimensions, as Optuna calls them.
        attributes: the trial's.
    """

    choices: Mapping[str, Any]
    indices: Mapping[str, int]
    distributions: Mapping[str, CategoricalDistribution]
    attributes: Mapping[str, Any]

    def to_optuna(self) -> FrozenTrial:
        """As a running trial without a number."""
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=OptunaState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(self.choices),
            distributions={name: self.distributions[name] for name in self.choices},
            user_attrs=dict(self.attributes),
            system_attrs={},
            intermediate_values={},
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A trial as it is kept: what Optuna knows of it, less the parameters."""

    trial_id: int
    number: int
    state: OptunaState
    attributes: Mapping[str, Any]


class TrialTakenError(Exception):
    """A trial was finished before."""


OWNER = "nasbench_owner"
"""The attribute of a study that names the process which may write to it."""


def check_token(attributes: Mapping[str, Any], token: str | None) -> None:
    """WorkError where another process has taken the study over.

    Args:
        attributes: the study's.
        token: of the lease that this process holds; None where it holds none.
    """
    owner = attributes.get(OWNER)
    if token is not None and (owner is None or owner["token"] != token):
        where = "another process" if owner is None else f"process {owner['process']}"
        machine = "" if owner is None else f" on {owner['host']}"
        raise WorkError(
            f"{where}{machine} has taken this search over, as this one was silent for too long; "
            "it goes on there"
        )


def other_writer() -> RequestError:
    """The error for trials that appear while this process writes."""
    return RequestError("trials were added by others; a store is for one search alone")


class Records(ABC):
    """The trials of one study in one storage.

    Attributes:
        storage: Optuna's, which the dashboard opens as well.
    """

    storage: BaseStorage

    @abstractmethod
    def create(
        self, study_id: int, proposals: Sequence[Proposal], first: int, token: str | None
    ) -> list[int]:
        """Commit new trials together.

        Args:
            first: the number of the first of them.
            token: of the lease that allows it; None where nobody holds one.

        Returns:
            Their ids, in order.
        """

    @abstractmethod
    def finish(
        self,
        study_id: int,
        trial_id: int,
        state: OptunaState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        token: str | None,
    ) -> None:
        """Commit a trial's end, with all that belongs to it.

        Raises:
            TrialTakenError: if it was finished before.
        """

    @abstractmethod
    def read(self, study_id: int) -> list[Record]:
        """All trials, in the order of their numbers."""

    def hand_over(self, study_id: int, owner: Mapping[str, Any]) -> None:
        """Commit who may write from now on; what others write later is refused."""
        self.storage.set_study_user_attr(study_id, OWNER, dict(owner))

    def mend(self) -> None:
        """Remove what a process left that was killed while it wrote; nobody else writes now."""
        return


class MemoryRecords(Records):
    """Kept as long as the process lives.

    Optuna keeps what belongs to the study only: its own trials in memory would have a copy of every
    dimension's choices each, which are 18 KiB in a space of 45.
    """

    def __init__(self) -> None:
        self.storage = InMemoryStorage()
        self._trials: list[Record] = []

    def create(
        self, study_id: int, proposals: Sequence[Proposal], first: int, token: str | None
    ) -> list[int]:
        """See `Records`."""
        check_token(self.storage.get_study_user_attrs(study_id), token)
        if len(self._trials) != first:
            raise other_writer()
        ids = list(range(first, first + len(proposals)))
        self._trials += [
            Record(number, number, OptunaState.RUNNING, dict(proposal.attributes))
            for number, proposal in zip(ids, proposals, strict=True)
        ]
        return ids

    def finish(
        self,
        study_id: int,
        trial_id: int,
        state: OptunaState,
        values: Sequence[float] | None,  # noqa: ARG002 - the attributes have them, too
        attributes: Mapping[str, Any],
        token: str | None,
    ) -> None:
        """See `Records`."""
        check_token(self.storage.get_study_user_attrs(study_id), token)
        known = self._trials[trial_id]
        if known.state.is_finished():
            raise TrialTakenError
        self._trials[trial_id] = replace(
            known, state=state, attributes={**known.attributes, **attributes}
        )

    def read(self, study_id: int) -> list[Record]:  # noqa: ARG002 - there is one
        """See `Records`."""
        return list(self._trials)


class JournalRecords(Records):
    """Lines of JSON in a file that only grows, safe on file systems that nodes share."""

    def __init__(self, path: Path) -> None:
        self._file = _JournalFile(path)
        self.storage = JournalStorage(self._file)

    def create(
        self, study_id: int, proposals: Sequence[Proposal], first: int, token: str | None
    ) -> list[int]:
        """See `Records`."""
        check_token(self.storage.get_study_user_attrs(study_id), token)
        with self._together():
            ids = [self.storage.create_new_trial(study_id, p.to_optuna()) for p in proposals]
            if self.storage.get_trial_number_from_id(ids[0]) != first:
                raise other_writer()
        return ids

    def finish(
        self,
        study_id: int,
        trial_id: int,
        state: OptunaState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        token: str | None,
    ) -> None:
        """See `Records`."""
        check_token(self.storage.get_study_user_attrs(study_id), token)
        if self.storage.get_trial(trial_id).state.is_finished():
            raise TrialTakenError
        with self._together():
            for key, value in attributes.items():
                self.storage.set_trial_user_attr(trial_id, key, value)
            self.storage.set_trial_state_values(trial_id, state, values)

    def read(self, study_id: int) -> list[Record]:
        """See `Records`."""
        found = self.storage.get_all_trials(study_id, deepcopy=False)
        return [Record(t._trial_id, t.number, t.state, t.user_attrs) for t in found]

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Make one commit of Optuna's operations."""
        try:
            with self._file.together():
                yield
        except BaseException:
            self.storage = JournalStorage(self._file)  # which knew of lines that are not written
            raise
        if self._file.was_overtaken:
            self.storage = JournalStorage(self._file)

    def mend(self) -> None:
        """See `Records`: a line that was not written to its end."""
        self._file.mend()


class _JournalFile(BaseJournalBackend):  # type: ignore[misc]
    """Optuna's log file, which can write several lines at once; for one thread at a time.

    Attributes:
        was_overtaken: whether others (the dashboard) wrote between the lines written last and the
            moment in which they were collected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lock = JournalFileOpenLock(str(path), grace_period=_LOCK_PATIENCE_S)
        self._file = JournalFileBackend(str(path), lock_obj=lock)
        self._waiting: list[dict[str, Any]] | None = None
        self._num_written: int | None = None  # lines of the file, once lines wait
        self.was_overtaken = False

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from a number on, those included that wait to be written."""
        if self._waiting is None:
            yield from self._file.read_logs(log_number_from)
            return
        if self._num_written is None:
            lines = list(self._file.read_logs(log_number_from))
            self._num_written = log_number_from + len(lines)
            yield from lines
        yield from self._waiting[max(0, log_number_from - self._num_written) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines, or keep them where several are collected."""
        if self._waiting is not None:
            self._waiting += logs
            return
        size = self._path.stat().st_size
        try:
            self._file.append_logs(logs)
        except OSError:  # a full disk takes half a line
            os.truncate(self._path, size)
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what the block appends at its end, as one; nothing of it where the block fails."""
        waiting = self._collect()
        size = self._path.stat().st_size
        try:
            yield
        finally:
            self._waiting = None
        self.was_overtaken = self._path.stat().st_size != size
        self.append_logs(waiting)
        if self._num_written is not None:
            for _ in self._file.read_logs(self._num_written):
                pass  # Optuna's file finds later lines by those that it has read

    def _collect(self) -> list[dict[str, Any]]:
        waiting: list[dict[str, Any]] = []
        self._waiting, self._num_written = waiting, None
        return waiting

    def mend(self) -> None:
        """Cut off a last line that does not end."""
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(self._path, end)
