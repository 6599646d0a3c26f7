"""What the pool says, and goes on doing, where workers, answers or Ray's memory fail."""

import json

import numpy as np
import pytest

from nasbench.config import ResourcesConfig
from nasbench.distributed.cluster import connected
from nasbench.distributed.pool import RayPool, ray
from nasbench.errors import WorkError
from nasbench.testing.faults import Cluster
from nasbench.testing.toys import MOBILE_SPACE, ToyRecipe
from nasbench.trials import Trial, TrialState
from tests.distributed.broken_toys import (
    Unbuildable,
    Unsendable,
    segfault_at_the_smallest_kernel,
)
from tests.distributed.test_pool import PROTOCOL, recipe
from tests.distributed.test_pool import trials as networks

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RESOURCES = ResourcesConfig(workers=2, max_retries=1, trial_timeout_s=60)


@pytest.fixture(scope="module")
def here():
    """Ray on this machine."""
    with connected(RESOURCES):
        yield


def trials(count):
    rng = np.random.default_rng(0)
    return [Trial(number=n, architecture=MOBILE_SPACE.sample(rng)) for n in range(count)]


def test_an_architecture_that_crashes_its_worker_fails_and_the_others_do_not(here):
    asked = trials(5)
    crashes = {t.number for t in asked if t.architecture["stage0.block0.kernel_size"] == 3}
    assert 0 < len(crashes) < 4
    with RayPool(ToyRecipe(before=segfault_at_the_smallest_kernel), None, RESOURCES) as pool:
        finished = {trial.number: trial for trial in pool.evaluate(asked)}
    assert set(finished) == {0, 1, 2, 3, 4}
    for number, trial in finished.items():
        if number in crashes:
            assert trial.error == "its worker died 2 times"
        else:
            assert trial.state is TrialState.COMPLETE


def test_a_worker_that_cannot_be_built_is_one_sentence(here):
    with pytest.raises(WorkError) as caught:
        RayPool(Unbuildable(), None, RESOURCES)
    assert str(caught.value).startswith("a worker cannot start: ")
    assert "the weights do not fit the supernet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_answer_that_cannot_be_sent_is_a_failed_trial(here):
    with RayPool(Unsendable(), None, RESOURCES) as pool:
        (trial,) = pool.evaluate(trials(1))
    assert trial.state is TrialState.FAILED
    assert "cannot pickle" in trial.error


@pytest.mark.parametrize(
    "error", [ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError]
)
def test_no_room_in_the_object_store_is_one_sentence(here, error, monkeypatch):
    def full(value):
        raise error("the local object store is full")

    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(WorkError, match=r"Ray has no room for the supernet.*--object-store-memory"):
        RayPool(ToyRecipe(), None, RESOURCES)


@pytest.fixture
def two_nodes(tmp_path, monkeypatch):
    """A cluster of a node that measures and one that evaluates, each with two CPUs."""
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    ray.shutdown()
    with Cluster(num_nodes=0) as cluster:
        cluster.add_node(num_cpus=2, resources={"latency_slot": 1})
        cluster.add_node(num_cpus=2)
        with connected(RESOURCES.model_copy(update={"address": cluster.address})):
            yield tmp_path / "log"


def test_workers_keep_off_the_node_that_measures_and_do_not_run_ahead(two_nodes):
    with RayPool(recipe("LoggingEngine"), PROTOCOL, RESOURCES) as pool:
        nodes = {actor.node for actor in pool._evaluators}
        assert len(nodes) == 1
        assert pool._timer.node not in nodes
        assert len(list(pool.evaluate(networks(10)))) == 10
    entries = [json.loads(line) for line in two_nodes.read_text().splitlines()]
    kinds = [entry["kind"] for entry in sorted(entries, key=lambda entry: entry["start"])]
    per_trial = kinds.count("measure") / 10
    for place in range(len(kinds)):
        num_waiting = kinds[:place].count("evaluate") - kinds[:place].count("measure") / per_trial
        assert num_waiting <= 2 * 2 + 2


def test_without_room_elsewhere_a_node_takes_turns(two_nodes):
    with RayPool(
        recipe("LoggingEngine"), PROTOCOL, RESOURCES.model_copy(update={"workers": 3})
    ) as pool:
        assert pool._timer.node in {actor.node for actor in pool._evaluators}
