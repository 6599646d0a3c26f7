"""Searching a table: the same run folder without a supernet, failed trials, refusals."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import nasbench as nb
from nasbench.config import parse_config
from nasbench.errors import RequestError
from nasbench.experiment.measured import build_measured
from nasbench.trials import TrialState

TABLE = """
import numpy as np
from nasbench.space import ElasticDimension, SearchSpace
from nasbench.tasks.tables import MeasuredTable

space = SearchSpace([ElasticDimension(name, tuple(range(1, 7))) for name in ("depth", "width")])
genomes = space.to_genomes(list(space.enumerate()))
depth, width = genomes.T + 1.0
error = 1 / (depth + width)


def small(data_dir):
    latency = np.where(depth == 6, np.nan, depth * width)
    return MeasuredTable(
        "small", space, genomes,
        {
            "photos.top1_error": error,
            "photos.validation_top1_error": error + 0.01,
            "sounds.top1_error": 1 - error,
            "phone.latency_ms": latency,
            "watch.latency_ms": np.where(width > 2, np.nan, latency),
            "num_parameters": depth * width**2,
        },
        {"phone.latency_ms": depth == 6},
    )
"""
CONTENT = {
    "name": "measured",
    "table": {"name": "my_table:small", "conditions": ["photos", "phone"]},
    "search": {"algorithm": "random", "num_trials": 30, "batch_size": 5},
}


@pytest.fixture
def nasbench(nasbench, tmp_path):
    """Call the command line in a folder that holds a table and a configuration."""
    (tmp_path / "my_table.py").write_text(TABLE)
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(CONTENT))
    yield nasbench
    sys.modules.pop("my_table", None)


def test_a_search_leaves_what_a_run_leaves(nasbench):
    code, out, err = nasbench("run", "table.yaml")
    assert (code, err) == (0, "")
    assert "validation error" in out
    assert "nasbench export" not in out
    run = nb.load_run("runs/measured")
    assert run.is_finished
    failed = [trial for trial in run.trials if trial.state is TrialState.FAILED]
    assert 0 < len(failed) < 10
    assert all("phone cannot run" in trial.error for trial in failed)
    with Path("runs/measured/pareto.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(run.trials) - len(failed) == 30 - len(failed)
    for row in rows[: len(run.pareto_front())]:
        seen, tested = row["validation_top1_error [fraction]"], row["test_top1_error [fraction]"]
        assert float(seen) == pytest.approx(float(tested) + 0.01)
    assert nasbench("run", "table.yaml")[1].startswith("'runs/measured' is finished")


def test_more_trials_carry_on(nasbench):
    nasbench("search", "table.yaml", "--set", "search.num_trials=10")
    first = [trial.architecture for trial in nb.load_run("runs/measured").trials]
    nasbench("search", "table.yaml")
    trials = nb.load_run("runs/measured").trials
    assert [trial.architecture for trial in trials[:10]] == first
    assert len(trials) == 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_trials_can_be_kept_elsewhere(kind, nasbench, request):
    if kind == "journal":
        url = "journal:///study.journal"
    else:
        url = request.getfixturevalue("postgresql").new_store()
    store = ["--set", f"store.url={url}"]
    nasbench("run", "table.yaml", "--out", "usual")
    nasbench("search", "table.yaml", *store, "--set", "search.num_trials=10")
    code, _, err = nasbench("run", "table.yaml", *store)
    assert (code, err) == (0, "")
    run = nb.load_run("runs/measured")
    assert run.is_finished
    assert run.trials == nb.load_run("usual").trials
    assert not (run.folder / "study.db").exists()

    code, _, err = nasbench("run", "table.yaml")
    assert code == 2
    assert "are kept in" in err


def test_a_run_in_another_folder_finds_its_trials_in_a_database(nasbench, postgresql):
    store = ["--set", f"store.url={postgresql.new_store()}"]
    nasbench("search", "table.yaml", *store, "--set", "search.num_trials=10")
    assert nasbench("run", "table.yaml", *store, "--out", "again")[0] == 0
    other = ["--set", "store.study=other", "--set", "search.num_trials=10"]
    assert nasbench("search", "table.yaml", *store, *other, "--out", "other")[0] == 0
    first, again, anew = (nb.load_run(f).trials for f in ("runs/measured", "again", "other"))
    assert first == again
    assert first[:10] == anew
    assert len(first) == 30
    assert len(anew) == 10


def test_gaps_do_not_end_a_search(nasbench):
    settings = ["table.conditions=[photos, phone]", "search.max_consecutive_failures=1"]
    code, _, err = nasbench("run", "table.yaml", *[p for s in settings for p in ("--set", s)])
    assert (code, err) == (0, "")


@pytest.mark.parametrize("command", ["train", "profile", "export", "nest"])
@pytest.mark.parametrize("begun", [False, True])
def test_there_is_nothing_to_train_or_export(nasbench, tmp_path, command, begun):
    if begun:
        nasbench("run", "table.yaml")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = nasbench(command, "runs/measured" if begun else "table.yaml")
    assert code == 2
    assert "nothing to train, profile, extract or export" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["table.name=nas_bench"], "unknown table 'nas_bench'; did you mean 'nas_bench_201'"),
        (["table.name=nas_bench_201", "table.data_dir=here"], "there is no 'here/nas/nasbench"),
        (["table.conditions=[photos, fone]"], "'fone'; did you mean 'phone'? possible: phone, ph"),
        (["table.conditions=[photos]"], "no 'latency_ms' under the conditions photos; possible"),
        (["table.conditions=[]"], "under the conditions given, which are none"),
        (["table.conditions=[photos, phone, sounds]"], "'photos' and 'sounds', which both give"),
        (["table.conditions=[photos, watch]"], "latency_ms of 10 of 36 architectures, too few"),
        (["search.objectives=[bleu, latency_ms]"], "has no 'bleu'"),
        (["search.objectives=[bluh, latency_ms]"], "unknown metric 'bluh'"),
        (["search.algorithm=lines"], "unknown search algorithm 'lines'"),
        (["search.options.populatoin=3"], "search.options do not fit 'random'"),
        (["search.constraints=[latency <= 60%]"], "relative to the largest sub-network"),
        (["search.constraints=[latency <= 0.5 ms]"], "no architecture of the table has latency"),
        (["training.epochs=3"], "a search of a table has no section 'training'"),
        (["task.name=digits"], "a search of a table has no section 'task'"),
        (["table.names=x"], "table has no setting 'names'; did you mean 'name'?"),
        (["table=null"], "lacks the setting 'task' (or 'table')"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_trace(nasbench, tmp_path, settings, sentence):
    before = sorted(p for p in tmp_path.iterdir() if p.name != "__pycache__")
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, out, err = nasbench("run", "table.yaml", *arguments)
    assert sentence in err
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert sorted(p for p in tmp_path.iterdir() if p.name != "__pycache__") == before


def test_settings_that_a_table_does_not_have_are_not_written(nasbench):
    nasbench("run", "table.yaml")
    written = yaml.safe_load(Path("runs/measured/config.yaml").read_text())
    assert list(written) == ["name", "seed", "table", "search", "store"]


def test_counted_metrics_are_known_of_any_candidate(nasbench):
    nasbench("run", "table.yaml", "--set", "search.objectives=[top1_error, num_parameters]")
    run = nb.load_run("runs/measured")
    problem = build_measured(run.config).problem(run)
    architecture = problem.space.largest
    assert problem.counted["num_parameters"](architecture) == 6 * 6**2
    with pytest.raises(RequestError, match="nothing to train"):
        run.extract(run.pareto_front()[0].architecture.id)


def test_constraints_are_respected(nasbench):
    nasbench("run", "table.yaml", "--set", "search.constraints=[num_parameters <= 20]")
    front = nb.load_run("runs/measured").pareto_front()
    assert front
    assert np.all([trial.measurements["num_parameters"] <= 20 for trial in front])


def test_where_the_data_lies_is_no_part_of_the_identity():
    here = parse_config(CONTENT)
    there = parse_config({**CONTENT, "table": {**CONTENT["table"], "data_dir": "/elsewhere"}})
    other = parse_config({**CONTENT, "table": {**CONTENT["table"], "conditions": ["photos"]}})
    assert here.fingerprint == there.fingerprint != other.fingerprint


EARLIER = ("--set", "search.algorithm=auto", "--set", "search.earlier=runs/measured")
WITH_SOUNDS = ("--set", "table.conditions=[sounds, phone]", "--out", "runs/sounds")


def test_a_search_begins_from_an_earlier_one(nasbench, tmp_path):
    nasbench("search", "table.yaml")
    ten = ("--set", "search.num_trials=10")
    code, _, err = nasbench("search", "table.yaml", *EARLIER, *WITH_SOUNDS, *ten)
    assert (code, err) == (0, "")
    kept = (tmp_path / "runs/sounds/earlier.json").read_bytes()
    (tmp_path / "runs/measured").rename(tmp_path / "runs/gone")
    code, _, err = nasbench("search", "table.yaml", *EARLIER, *WITH_SOUNDS)
    assert (code, err) == (0, "")
    assert len(nb.load_run("runs/sounds").trials) == 30
    assert (tmp_path / "runs/sounds/earlier.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["search.algorithm=nsga2"], "'nsga2' does not learn from an earlier search; 'auto' does"),
        (["search.earlier=runs/none"], "'runs/none' is no run"),
        (["search.options={earlier: runs/measured}"], "set search.earlier"),
        (["search.earlier=runs/sizes"], "'runs/sizes' did not measure 'top1_error'; it has: "),
    ],
)
def test_an_earlier_search_that_does_not_fit_is_refused(nasbench, tmp_path, settings, message):
    nasbench("search", "table.yaml")
    sizes = "search.objectives=[num_parameters, latency_ms]"
    of_sizes = ("--set", "table.conditions=[phone]", "--set", sizes, "--out", "runs/sizes")
    nasbench("search", "table.yaml", *of_sizes)
    before = sorted(tmp_path.rglob("*"))
    changed = [part for setting in settings for part in ("--set", setting)]
    code, _, err = nasbench("search", "table.yaml", *EARLIER, *WITH_SOUNDS, *changed)
    assert code == 2
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before
