"""Plug-ins for the pool's tests, named `tests.distributed.probes:...`; workers import them.

They log when they work to the file named by the environment's PROBE_LOG, and misbehave on demand.
"""

import json
import os
import signal
import time
from pathlib import Path

from nasbench.hardware.eager_engine import EagerEngine


def log(kind, start):
    with Path(os.environ["PROBE_LOG"]).open("a") as stream:
        entry = {"kind": kind, "start": start, "end": time.time(), "process": os.getpid()}
        stream.write(json.dumps(entry) + "\n")


def once(name):
    """Whether nobody asked for this name before, in any process."""
    try:
        Path(os.environ["PROBE_LOG"] + f".{name}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class LoggingEngine(EagerEngine):
    """Takes a while to compile and to run, and says when."""

    def compile(self, module, example_inputs):
        start = time.time()
        time.sleep(0.05)
        log("evaluate", start)
        return super().compile(module, example_inputs)

    def load(self, artifact, num_threads):
        forward = super().load(artifact, num_threads)

        def slow():
            start = time.time()
            time.sleep(0.02)
            log("measure", start)
            return forward()

        return slow


def misbehaving(behavior):
    """An engine that does something to the worker that compiles."""

    class Misbehaving(EagerEngine):
        def compile(self, module, example_inputs):
            behavior()
            return super().compile(module, example_inputs)

    return Misbehaving


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once():
    if once("death"):
        _die()


def _hang_once():
    if once("hang"):
        time.sleep(3600)


def _raise():
    raise ValueError("this network\ncannot be compiled")


DyingEngine = misbehaving(_die)
OnceDyingEngine = misbehaving(_die_once)
OnceHangingEngine = misbehaving(_hang_once)
RaisingEngine = misbehaving(_raise)
