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


@pytest.fixture
def pi5(head):
    """A node without CPUs for evaluations that measures for the device `pi5`."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", f"--address={head}", "--block", "--num-cpus=0"]
    command.append('--resources={"device:pi5": 1}')
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if (Path.home() / ".ray" / "auth_token").exists():  # which the head has made, maybe
        environment.setdefault("RAY_AUTH_MODE", "token")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, env=environment, **quiet) as process:
        yield head
        os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_measures_for_the_device_that_it_offers(pi5, tmp_path):
    def nasbench(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "nasbench", *arguments, "--address", pi5],
            capture_output=True,
            text=True,
            check=False,
        )

    fit = ["device", "fit", str(TINY), "--out", str(tmp_path / "run"), "--repeats", "6"]
    fit += ["--samples", "4", "--test", "2"]
    deadline = time.monotonic() + 60
    while True:
        done = nasbench(*fit, "--device", "pi5")
        if done.returncode != 2 or time.monotonic() > deadline:
            break  # until the node has joined, the cluster lacks the device
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run/devices/pi5/samples.jsonl").read_text().splitlines()
    assert len(lines) == 6

    done = nasbench(*fit, "--device", "pi4")
    assert done.returncode == 2
    assert "offers the resource 'device:pi4'" in done.stderr
    assert "it has the devices pi5" in done.stderr
    assert not (tmp_path / "run/devices/pi4").exists()

    settings = ["search.objectives=[top1_error, latency_ms]", "resources.workers=1"]
    settings += ["search.num_trials=4", "latency.device=pi5"]
    run = ["run", str(TINY), "--out", str(tmp_path / "search")]
    done = nasbench(*run, *(part for setting in settings for part in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    assert all(trial.measurements["latency_ms"] > 0 for trial in nb.load_run(run[-1]).trials)
