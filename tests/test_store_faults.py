"""Stores that break: killed processes, silent ones, servers that restart, full disks."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import event

from nasbench.errors import RequestError, WorkError, without_passwords
from nasbench.store import TrialStore
from nasbench.store.places import Place
from nasbench.testing.stores import OBJECTIVES, SPACE, finished

HOLDER = """
import sys, time
from nasbench.store import TrialStore
from nasbench.testing.stores import OBJECTIVES, SPACE
store = TrialStore(sys.argv[1], SPACE, OBJECTIVES, heartbeat_s=0.2)
with store.claimed():
    store.propose([SPACE.largest])
    print("claimed", flush=True)
    sys.stdin.readline()
    store.propose([SPACE.smallest])
"""


def open_store(url, **options):
    return TrialStore(url, SPACE, OBJECTIVES, **{"heartbeat_s": 0.2, **options})


@pytest.fixture
def holder(url):
    """Another process that holds the store and has a trial RUNNING."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()
        process.communicate()


def elsewhere(monkeypatch):
    """As if this process ran on another node: it cannot see whether processes live."""
    monkeypatch.setattr("nasbench.store.lease._machine", lambda: "another node")


def test_a_living_process_keeps_its_search(url, holder, monkeypatch):
    elsewhere(monkeypatch)
    with pytest.raises(
        RequestError, match=rf"process {holder.pid} on .* is working on this search"
    ):
        open_store(url).claimed().__enter__()


def test_a_killed_process_is_replaced_at_once(url, holder):
    holder.kill()
    holder.wait()
    store = open_store(url, heartbeat_s=1000.0)
    with store.claimed():
        (trial,) = store.trials()
        store.finish(finished(trial))  # what it left RUNNING
    assert store.trials() == [finished(trial)]


def test_a_silent_process_is_replaced_and_refused_when_it_wakes(url, holder, monkeypatch):
    elsewhere(monkeypatch)
    holder.send_signal(signal.SIGSTOP)
    store = open_store(url)
    with store.claimed():
        holder.send_signal(signal.SIGCONT)
        _, errors = holder.communicate("go on\n", timeout=30)
        assert "has taken this search over" in errors
        assert len(store.trials()) == 1


def test_a_journal_cut_in_the_middle_of_a_line_goes_on(tmp_path):
    url = f"journal:///{tmp_path / 'study'}"
    store = open_store(url)
    (trial,) = store.propose([SPACE.largest])
    whole = (tmp_path / "study").read_bytes()
    store.finish(finished(trial))
    written = (tmp_path / "study").read_bytes()
    for size in range(len(whole) + 1, len(written), 7):
        (tmp_path / "study").write_bytes(written[:size])
        again = open_store(url)
        assert again.trials() == [trial], "half a trial's end is none"
        with again.claimed():
            again.finish(finished(trial))
        assert open_store(url).trials() == [finished(trial)]


def test_a_full_disk_leaves_a_journal_whole(tmp_path, monkeypatch):
    store = open_store(f"journal:///{tmp_path / 'study'}")
    (trial,) = store.propose([SPACE.largest])
    with monkeypatch.context() as patched:

        def full(descriptor):
            raise OSError(28, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(
            WorkError, match=r"No space left on device.*the same command carries on"
        ):
            store.finish(finished(trial))
    assert open_store(f"journal:///{tmp_path / 'study'}").trials() == [trial]
    store.finish(finished(trial))
    assert open_store(f"journal:///{tmp_path / 'study'}").trials() == [finished(trial)]


def test_a_full_disk_is_one_sentence_and_what_was_committed_is_kept(tmp_path):
    url = f"sqlite:///{tmp_path / 'study'}"
    store = open_store(url)
    (trial,) = store.propose([SPACE.largest])
    num_pages = (tmp_path / "study").stat().st_size // 4096
    engine = store._records._engine
    engine.dispose()
    event.listen(engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {num_pages}"))
    with pytest.raises(WorkError, match="database or disk is full") as caught:
        store.finish(trial.failed("so long a reason " * 10_000))
    assert "\n" not in str(caught.value)
    assert open_store(url).trials() == [trial]


def test_a_server_that_restarts_is_waited_for(postgresql):
    url = postgresql.new_store()
    store = open_store(url, patience_s=60.0)
    with store.claimed():
        (first,) = store.propose([SPACE.largest])
        postgresql.kill()
        starting = threading.Timer(1.0, postgresql.start)
        starting.start()
        store.finish(finished(first))
        (second,) = store.propose([SPACE.smallest])
        starting.join()
        time.sleep(0.3)  # heartbeats go on
    assert store.trials() == [finished(first), second]


def test_a_server_that_stays_away_is_one_sentence(postgresql):
    store = open_store(postgresql.new_store(), patience_s=0.5)
    (trial,) = store.propose([SPACE.largest])
    postgresql.kill()
    try:
        with pytest.raises(WorkError, match="the trial store refused to answer") as caught:
            store.finish(finished(trial))
    finally:
        postgresql.start()
    assert "\n" not in str(caught.value)
    store.finish(finished(trial))
    assert store.trials() == [finished(trial)]


@pytest.mark.parametrize("operation", ["propose", "finish"])
def test_a_commit_whose_answer_is_lost_is_not_repeated(postgresql, operation, monkeypatch):
    """The server commits and dies before it says so: the worst moment."""
    store = open_store(postgresql.new_store(), patience_s=60.0)
    (first,) = store.propose([SPACE.largest])
    dialect = store._records._engine.dialect
    commit, was_lost = dialect.do_commit, []

    def lost(connection):
        commit(connection)
        if not was_lost:
            was_lost.append(True)
            postgresql.kill()
            postgresql.start()
            commit(connection)

    monkeypatch.setattr(dialect, "do_commit", lost)
    if operation == "finish":
        store.finish(finished(first))
        assert store.trials() == [finished(first)]
    else:
        (second,) = store.propose([SPACE.smallest])
        assert store.trials() == [first, second]
    assert was_lost


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:40 / /home rw - nfs4 server:/home rw
24 23 0:41 / /home/me/on\\040disk rw - ext4 /dev/vdb rw
25 22 0:42 / /mnt/s3 rw - fuse.s3fs s3fs rw
26 22 0:43 / /mnt/usb rw - fuseblk /dev/sdc rw
27 22 0:44 / /scratch rw - lustre mgs@o2ib:/scratch rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/study.db", None),
        ("/home/me/study.db", "nfs4"),
        ("/home/me/on disk/study.db", None),
        ("/homeless/study.db", None),
        ("/mnt/s3/study.db", "fuse.s3fs"),
        ("/mnt/usb/study.db", None),
        ("/scratch/study.db", "lustre"),
    ],
)
def test_sqlite_is_refused_where_a_network_carries_the_file(path, kind, tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    Place.of(f"journal:///{path}").check(mounts)
    place = Place.of(f"sqlite:///{path}")
    if kind is None:
        place.check(mounts)
        return
    with pytest.raises(RequestError, match=rf"of type {kind}, .*journal:///study.journal"):
        place.check(mounts)


SECRETS = [
    "postgresql+psycopg://me:s3cr3t@127.0.0.1:1/none",
    "postgresql+psycopg://me:p@s3cr3t@127.0.0.1:1/none",
    "postgresql+psycopg://me@127.0.0.1:1/none?password=s3cr3t",
    "postgresql+psycopg://me@127.0.0.1:1/none?sslmode=disable&sslpassword=s3cr3t",
    "mysql://me:s3cr3t@127.0.0.1:1/none",
    "nonsense://me:s3cr3t@[::1/none",
    "://me:s3cr3t@host",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_stands_in_no_sentence(secret):
    assert "s3cr3t" not in without_passwords(secret)
    with pytest.raises(RequestError) as caught:
        open_store(secret)
    shown, error = "", caught.value
    while error is not None:
        shown += str(error)
        error = error.__cause__
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    "url", ["study.db", "sqlite://", "sqlite:///a?uri=true", "sqlite://host/a", "redis://host", ""]
)
def test_a_url_that_names_no_store_is_one_sentence(url):
    with pytest.raises(RequestError) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
