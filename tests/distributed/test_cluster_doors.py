"""Ways into a cluster that need Ray's extras: its client (`ray://`), and `ray job submit`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.distributed.test_cluster import free_port, is_open

pytestmark = [pytest.mark.slow, pytest.mark.ray]
pytest.importorskip("grpc", reason="needs the extra 'cluster'")
pytest.importorskip("aiohttp_cors", reason="needs the extra 'cluster'")

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def head():
    """A head of two CPUs: the address of Ray's client, and that of its jobs."""
    port, client, dashboard = free_port(), free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command += [f"--ray-client-server-port={client}", "--include-dashboard=true"]
    command += [f"--dashboard-port={dashboard}", '--resources={"latency_slot": 1}']
    environment = {**os.environ, "PYTHONPATH": python_path()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, env=environment, **quiet) as process:
        try:
            deadline = time.monotonic() + 180
            while not (is_open(client) and is_open(dashboard)):
                assert process.poll() is None, "the head ended"
                assert time.monotonic() < deadline, "the head did not start"
                time.sleep(0.5)
            yield f"ray://127.0.0.1:{client}", f"http://127.0.0.1:{dashboard}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def python_path():
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture
def folder(tmp_path):
    """With the YAML of a sweep over the toy table."""
    base = {
        "name": "toy",
        "table": {"name": "tests.experiment.toy_tables:toy", "conditions": ["good"]},
        "search": {"algorithm": "random", "num_trials": 6, "batch_size": 3},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    sweep = {"name": "s", "base": "base.yaml", "grid": {"seed": [0, 1]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return tmp_path


def call(folder, *command):
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    if (Path.home() / ".ray" / "auth_token").exists():  # which the head has made, maybe
        environment.setdefault("RAY_AUTH_MODE", "token")
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def states(folder):
    return list(pd.read_csv(folder / "sweep.csv")["state"])


def test_a_sweep_by_rays_client(head, folder):
    command = (sys.executable, "-m", "nasbench", "sweep", "sweep.yaml", "--out", "shared")
    out = call(folder, *command, "--address", head[0])
    assert "seed-0: finished" in out
    assert states(folder / "shared") == ["finished"] * 2


def test_a_run_by_rays_client(head, folder):
    command = (sys.executable, "-m", "nasbench", "run", ROOT / "tests/tiny.yaml", "--out", "run")
    settings = ("--set", "resources.workers=2", "--set", "search.num_trials=4")
    out = call(folder, *command, *settings, "--set", "export.targets=[]", "--address", head[0])
    assert "Pareto front of tiny" in out
    assert len(pd.read_csv(folder / "run/pareto.csv")) == 4


def test_a_sweep_as_a_job(head, folder):
    submit = (RAY, "job", "submit", "--address", head[1], "--working-dir", str(folder), "--")
    command = f"{sys.executable} -m nasbench sweep sweep.yaml --address auto --out {folder}/shared"
    out = call(folder, *submit, *command.split())
    assert "succeeded" in out
    assert states(folder / "shared") == ["finished"] * 2
