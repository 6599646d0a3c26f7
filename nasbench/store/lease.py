"""The lease: one process writes to a store at a time, and a dead one is replaced.

The process that searches says in the store who it is and, every few seconds, that it lives. Another
one that wants to write waits and watches: where the count of heartbeats rises, it is refused; where
it stands still, the search is taken over, and the trials that the silent process left RUNNING are
evaluated again. Nobody's clock is compared with another's. A silent process that wakes up later is
refused at its next write.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasbench.errors import NasbenchError, RequestError
from nasbench.store.records import OWNER

HEARTBEAT = "nasbench_heartbeat"
"""The attribute of a study that counts its owner's heartbeats."""

_LOOKS = 4  # at the heartbeats during a period of grace


def this_process() -> dict[str, Any]:
    """Who this is: a new token, and where to look for the process."""
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
    }


def _machine() -> str:
    """Tells apart machines, their restarts, and containers that number processes by themselves."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        numbering = Path("/proc/self/ns/pid").readlink()
    except OSError:  # no Linux: never taken for one's own
        return uuid.uuid4().hex
    return f"{boot} {numbering}"


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the owner is known to be gone; False where it cannot be seen from here."""
    if owner["machine"] != _machine():
        return False
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def wait_until_free(read: Callable[[], Mapping[str, Any]], grace_s: float) -> None:
    """Return once nobody uses the study.

    Args:
        read: the study's attributes.
        grace_s: how long an owner must have been silent to be taken for dead.

    Raises:
        RequestError: if its owner lives.
    """
    attributes = read()
    owner, first = attributes.get(OWNER), attributes.get(HEARTBEAT)
    if not owner or is_dead(owner):
        return
    for _ in range(_LOOKS):
        time.sleep(grace_s / _LOOKS)
        attributes = read()
        if not attributes.get(OWNER):
            return
        if attributes[OWNER] != owner or attributes.get(HEARTBEAT) != first:
            raise RequestError(
                f"process {owner['process']} on {owner['host']} is working on this search; wait "
                "for it, or stop it first"
            )


class Heartbeat:
    """Says from a thread of its own that this process lives; a context manager.

    Args:
        beat: writes a count to the store. What it raises is its own business: a store that does
            not answer will be noticed by who writes trials.
        interval_s: between two of them.
    """

    def __init__(self, beat: Callable[[int], None], interval_s: float) -> None:
        self._beat, self._interval_s = beat, interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while not self._end.wait(self._interval_s):
            count += 1
            try:
                self._beat(count)
            except NasbenchError:
                continue  # a server that restarts; see `beat`
