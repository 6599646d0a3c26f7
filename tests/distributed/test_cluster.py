"""A run on a cluster that somebody else started, named by its address."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nasbench as nb

TINY = Path(__file__).parents[1] / "tiny.yaml"


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def is_open(port):
    with socket.socket() as probing:
        return probing.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def head():
    """The address of a Ray head with two CPUs and a latency slot."""
    port = free_port()
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", "--num-cpus=2", '--resources={"latency_slot": 1}'),
        "--include-dashboard=false",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **quiet) as process:
        deadline = time.monotonic() + 60
        while not is_open(port):
            assert time.monotonic() < deadline, "the head did not start"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
        os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_an_existing_cluster(head, tmp_path):
    command = [sys.executable, "-m", "nasbench", "run", str(TINY), "--out", str(tmp_path / "run")]
    command += [
        "--set",
        "resources.workers=2",
        "--set",
        "search.objectives=[top1_error, latency_ms]",
    ]
    done = subprocess.run(
        [*command, "--address", head], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trials = nb.load_run(tmp_path / "run").trials
    assert len(trials) == 12
    assert all(trial.measurements["latency_ms"] > 0 for trial in trials)
    assert "address: null" in (tmp_path / "run/config.yaml").read_text(), "clusters come and go"
