"""Trials in the tables of Optuna's relational storage, written a batch at a time.

Optuna's own operations look every parameter up and count the trials of before, so that the
ten-thousandth costs more than the first; on a server each look-up is a trip over the network. The
same rows are written here in one transaction per batch of proposals and one per finished trial,
and read without the parameters, which the genome repeats. Optuna and its dashboard read them as
their own: a test holds them to that.

A server that restarts is waited for. A transaction whose outcome the break hides is looked up
before it is tried again, so that nothing is there twice.
"""

import json
import random
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState as OptunaState
from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import InterfaceError, OperationalError

from nasbench.store.places import Place
from nasbench.store.records import (
    OWNER,
    Proposal,
    Record,
    Records,
    TrialTakenError,
    check_token,
    other_writer,
)

T = TypeVar("T")

_STUDIES = models.StudyModel.__table__
_STUDY_ATTRIBUTES = models.StudyUserAttributeModel.__table__
_TRIALS = models.TrialModel.__table__
_ATTRIBUTES = models.TrialUserAttributeModel.__table__
_PARAMETERS = models.TrialParamModel.__table__
_VALUES = models.TrialValueModel.__table__

# The server's silence is noticed in a minute; libpq would wait for hours.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class SqlRecords(Records):
    """The trials of one study in SQLite or PostgreSQL.

    Args:
        place: of the database.
        patience_s: how long a server that does not answer is waited for, once it did.
    """

    def __init__(self, place: Place, patience_s: float) -> None:
        self._patience_s = 0.0 if place.kind == "sqlite" else patience_s
        arguments: dict[str, Any] = {}
        if place.kind != "sqlite":
            arguments = {k: v for k, v in _CONNECT.items() if k not in place.url.query}
        url = place.url.render_as_string(hide_password=False)
        self.storage = RDBStorage(url, engine_kwargs={"connect_args": arguments})
        self._engine = self.storage.engine
        weakref.finalize(self, self._engine.dispose)  # closes the connections
        with self._engine.begin() as connection:
            # Optuna sees to the numbers by locks alone; here the database does as well.
            connection.execute(
                text(
                    "CREATE UNIQUE INDEX IF NOT EXISTS nasbench_trial_number "
                    "ON trials (study_id, number)"
                )
            )

    def create(
        self, study_id: int, proposals: Sequence[Proposal], first: int, token: str | None
    ) -> list[int]:
        """See `Records`."""

        def attempt(connection: Connection, is_retry: bool) -> list[int]:
            self._lock(connection, study_id, token)
            last = connection.scalar(
                select(func.max(_TRIALS.c.number)).where(_TRIALS.c.study_id == study_id)
            )
            num_found = 0 if last is None else last + 1
            if num_found == first:
                _insert_trials(connection, study_id, len(proposals), first)
            elif not (is_retry and num_found == first + len(proposals)):
                raise other_writer()
            rows = connection.execute(
                select(_TRIALS.c.trial_id)
                .where(_TRIALS.c.study_id == study_id, _TRIALS.c.number >= first)
                .order_by(_TRIALS.c.number)
            )
            ids = list(rows.scalars())
            if num_found == first:
                _insert_parts(connection, ids, proposals)
            return ids

        return self._persistently(attempt)

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

        def attempt(connection: Connection, is_retry: bool) -> None:
            self._lock(connection, study_id, token)
            done = connection.execute(
                update(_TRIALS)
                .where(_TRIALS.c.trial_id == trial_id, _TRIALS.c.state == OptunaState.RUNNING)
                .values(state=state, datetime_complete=_now())
            )
            if done.rowcount != 1:
                if is_retry and _has(connection, trial_id, attributes):
                    return  # the attempt before was heard, its answer lost
                raise TrialTakenError
            if values is not None:
                connection.execute(
                    insert(_VALUES),
                    [_value(trial_id, column, value) for column, value in enumerate(values)],
                )
            connection.execute(insert(_ATTRIBUTES), _attributes(trial_id, attributes))

        self._persistently(attempt)

    def read(self, study_id: int) -> list[Record]:
        """See `Records`."""

        def attempt(connection: Connection, _: bool) -> list[Record]:
            of_study = _TRIALS.c.study_id == study_id
            # First the states: what a finished trial needs is committed together with its state.
            rows = connection.execute(
                select(_TRIALS.c.trial_id, _TRIALS.c.number, _TRIALS.c.state)
                .where(of_study)
                .order_by(_TRIALS.c.number)
            ).all()
            attributes: dict[int, dict[str, Any]] = defaultdict(dict)
            for trial_id, key, value in connection.execute(
                select(_ATTRIBUTES.c.trial_id, _ATTRIBUTES.c.key, _ATTRIBUTES.c.value_json)
                .join(_TRIALS, _TRIALS.c.trial_id == _ATTRIBUTES.c.trial_id)
                .where(of_study)
            ):
                attributes[trial_id][key] = json.loads(value)
            return [Record(i, number, state, attributes[i]) for i, number, state in rows]

        return self._persistently(attempt)

    def hand_over(self, study_id: int, owner: Mapping[str, Any]) -> None:
        """See `Records`."""

        def attempt(connection: Connection, _: bool) -> None:
            self._lock(connection, study_id, None)
            row = {"study_id": study_id, "key": OWNER}
            connection.execute(delete(_STUDY_ATTRIBUTES).filter_by(**row))
            connection.execute(
                insert(_STUDY_ATTRIBUTES), [{**row, "value_json": json.dumps(owner)}]
            )

        self._persistently(attempt)

    def _lock(self, connection: Connection, study_id: int, token: str | None) -> None:
        """Be the only writer of the study until the transaction ends, and allowed to."""
        connection.execute(
            select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id).with_for_update()
        )
        owner = connection.scalar(
            select(_STUDY_ATTRIBUTES.c.value_json).where(
                _STUDY_ATTRIBUTES.c.study_id == study_id, _STUDY_ATTRIBUTES.c.key == OWNER
            )
        )
        check_token({} if owner is None else {OWNER: json.loads(owner)}, token)

    def _persistently(self, attempt: Callable[[Connection, bool], T]) -> T:
        """One transaction; tried again, for a while, where the server went away."""
        deadline = time.monotonic() + self._patience_s
        pause_s, is_retry = 0.1, False
        while True:
            try:
                with self._engine.begin() as connection:
                    return attempt(connection, is_retry)
            except (OperationalError, InterfaceError):
                if time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1))
            pause_s, is_retry = min(2 * pause_s, 5.0), True


def _insert_trials(connection: Connection, study_id: int, count: int, first: int) -> None:
    row = {"study_id": study_id, "state": OptunaState.RUNNING, "datetime_start": _now()}
    numbers = range(first, first + count)
    connection.execute(insert(_TRIALS), [{**row, "number": number} for number in numbers])


def _insert_parts(
    connection: Connection, ids: Sequence[int], proposals: Sequence[Proposal]
) -> None:
    """What stands in other tables of new trials."""
    described: dict[str, str] = {}
    parameters, attributes = [], []
    for trial_id, proposal in zip(ids, proposals, strict=True):
        for name, index in proposal.indices.items():
            if name not in described:
                described[name] = distribution_to_json(proposal.distributions[name])
            parameters.append(
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": index,
                    "distribution_json": described[name],
                }
            )
        attributes += _attributes(trial_id, proposal.attributes)
    connection.execute(insert(_PARAMETERS), parameters)
    connection.execute(insert(_ATTRIBUTES), attributes)


def _attributes(trial_id: int, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]


def _has(connection: Connection, trial_id: int, attributes: Mapping[str, Any]) -> bool:
    """Whether a finished trial is the one that this process wrote."""
    rows = connection.execute(
        select(_ATTRIBUTES.c.key, _ATTRIBUTES.c.value_json).where(
            _ATTRIBUTES.c.trial_id == trial_id
        )
    )
    found = {row.key: row.value_json for row in rows}
    return all(found.get(key) == json.dumps(value) for key, value in attributes.items())


def _value(trial_id: int, objective: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}


def _now() -> datetime:
    """As Optuna's tables keep it: UTC without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)
