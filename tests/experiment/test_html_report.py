"""The page that a report writes, read as text; what a browser makes of it is tested beside it."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from nasbench.errors import RequestError
from nasbench.experiment.html_report import summarize, write_html_report
from nasbench.experiment.html_report.reading import Kind, read_runs
from nasbench.experiment.prediction import assess_predictors, keep_reports
from nasbench.pareto import hypervolume
from tests.experiment.searched import make_searched_run, measurements_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_searched_run(tmp_path_factory.mktemp("runs") / "toy")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_searched_run(tmp_path_factory.mktemp("runs") / "other", seed=1)


@pytest.fixture
def ladder(run):
    """A manifest as `nasbench nest` writes one."""
    members = [
        {
            "architecture_id": f"member{number}",
            "num_parameters": 10 * number,
            "num_macs": 100 * number,
            "validation": {"top1_accuracy": 0.5 + number / 10},
            "test": {"top1_accuracy": 0.4 + number / 10},
            "latency": {"a phone": {"latency_ms": 0.1 * number, "conditions": {}}},
        }
        for number in (1, 2, 3)
    ]
    path = run.folder / "nest" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"format": "any", "members": members}))
    yield path
    path.unlink()
    path.parent.rmdir()


def written(runs, folder):
    path = folder / "report.html"
    write_html_report(runs, path)
    return path.read_text()


def data_of(page):
    (block,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page)
    return json.loads(block, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_kinds_are_those_of_the_run(run):
    (found,) = read_runs([run])
    front = {trial.number for trial in run.pareto_front()}
    assert {n for n, kind in found.kinds.items() if kind is Kind.FRONT} == front
    infeasible = {trial.number for trial in run.infeasible}
    assert infeasible, "the toy's constraint is broken by some"
    assert {n for n, kind in found.kinds.items() if kind is Kind.INFEASIBLE} == infeasible
    assert len(found.finished) == len(found.trials) + 1 == 24


def test_failed_and_infeasible_trials_are_on_no_front(run):
    infinite = np.isinf(run.losses).all(axis=1)
    assert infinite.sum() == 1 + len(run.infeasible)
    assert np.isfinite(run.losses[~infinite]).all()


def test_the_page_holds_every_completed_trial_in_the_unit_of_its_axis(run, tmp_path):
    data = data_of(written([run], tmp_path))
    (shown,) = data["runs"]
    completed = {t.architecture.id: t for t in (*run.completed, *run.infeasible)}
    assert {trial["id"] for trial in shown["trials"]} == completed.keys()
    for trial in shown["trials"]:
        measured = completed[trial["id"]].measurements
        assert trial["values"]["top1_error"] == pytest.approx(100 * measured["top1_error"], 1e-4)
        assert trial["values"]["latency_ms"] == pytest.approx(measured["latency_ms"], 1e-4)
    assert data["axes"]["top1_error"]["title"] == "top-1 error [%]"
    assert data["axes"]["test:top1_accuracy"]["title"] == "top-1 accuracy on test data [%]"


def test_what_an_objective_is_on_test_data_stands_beside_it(tmp_path):
    objectives = ["latency_ms", "top1_accuracy"]
    run = make_searched_run(tmp_path / "toy", objectives=objectives)
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", written([run], tmp_path))
    first = headings.index("median latency")
    assert headings[first : first + 4] == [
        "median latency",
        "top-1 accuracy",
        "top-1 accuracy on test data",
        "top-1 error",
    ]


def test_several_runs_say_once_that_their_fronts_were_tested(run, tmp_path):
    other = make_searched_run(tmp_path / "other", name="other")
    sentence = "measured on test data, which chose nothing"
    assert written([run], tmp_path).count(f"The front was {sentence}") == 1
    page = written([run, other], tmp_path)
    assert page.count(sentence) == page.count(f"<p>The fronts were {sentence}") == 1
    (other.folder / "pareto.csv").unlink()
    page = written([run, other], tmp_path)
    assert page.count(sentence) == page.count(f"The fronts of toy were {sentence}") == 1


def test_a_value_that_is_not_finite_has_no_place_but_a_text(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("runs")

    def with_infinite_macs(architecture, rng):
        return {**measurements_of(architecture, rng), "num_macs": float("inf")}

    monkeypatch.setattr("tests.experiment.searched.measurements_of", with_infinite_macs)
    page = written([make_searched_run(folder / "toy", num_trials=4)], folder)
    (shown,) = data_of(page)["runs"]
    assert all("num_macs" not in trial["values"] for trial in shown["trials"])
    assert all("inf" in trial["texts"] for trial in shown["trials"])


def test_an_inactive_dimension_is_shown_as_none(run, tmp_path):
    (shown,) = data_of(written([run], tmp_path))["runs"]
    for trial in shown["trials"]:
        is_shallow = shown["choices"][0][trial["genome"][0]] == "1"
        assert (trial["genome"][3] == -1) == is_shallow


def test_every_figure_is_one_that_plotly_knows(run, ladder, tmp_path):
    keep_reports(run, assess_predictors(run, predictors=["ridge"], sizes=[8]))
    figures = data_of(written([run], tmp_path))["figures"]
    names = {"hypervolume", "training-loss", "training-looks", "ladder-0"}
    assert figures.keys() == names | {"parity-0-top1_error", "parity-0-latency_ms"}
    for figure in figures.values():
        go.Figure(figure)  # raises for what plotly.js would silently ignore
        assert all(len(trace["x"]) == len(trace["y"]) > 0 for trace in figure["data"])


def test_a_ladders_line_joins_those_that_are_worth_their_cost(run, ladder, tmp_path):
    manifest = json.loads(ladder.read_text())
    manifest["members"][1]["latency"]["a phone"]["latency_ms"] = 0.05  # faster than the smallest
    ladder.write_text(json.dumps(manifest))
    traces = data_of(written([run], tmp_path))["figures"]["ladder-0"]["data"]
    found = {trace["name"]: (trace["mode"], trace["x"], trace["y"]) for trace in traces}
    assert found == {
        "behind a cheaper one": ("markers", [0.1], [60.0]),
        "on validation data": ("lines+markers", [0.05, 0.3], [70.0, 80.0]),
        "on test data": ("markers", [0.05, 0.1, 0.3], [60.0, 50.0, 70.0]),
    }


def test_what_a_run_does_not_have_is_left_out(run, tmp_path):
    page = written([run], tmp_path)
    assert "Nested sub-networks" not in page
    assert "<h2>Runs" not in page


def test_the_same_run_gives_the_same_page(run, tmp_path):
    assert written([run], tmp_path) == written([run], tmp_path)


@pytest.mark.parametrize("content", ["{", '{"members": []}', '{"members": [{"num_macs": "many"}]}'])
def test_a_damaged_part_is_named_and_nothing_is_written(run, ladder, tmp_path, content):
    ladder.write_text(content)
    with pytest.raises(RequestError, match=r"cannot read '.*manifest\.json'"):
        write_html_report([run], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(run, tmp_path):
    with pytest.raises(RequestError, match="cannot write"):
        write_html_report([run], tmp_path / "none" / "report.html")


def test_runs_are_compared_by_one_reference_point(run, other):
    alone, together = summarize([run]), summarize([run, other])
    assert [each["run"] for each in together] == [f"toy ({r.folder})" for r in (run, other)]
    assert together[0]["reference_point"] == together[1]["reference_point"]
    assert alone[0]["reference_point"] != together[0]["reference_point"]
    for each in together:
        assert 0 < each["hypervolume"] < 1


def test_the_hypervolume_is_that_of_the_front(run):
    losses = run.losses[np.isfinite(run.losses).all(axis=1)]
    worst, best = losses.max(axis=0), losses.min(axis=0)
    reference = worst + 0.1 * (worst - best)
    expected = hypervolume(losses, reference) / np.prod(reference - best)
    assert summarize([run])[0]["hypervolume"] == pytest.approx(expected)


def test_a_run_with_other_objectives_is_shown_without_a_hypervolume(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "counted"
    counted = make_searched_run(folder, name="counted", objectives=["top1_error", "num_macs"])
    first, second = summarize([run, counted])
    assert first["hypervolume"] is not None
    assert second["hypervolume"] is None
    assert "Runs with other objectives" in written([run, counted], folder)
