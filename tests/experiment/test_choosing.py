"""Which sub-network is shipped: by name, by constraint, by what a device takes."""

import pytest

from nasbench.errors import RequestError
from nasbench.experiment.choosing import PICKS
from tests.experiment.searched import make_searched_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_searched_run(tmp_path_factory.mktemp("choosing") / "run")


def test_the_fastest_and_the_most_accurate_are_ends_of_the_front(run):
    front = [trial.measurements for trial in run.pareto_front()]
    fastest = run.select(pick="fastest").measurements
    assert fastest["latency_ms"] == min(found["latency_ms"] for found in front)
    accurate = run.select(pick="most-accurate").measurements
    assert accurate["top1_error"] == min(found["top1_error"] for found in front)
    assert accurate["latency_ms"] > fastest["latency_ms"]


def test_the_most_accurate_is_so_whatever_comes_first(tmp_path):
    run = make_searched_run(tmp_path / "run", objectives=["latency_ms", "top1_error"])
    assert run.select(pick="best") == run.select(pick="fastest")
    front = [trial.measurements["top1_error"] for trial in run.pareto_front()]
    assert run.select(pick="most-accurate").measurements["top1_error"] == min(front)


def test_several_bounds_at_once(run):
    found = run.select("latency_ms <= 0.8 and top1_accuracy >= 0.85").measurements
    assert found["latency_ms"] <= 0.8
    assert found["top1_accuracy"] >= 0.85
    least = run.select(pick="fastest").measurements["latency_ms"]
    most = run.select(pick="most-accurate").measurements["top1_accuracy"]
    with pytest.raises(RequestError, match="at once"):
        run.select(f"latency_ms <= {least} and top1_accuracy >= {most}")


def test_costs_alone_say_nothing_of_accuracy(tmp_path):
    run = make_searched_run(tmp_path / "run", objectives=["num_macs"], constraints=[], num_trials=8)
    with pytest.raises(RequestError, match="none of the search's objectives says how good"):
        run.select(pick="most-accurate")


def test_every_name_is_offered(run):
    with pytest.raises(RequestError, match=f"give {', '.join(PICKS)}, or an id"):
        run.select(pick="quickest")
