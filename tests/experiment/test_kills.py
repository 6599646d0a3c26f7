"""A run that is killed at random moments and started again equals one that was not.

Real processes, real signals. What is compared: the weights bit for bit, every trial's number,
architecture and measurements, the report and the export.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import nasbench as nb

TINY = Path(__file__).parents[1] / "tiny.yaml"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TIMEOUT_S = 120


def command(folder, workers):
    overrides = ["--set", f"resources.workers={workers}"]
    return [sys.executable, "-m", "nasbench", "run", str(TINY), "--out", str(folder), *overrides]


def finish(folder, workers):
    done = subprocess.run(
        command(folder, workers), capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def interrupt(folder, workers, reached, delay, signal_number):
    """Start the run, wait until it `reached` something and then a little, send the signal."""
    with subprocess.Popen(
        command(folder, workers), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=ENVIRONMENT,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + TIMEOUT_S
        while not reached(folder) and process.poll() is None:
            assert time.monotonic() < deadline, "the run did not get there"
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, errors


def finished_trials(folder):
    """Numbers of the trials that are finished in the store, read beside the running process."""
    if not (folder / "study.db").exists():
        return set()
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT number FROM trials WHERE state IN ('COMPLETE', 'FAIL')")
            return {number for (number,) in rows}
    except sqlite3.OperationalError:  # the tables are being made
        return set()


MOMENTS = {
    "start": lambda _: True,
    "train": lambda folder: (folder / "supernet/checkpoints/step-0000004").exists(),
    "checkpoint": lambda folder: any(folder.glob("supernet/checkpoints/.partial-*")),
    "search": lambda folder: len(finished_trials(folder)) >= 1,
    "mid-search": lambda folder: len(finished_trials(folder)) >= 6,
    "report": lambda folder: len(finished_trials(folder)) == 12,
    "export": lambda folder: (folder / "pareto.png").exists(),
}


def exported(folder):
    """Every file; of the manifest what no clock says."""
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(content.pop("manifest.json"))
    for target in manifest["targets"].values():
        del target["latency"]
    return content | {"manifest.json": manifest}


def outcome(folder):
    """Everything that must be the same."""
    run = nb.load_run(folder)
    weights = folder / "supernet/checkpoints/step-0000012/weights.safetensors"
    (export,) = (folder / "export").iterdir()
    return {
        "weights": weights.read_bytes(),
        "trials": run.trials,
        "report": (folder / "pareto.csv").read_text(),
        "export": exported(export),
        "stages": list(run.record["stages"]),
        "left over": sorted(p.name for p in folder.rglob(".*")),
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(folder, workers=0)
    return outcome(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["train", "mid-search", "report", "export"])
def test_a_killed_driver_costs_nothing_that_was_finished(moment, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    delay = random.Random(moment).uniform(0, 0.3)
    interrupt(folder, 0, MOMENTS[moment], delay, signal.SIGKILL)
    before = finished_trials(folder)
    kept = {t.number: t for t in nb.load_run(folder).trials} if before else {}
    finish(folder, workers=0)
    after = outcome(folder)
    for part in uninterrupted:
        assert after[part] == uninterrupted[part], part
    assert [after["trials"][number] for number in sorted(before)] == [
        kept[number] for number in sorted(before)
    ]


@pytest.mark.slow
def test_a_run_killed_again_and_again_equals_one_that_was_not(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for moment in MOMENTS:
        interrupt(folder, 0, MOMENTS[moment], 0.0, signal.SIGKILL)
    finish(folder, workers=0)
    after = outcome(folder)
    for part in uninterrupted:
        assert after[part] == uninterrupted[part], part


@pytest.mark.slow
@pytest.mark.ray
def test_a_driver_killed_with_its_workers_running(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    interrupt(folder, 2, MOMENTS["mid-search"], 0.02, signal.SIGKILL)
    before = finished_trials(folder)
    assert 6 <= len(before) < 12
    finish(folder, workers=2)
    after = outcome(folder)
    for part in ("weights", "trials", "report"):
        assert after[part] == uninterrupted[part], part


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("moment", ["train", "search"])
def test_ctrl_c_stops_cleanly_and_says_how_to_carry_on(moment, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    code, errors = interrupt(folder, 2, MOMENTS[moment], 0.05, signal.SIGINT)
    assert code == 130
    assert errors.startswith("nasbench: stopped; what is finished is kept. Carry on with: ")
    assert errors.count("\n") == 1
    finish(folder, workers=0)
    after = outcome(folder)
    for part in ("weights", "trials", "report"):
        assert after[part] == uninterrupted[part], part


@pytest.mark.slow
def test_a_killed_export_leaves_the_earlier_one(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    finish(folder, workers=0)
    (export,) = (folder / "export").iterdir()
    export_again = [sys.executable, "-m", "nasbench", "export", str(folder)]
    with subprocess.Popen(export_again, env=ENVIRONMENT) as process:
        while not any((folder / "export").glob(".partial-*")) and process.poll() is None:
            time.sleep(0.0005)
        process.kill()
    assert exported(export) == uninterrupted["export"]


@pytest.mark.slow
def test_two_processes_never_work_on_one_run(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen(command(folder, 0), stdout=subprocess.DEVNULL, env=ENVIRONMENT) as first:
        while not MOMENTS["train"](folder):
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(
            command(folder, 0), capture_output=True, text=True, check=False, env=ENVIRONMENT
        )
        first.send_signal(signal.SIGCONT)
    assert first.returncode == 0
    assert second.returncode == 2
    assert second.stderr == (
        f"nasbench: another process is working on '{folder}'; wait for it, or stop it first\n"
    )
