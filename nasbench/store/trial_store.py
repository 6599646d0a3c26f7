"""What a search sees of its trials: proposed, finished, and there again after any kill.

A batch is committed when it is proposed and each trial again when it is finished, so a killed
search costs the trials in flight and nothing else. Trial numbers are Optuna's: 0, 1, 2, ... in the
order of proposals.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from nasbench.errors import (
    MissingExtraError,
    NasbenchError,
    RequestError,
    WorkError,
    without_passwords,
)
from nasbench.objectives import Objective
from nasbench.space import Architecture, SearchSpace
from nasbench.store.lease import HEARTBEAT, Heartbeat, this_process, wait_until_free
from nasbench.store.places import Place
from nasbench.store.records import (
    OWNER,
    JournalRecords,
    MemoryRecords,
    Proposal,
    Record,
    Records,
    TrialTakenError,
)
from nasbench.store.sql import SqlRecords
from nasbench.trials import Trial, TrialState

_STATES = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.PRUNED: TrialState.FAILED,
}


class TrialStore:
    """The trials of one search.

    Args:
        url: as described in `nasbench.store.places`, or None to keep them in memory only. A
            password is better left to PGPASSWORD or ~/.pgpass; it is never shown.
        space: the search space that the trials belong to.
        objectives: become the study's values, in this order and in their natural sign.
        name: the study's name within the storage.
        fingerprint: what else trials must share to be comparable (the supernet, the data).
        patience_s: how long a server that stops to answer is waited for.
        heartbeat_s: between two signs of life of the process that holds the store; after three
            that are missing, another may take it over.

    Raises:
        RequestError: if the storage holds trials of another space, supernet or objective set, or
            its file lies where SQLite is not safe.
        WorkError: if the storage cannot be opened.
    """

    def __init__(
        self,
        url: str | None,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        name: str = "search",
        fingerprint: str = "",
        patience_s: float = 120.0,
        heartbeat_s: float = 10.0,
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self._heartbeat_s = heartbeat_s
        self._distributions = {d.name: CategoricalDistribution(d.choices) for d in space}
        self._ids: dict[int, int] | None = None  # number -> the storage's id, once read
        self._token: str | None = None
        self._lock = threading.Lock()  # heartbeats come from a thread of their own
        with _readable_errors(is_opening=True):
            self._records = _records(url, patience_s)
            self._study_id = self._open_study(name, fingerprint)

    def _open_study(self, name: str, fingerprint: str) -> int:
        storage = self._records.storage
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            self._records.mend()
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=[objective.direction for objective in self.objectives],
                load_if_exists=True,
            )
        described = {
            "space": self.space.fingerprint,
            "objectives": [f"{o.direction} {o.metric}" for o in self.objectives],
            "fingerprint": fingerprint,
        }
        found = study.user_attrs.get("nasbench")
        if found is None:
            self._records.mend()
            with warnings.catch_warnings():  # names for the dashboard; experimental in Optuna
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([objective.metric for objective in self.objectives])
            study.set_user_attr("nasbench", described)
        elif found != described:
            different = [key for key in described if found.get(key) != described[key]]
            raise RequestError(
                f"the store holds trials of another search (different {', '.join(different)}); "
                "trials of two searches are never mixed, so use another output folder"
            )
        return int(storage.get_study_id_from_name(name))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """During the block this process alone writes; see `nasbench.store.lease`.

        Raises:
            RequestError: if another process that lives does.
        """
        if self._token is not None:
            raise RequestError("this process has claimed the store already")
        owner = this_process()
        wait_until_free(self._attributes, 3 * self._heartbeat_s)
        with self._operation():
            self._records.mend()
            self._records.hand_over(self._study_id, owner)
        self._token = owner["token"]
        try:
            with Heartbeat(self._beat, self._heartbeat_s):
                yield
        finally:
            self._release()

    def _attributes(self) -> Mapping[str, Any]:
        with self._operation():
            found: Mapping[str, Any] = self._records.storage.get_study_user_attrs(self._study_id)
            return found

    def _beat(self, count: int) -> None:
        with self._operation():
            self._records.storage.set_study_user_attr(self._study_id, HEARTBEAT, count)

    def _release(self) -> None:
        token, self._token = self._token, None
        owner = self._attributes().get(OWNER)
        if owner and owner["token"] == token:
            with self._operation():
                self._records.hand_over(self._study_id, {})

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """One operation of the storage at a time, its errors in one sentence."""
        with self._lock, _readable_errors():
            yield

    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        with self._operation():
            found = self._records.read(self._study_id)
        self._ids = {record.number: record.trial_id for record in found}
        return [self._read(record) for record in found]

    def propose(self, architectures: Sequence[Architecture]) -> list[Trial]:
        """Commit new trials, RUNNING, in the given order, all of them or none.

        Raises:
            RequestError: if the store holds trials that this process has not read.
        """
        if not architectures:
            return []
        known = self._known_ids()
        first = len(known)
        proposals = [self._proposal(architecture) for architecture in architectures]
        with self._operation():
            ids = self._records.create(self._study_id, proposals, first, self._token)
        known.update(enumerate(ids, first))
        return [
            Trial(number=number, architecture=architecture, state=TrialState.RUNNING)
            for number, architecture in enumerate(architectures, first)
        ]

    def _known_ids(self) -> dict[int, int]:
        if self._ids is None:
            self.trials()
        assert self._ids is not None, "trials() fills them"
        return self._ids

    def _proposal(self, architecture: Architecture) -> Proposal:
        genome = self.space.to_genome(architecture)
        active = self.space.active(genome[None])[0]
        indices = {
            dimension.name: int(index)
            for dimension, index, is_active in zip(self.space, genome, active, strict=True)
            if is_active
        }
        return Proposal(
            choices={name: architecture[name] for name in indices},
            indices=indices,
            distributions=self._distributions,
            attributes={"genome": genome.tolist(), "architecture_id": architecture.id},
        )

    def finish(self, trial: Trial) -> None:
        """Commit a COMPLETE or FAILED trial that was proposed before.

        Raises:
            RequestError: if the trial is not finished, was finished before, or lacks an objective.
        """
        if not trial.state.is_finished:
            raise RequestError(f"trial {trial.number} is {trial.state} and cannot be finished")
        values, attributes = self._written(trial)
        state = OptunaState.COMPLETE if trial.state is TrialState.COMPLETE else OptunaState.FAIL
        trial_id = self._known_ids()[trial.number]
        try:
            with self._operation():
                self._records.finish(
                    self._study_id, trial_id, state, values, attributes, self._token
                )
        except TrialTakenError:
            raise RequestError(f"trial {trial.number} was finished before") from None

    def _written(self, trial: Trial) -> tuple[list[float] | None, dict[str, Any]]:
        if trial.state is TrialState.FAILED:
            return None, {"error": trial.error}
        missing = [o.metric for o in self.objectives if o.metric not in trial.measurements]
        if missing:
            raise RequestError(f"trial {trial.number} has no value for {', '.join(missing)}")
        attributes: dict[str, Any] = {"measurements": dict(trial.measurements)}
        if trial.provenance:
            attributes["provenance"] = dict(trial.provenance)
        return [trial.measurements[o.metric] for o in self.objectives], attributes

    def _read(self, found: Record) -> Trial:
        attributes = found.attributes
        if "genome" not in attributes:
            raise RequestError(
                f"trial {found.number} was not written by nasbench; a store is for one search alone"
            )
        state = _STATES[found.state]
        is_complete = state is TrialState.COMPLETE
        return Trial(
            number=found.number,
            architecture=self.space.from_genome(attributes["genome"]),
            state=state,
            measurements=attributes["measurements"] if is_complete else {},
            error=attributes.get("error") if state is TrialState.FAILED else None,
            provenance=attributes.get("provenance", {}) if is_complete else {},
        )


def _records(url: str | None, patience_s: float) -> Records:
    if url is None:
        return MemoryRecords()
    place = Place.of(url)
    place.check()
    if place.kind == "journal":
        assert place.path is not None, "a journal is a file"
        return JournalRecords(place.path)
    if place.kind == "postgresql+psycopg":
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise MissingExtraError("psycopg", "postgresql", "a store in PostgreSQL") from None
    return SqlRecords(place, patience_s)


@contextmanager
def _readable_errors(is_opening: bool = False) -> Iterator[None]:
    """Turn what a storage raises into one sentence, in which no password stands."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError, ValueError) as error:
        if isinstance(error, NasbenchError):
            raise
        cause = error.__cause__ or error
        reason = without_passwords(" ".join(str(getattr(cause, "orig", None) or cause).split()))
        if is_opening:
            raise RequestError(f"cannot open the trial store: {reason}") from None
        raise WorkError(
            f"the trial store refused to answer: {reason}; what it had confirmed is kept, and the "
            "same command carries on"
        ) from None
