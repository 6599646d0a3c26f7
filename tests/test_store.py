"""The trial store over real storages: SQLite and journal files, PostgreSQL, memory."""

from datetime import datetime

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import NullPool

from nasbench.errors import RequestError, WorkError
from nasbench.store import TrialStore
from nasbench.testing.stores import OBJECTIVES, SPACE, TrialStoreContract, finished

DEFAULTS = {"space": SPACE, "objectives": OBJECTIVES, "fingerprint": "supernet"}


class TestTrialStore(TrialStoreContract):
    @pytest.fixture
    def open_store(self, url):
        return lambda **changes: TrialStore(url, **{**DEFAULTS, **changes})


def opened_by_optuna(url):
    if url.startswith("journal"):
        file = JournalFileBackend(url.removeprefix("journal:///"))
        storage = JournalStorage(file)
    else:
        storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name="search", storage=storage)


def test_the_dashboard_sees_names_and_natural_values(url):
    store = TrialStore(url, **DEFAULTS)
    before = datetime.now()
    (trial, failed) = store.propose([SPACE.smallest, SPACE.largest])
    store.finish(finished(trial, accuracy=0.9))
    store.finish(failed.failed("out of memory"))
    study = opened_by_optuna(url)
    assert study.metric_names == ["top1_accuracy", "latency_ms"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.trials[0].values == [0.9, 1 / 3]
    assert study.trials[0].params == {"depth": 1, "block1.kernel_size": 3}, "active ones only"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert before <= study.trials[0].datetime_start <= study.trials[0].datetime_complete


def test_a_store_in_memory_needs_no_file():
    store = TrialStore(None, **DEFAULTS)
    (trial,) = store.propose([SPACE.smallest])
    store.finish(finished(trial))
    assert store.trials() == [finished(trial)]


def test_a_storage_that_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(RequestError, match="cannot open the trial store") as caught:
        TrialStore(f"sqlite:///{tmp_path / 'missing' / 'study.db'}", **DEFAULTS)
    assert "\n" not in str(caught.value)


def test_a_password_is_never_shown():
    url = "postgresql+psycopg://somebody:secret@127.0.0.1:1/none"
    with pytest.raises(RequestError) as caught:
        TrialStore(url, **DEFAULTS)
    assert "secret" not in str(caught.value)


def test_a_store_that_refuses_writes_is_one_sentence(tmp_path):
    path = tmp_path / "study.db"
    store = TrialStore(f"sqlite:///{path}", **DEFAULTS)
    (trial,) = store.propose([SPACE.smallest])
    path.write_bytes(b"")
    with pytest.raises(WorkError, match="the trial store refused") as caught:
        store.finish(finished(trial))
    assert "\n" not in str(caught.value)


def test_trials_written_by_others_are_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    store = TrialStore(url, **DEFAULTS)
    optuna.load_study(study_name="search", storage=url).enqueue_trial({"depth": 1})
    with pytest.raises(RequestError, match="not written by nasbench"):
        store.trials()
