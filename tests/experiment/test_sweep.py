"""Sweeps from the command line: what is refused, what is left, and what a kill costs."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import nasbench as nb
from nasbench.experiment.html_report import summarize
from nasbench.experiment.run import Run
from nasbench.experiment.sweep import HYPERVOLUME, Place, conclude, load_sweep
from nasbench.experiment.sweep.sweep import Status
from nasbench.objectives import losses_of
from nasbench.pareto import dominates
from nasbench.trials import TrialState
from tests.experiment.searched import make_searched_run

ROOT = Path(__file__).parents[2]
TOY = {
    "name": "toy",
    "table": {"name": "tests.experiment.toy_tables:toy", "conditions": ["good"]},
    "search": {"algorithm": "random", "num_trials": 12, "batch_size": 4},
}


def write_sweep(folder, base=TOY, **content):
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "base": "base.yaml", **content}, sort_keys=False))
    return path


def files(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestBadInput:
    """Exit code 2, one sentence, nothing written."""

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ({"grid": {"serach.algorithm": ["x"]}}, "did you mean 'search'"),
            (
                {"grid": {"search.algorithm": ["random", "lines"]}},
                "member 'algorithm-lines': unknown search algorithm 'lines'; did you mean 'linas'",
            ),
            (
                {"grid": {"table.conditions": [["good"], ["godo"]]}},
                "unknown condition of table 'tests.experiment.toy_tables:toy' 'godo'",
            ),
            (
                {"grid": {"seed": [0]}, "early_stopping": {"grace_epochs": 1}},
                "a search of a table trains nothing to be stopped early",
            ),
            ({"grid": {"seed": [0]}, "members": {"gpus": 0.5}}, "but this machine has no GPU"),
            ({"grid": {"search.constraints": [["latency <= 0 ms"]]}}, "no architecture of the"),
        ],
    )
    def test_settings(self, nasbench, tmp_path, content, sentence, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        before = files(write_sweep(tmp_path, **content).parent)
        code, out, err = nasbench("sweep", "sweep.yaml")
        assert sentence in err
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert files(tmp_path) == before

    def test_a_cluster_that_does_not_answer(self, nasbench, tmp_path):
        write_sweep(tmp_path, grid={"seed": [0]})
        code, _, err = nasbench("sweep", "sweep.yaml", "--address", "ray://127.0.0.1:1")
        assert code == 2
        assert "no Ray cluster answers" in err
        assert not (tmp_path / "runs").exists()

    def test_a_folder_with_something_else(self, nasbench, tmp_path):
        write_sweep(tmp_path, grid={"seed": [0]})
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
        make_searched_run(tmp_path / "run")
        for folder, sentence in (("photos", "is no sweep"), ("run", "holds a run, not a sweep")):
            code, _, err = nasbench("sweep", "sweep.yaml", "--out", folder)
            assert code == 2
            assert sentence in err


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"grid": {"seed": [1, 2]}}, "holds another sweep: it has a member 'seed-0'"),
        (
            {"grid": {"seed": [0, 1]}, "settings": {"search.batch_size": 2}},
            "its member 'seed-0' differs in search.batch_size",
        ),
    ],
)
def test_a_folder_with_another_sweep_is_refused(nasbench, tmp_path, changed, sentence):
    (member, *_) = load_sweep(write_sweep(tmp_path, grid={"seed": [0, 1]})).members
    (tmp_path / "runs/s").mkdir(parents=True)
    (tmp_path / "runs/s/sweep.yaml").touch()
    Run(tmp_path / "runs/s/members/seed-0", member.config).create()
    before = files(tmp_path / "runs")
    write_sweep(tmp_path, **changed)
    code, _, err = nasbench("sweep", "sweep.yaml")
    assert code == 2
    assert sentence in err
    assert files(tmp_path / "runs") == before


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A sweep over two tasks, concluded: its folder, its members and what came of it.

    All members were searched but the last two.
    """
    tmp_path = tmp_path_factory.mktemp("searched")
    base = {
        "name": "toy",
        "task": {"name": "digits"},
        "supernet": {"family": "mobilenet_v3"},
        "search": {"num_trials": 8, "batch_size": 4, "constraints": ["latency_ms <= 1.1"]},
        "export": {"targets": []},
    }
    grid = {"task.name": ["digits", "sst2"], "search.algorithm": ["random", "linas"]}
    sweep = load_sweep(write_sweep(tmp_path, base, grid={**grid, "seed": [0, 1]}))
    out = tmp_path / "out"
    for number, member in enumerate(sweep.members[:-2]):
        make_searched_run(
            out / "members" / member.name,
            seed=number,
            num_trials=8,
            name=member.name,
            task=member.settings["task.name"],
            algorithm=member.settings["search.algorithm"],
        )
    statuses = {member.name: Status("finished") for member in sweep.members}
    statuses[sweep.members[-2].name] = Status("failed", "the device is on fire")
    statuses[sweep.members[-1].name] = Status("stopped", "early, after epoch 3")
    outcome = conclude(sweep, Place.of(str(out), on_cluster=False), statuses)
    return out, sweep.members, outcome


class TestOutcome:
    def test_a_row_per_member(self, searched):
        out, members, _ = searched
        with (out / "sweep.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["member"] for row in rows] == [member.name for member in members]
        assert [row["state"] for row in rows] == ["finished"] * 6 + ["failed", "stopped"]
        assert rows[-2]["reason"] == "the device is on fire"
        assert rows[0]["search.algorithm"] == "random"
        assert float(rows[0]["seconds"]) == 3.5
        assert [row["supernet_of"] for row in rows[:3]] == ["", "", members[0].name]
        run = nb.load_run(out / "members" / rows[0]["member"])
        best = min(trial.measurements["latency_ms"] for trial in run.completed)
        assert float(rows[0]["best latency_ms"]) == pytest.approx(best)

    def test_hypervolumes_are_comparable_within_a_task_only(self, searched):
        out, members, outcome = searched
        assert set(outcome.references) == {"digits", "sst2"}
        runs = [Run(out / "members" / member.name, member.config) for member in members[:4]]
        expected = [each["hypervolume"] for each in summarize(runs)]
        assert [row[HYPERVOLUME] for row in outcome.rows[:4]] == pytest.approx(expected)
        assert {path.name for path in out.iterdir() if path.is_file()} == {
            "sweep.csv", "pareto.csv", "hypervolume-digits.png", "hypervolume-sst2.png",
            "pareto-digits.png", "pareto-sst2.png",
        }  # fmt: skip

    def test_the_merged_front_is_what_nothing_dominates(self, searched):
        out, members, _ = searched
        frame = pd.read_csv(out / "pareto.csv")
        members = [m for m in members[:-2] if m.settings["task.name"] == "digits"]
        rows = frame[frame["task.name"] == "digits"]
        measured = {}
        for member in members:
            run = Run(out / "members" / member.name, member.config)
            for trial in run.completed:
                (point,) = losses_of(run.objectives, [trial.measurements])
                measured[member.name, trial.number] = (trial.architecture.id, point)
        expected = {
            (*key, name)
            for key, (name, point) in measured.items()
            if not any(dominates(other, point) for _, other in measured.values())
        }
        found = zip(rows["member"], rows["trial"], rows["architecture_id"], strict=True)
        assert set(found) == expected
        assert len(expected) > 1
        assert rows["test_top1_accuracy [fraction]"].notna().all()


def sweep_process(folder, *arguments, **environment):
    """Start the command in a folder, with Tune's state beside it."""
    return subprocess.Popen(
        [sys.executable, "-m", "nasbench", "sweep", "sweep.yaml", *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def done(process):
    """Exit code, output and errors of a process that ends by itself."""
    try:
        out, err = process.communicate(timeout=900)  # a busy machine takes its time
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_sweep_carries_on_and_a_failed_member_stops_nobody(tmp_path):
    conditions = [["good"], ["other"], ["broken"], ["deadly"]]
    grid = {"table.conditions": conditions}
    write_sweep(tmp_path, grid=grid, members={"max_retries": 1}, settings={"search.batch_size": 2})
    process = sweep_process(tmp_path, TOY_SECONDS="0.1")
    for line in process.stdout:
        if "finished" in line.split("(")[0]:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    states = list((tmp_path / "state/nasbench/sweeps").iterdir())
    assert len(states) == 1, "Tune's state is with the user, not in the sweep's folder"
    assert not list((tmp_path / "runs").rglob("*.pkl"))
    members = tmp_path / "runs/s/members"
    kept = {name: nb.load_run(members / f"conditions-{name}").record for name in ("good", "other")}
    assert any("report" in record.get("stages", {}) for record in kept.values())

    code, _, err = done(sweep_process(tmp_path))
    assert code == 1, err
    assert "2 of 4 members failed, 'conditions-broken' with: 12 trials in a row failed" in err
    rows = pd.read_csv(tmp_path / "runs/s/sweep.csv").set_index("member")
    assert list(rows["state"]) == ["finished"] * 2 + ["failed"] * 2
    assert rows.loc["conditions-deadly", "reason"] == "its process died 2 times"
    for name, record in kept.items():
        run = nb.load_run(members / f"conditions-{name}")
        assert all(
            run.record["stages"][stage] == done for stage, done in record.get("stages", {}).items()
        )
        trials = run.trials
        assert [trial.number for trial in trials] == list(range(12))
        assert all(trial.state is TrialState.COMPLETE for trial in trials)
        assert len({trial.architecture for trial in trials}) == 12
    assert not list((tmp_path / "state/nasbench/sweeps").iterdir())


@pytest.mark.slow
@pytest.mark.ray
def test_a_supernet_is_trained_once_and_one_that_lags_is_stopped(tmp_path):
    """In a place of copies, as on a cluster."""
    base = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    write_sweep(
        tmp_path,
        base,
        settings={
            "export.targets": [],
            "training.monitor_every": 1,
            "training.batch_size": 64,
            "search.num_trials": 4,
        },
        grid={
            "training.learning_rate": [0.02, 0.0000001],
            "search.algorithm": ["random", "nsga2"],
        },
        early_stopping={"grace_epochs": 2, "reduction_factor": 2},
        members={"max_concurrent": 1},
    )
    place = f"file://{tmp_path}/shared"
    code, out, err = done(sweep_process(tmp_path, "--out", place))
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "shared/sweep.csv").set_index("member")
    good, bad = "learning_rate-0.02", "learning_rate-1e-07"
    assert list(rows["state"]) == ["finished", "finished", "stopped", "stopped"]
    assert rows.loc[f"{good}_algorithm-nsga2", "supernet_of"] == f"{good}_algorithm-random"
    assert "after epoch 2" in rows.loc[f"{bad}_algorithm-random", "reason"]
    assert "was stopped early" in rows.loc[f"{bad}_algorithm-nsga2", "reason"]
    members = tmp_path / "shared/members"
    weights = [
        max((members / f"{good}_algorithm-{name}").rglob("step-*/weights.safetensors"))
        for name in ("random", "nsga2")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (members / f"{good}_algorithm-nsga2/supernet/log").exists(), "it trained nothing"
    assert not (members / f"{bad}_algorithm-nsga2").exists()

    before = files(tmp_path / "shared")
    code, out, err = done(sweep_process(tmp_path, "--out", place))
    assert code == 0, err
    assert "is finished (4 members); nothing to do." in out
    assert files(tmp_path / "shared") == before
