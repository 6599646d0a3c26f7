"""The pool on real Ray processes: same numbers as without, and what happens when workers die."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nasbench.config import EvaluationConfig, ResourcesConfig
from nasbench.distributed.cluster import check_address, connected
from nasbench.distributed.pool import LocalPool, RayPool
from nasbench.errors import RequestError, WorkError
from nasbench.evaluation import EvaluatorRecipe
from nasbench.hardware import LatencyProtocol
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS
from nasbench.trials import Trial, TrialState

RESOURCES = ResourcesConfig(workers=2, max_retries=2, trial_timeout_s=60)
PROTOCOL = LatencyProtocol(num_warmup=1, num_repeats=3)
SUPERNET = SUPERNETS["mobilenet_v3"].build()


def recipe(engine=None):
    return EvaluatorRecipe(
        supernet_settings=SUPERNET.settings,
        weights={name: tensor.numpy() for name, tensor in SUPERNET.state_dict().items()},
        task=TASKS["digits"](None),
        config=EvaluationConfig(calibration_samples=64, batch_size=360),
        engine=engine and (engine if engine == "eager" else f"tests.distributed.probes:{engine}"),
    )


def trials(count):
    rng = np.random.default_rng(0)
    return [Trial(number=n, architecture=SUPERNET.space.sample(rng)) for n in range(count)]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Where probes write; set before Ray starts, so that its workers inherit it."""
    path = tmp_path_factory.mktemp("probes") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_LOG", str(path))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield path


@pytest.fixture(scope="module")
def ray_session(log):
    with connected(RESOURCES):
        yield


@pytest.fixture
def pool(ray_session):
    """Opens pools and closes them at the end."""
    opened = []

    def open_pool(engine=None, resources=RESOURCES):
        opened.append(RayPool(recipe(engine), PROTOCOL, resources))
        return opened[-1]

    yield open_pool
    for each in opened:
        each.close()


@pytest.mark.ray
class TestRayPool:
    def test_gives_the_numbers_of_the_calling_process(self, pool):
        local = {t.number: t for t in LocalPool(recipe(), None).evaluate(trials(5))}
        remote = {t.number: t for t in pool().evaluate(trials(5))}
        assert remote == local
        assert all(trial.state is TrialState.COMPLETE for trial in remote.values())

    def test_trials_can_be_added_until_the_last_is_finished(self, pool):
        for opened in (pool(), LocalPool(recipe(), None)):
            asked = trials(2)
            numbers = []
            for trial in opened.evaluate(asked):
                numbers.append(trial.number)
                if len(asked) < 6:
                    asked += trials(6)[len(asked) : len(asked) + 2]
            assert sorted(numbers) == list(range(6))

    def test_what_is_measured_when_the_work_ends_is_kept(self, pool):
        opened = pool()
        answers = opened._answers

        def last_answers(in_flight):
            yield from answers(in_flight)
            raise WorkError("no worker is left")

        opened._answers = last_answers  # as where the last one dies for good at that moment
        kept = []
        with pytest.raises(WorkError, match="no worker is left"):
            kept.extend(opened.evaluate(trials(4)))
        assert kept
        assert all(trial.state is TrialState.COMPLETE for trial in kept)

    def test_latency_comes_with_its_conditions(self, pool):
        (trial,) = pool("eager").evaluate(trials(1))
        assert 0 < trial.measurements["latency_ms"] <= trial.measurements["latency_p90_ms"]
        assert trial.provenance["engine"] == "eager"
        assert trial.provenance["num_repeats"] == 3

    def test_nothing_else_runs_while_latency_is_measured(self, pool, log):
        finished = list(pool("LoggingEngine").evaluate(trials(6)))
        assert len(finished) == 6
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        entries.sort(key=lambda entry: entry["start"])
        assert {entry["kind"] for entry in entries} == {"evaluate", "measure"}
        assert len({e["process"] for e in entries if e["kind"] == "evaluate"}) == 2
        for first, second in pairwise(entries):
            if "measure" in (first["kind"], second["kind"]):
                assert first["end"] <= second["start"]

    def test_a_killed_workers_trial_is_tried_again(self, pool):
        finished = list(pool("OnceDyingEngine").evaluate(trials(4)))
        assert sorted(trial.number for trial in finished) == [0, 1, 2, 3]
        assert all(trial.state is TrialState.COMPLETE for trial in finished)

    def test_a_hanging_worker_is_replaced(self, pool):
        impatient = RESOURCES.model_copy(update={"trial_timeout_s": 2.0})
        finished = list(pool("OnceHangingEngine", impatient).evaluate(trials(3)))
        assert sorted(trial.number for trial in finished) == [0, 1, 2]
        assert all(trial.state is TrialState.COMPLETE for trial in finished)

    def test_an_architecture_that_always_kills_its_worker_fails(self, pool):
        (trial,) = pool("DyingEngine").evaluate(trials(1))
        assert trial.state is TrialState.FAILED
        assert trial.error == "its worker died 3 times"

    def test_an_error_is_recorded_in_one_line(self, pool):
        finished = list(pool("RaisingEngine").evaluate(trials(2)))
        assert {t.error for t in finished} == {"ValueError: this network cannot be compiled"}

    def test_too_few_cpus_are_one_sentence(self, ray_session):
        with pytest.raises(RequestError, match="64 workers of 1 CPUs each do not fit"):
            RayPool(recipe(), None, ResourcesConfig(workers=64))


def test_the_calling_process_records_errors_too():
    (trial,) = LocalPool(recipe("RaisingEngine"), PROTOCOL).evaluate(trials(1))
    assert trial.error == "ValueError: this network cannot be compiled"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_that_does_not_answer_is_one_sentence(address):
    with pytest.raises(RequestError, match="no Ray cluster answers at"):
        check_address(address)


@pytest.mark.parametrize("address", ["", "somewhere", "host:port"])
def test_a_text_that_is_no_address_is_one_sentence(address):
    with pytest.raises(RequestError, match="is no Ray address"):
        check_address(address)
