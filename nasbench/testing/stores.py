"""The contract of trial stores: subclass it and give it an `open_store` fixture."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.objectives import Objective
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.store import TrialStore
from nasbench.trials import Trial, TrialState

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2)),
        ElasticDimension("block1.kernel_size", (3, 5, 7)),
        ElasticDimension("block2.kernel_size", (3, 5, 7), ActiveWhen("depth", (2,))),
    ]
)
OBJECTIVES = [Objective.of("top1_accuracy"), Objective.of("latency_ms")]
OpenStore = Callable[..., TrialStore]


def finished(trial: Trial, accuracy: float = 0.75) -> Trial:
    """The trial with measurements that floats cannot hold in few digits."""
    return trial.completed(
        {"top1_accuracy": accuracy, "latency_ms": 1 / 3, "num_macs": 12_345.0},
        {"engine": "eager", "num_threads": 1},
    )


class TrialStoreContract:
    """What every storage promises. `open_store(**changes)` opens the same storage again."""

    @pytest.fixture
    def store(self, open_store: OpenStore) -> TrialStore:
        return open_store()

    def test_a_new_store_is_empty(self, store):
        assert store.trials() == []

    def test_trials_are_numbered_in_the_order_of_proposals(self, store):
        architectures = list(SPACE.enumerate())[:4]
        proposed = store.propose(architectures)
        assert [trial.number for trial in proposed] == [0, 1, 2, 3]
        assert [trial.architecture for trial in store.trials()] == architectures
        assert {trial.state for trial in store.trials()} == {TrialState.RUNNING}

    def test_a_finished_trial_comes_back_as_it_was(self, store, open_store):
        (trial,) = store.propose([SPACE.largest])
        store.finish(finished(trial))
        for opened in (store, open_store()):
            assert opened.trials() == [finished(trial)]

    def test_a_failed_trial_keeps_its_reason(self, store):
        (trial,) = store.propose([SPACE.largest])
        store.finish(trial.failed("out of memory"))
        assert store.trials() == [trial.failed("out of memory")]

    def test_finishing_works_in_any_order_and_after_opening_again(self, store, open_store):
        proposed = store.propose(list(SPACE.enumerate())[:3])
        again = open_store()
        for trial in reversed(again.trials()):
            again.finish(finished(trial, accuracy=trial.number / 10))
        accuracies = [trial.measurements["top1_accuracy"] for trial in store.trials()]
        assert accuracies == [trial.number / 10 for trial in proposed]

    def test_a_finished_trial_cannot_be_finished_again(self, store):
        (trial,) = store.propose([SPACE.largest])
        store.finish(finished(trial))
        with pytest.raises(RequestError, match="finished before"):
            store.finish(finished(trial, accuracy=0.1))
        assert store.trials() == [finished(trial)]

    def test_an_unfinished_trial_cannot_be_finished(self, store):
        (trial,) = store.propose([SPACE.largest])
        with pytest.raises(RequestError, match="running"):
            store.finish(trial)

    def test_a_trial_without_an_objective_is_refused(self, store):
        (trial,) = store.propose([SPACE.largest])
        with pytest.raises(RequestError, match="no value for latency_ms"):
            store.finish(trial.completed({"top1_accuracy": 0.5}))
        assert store.trials() == [trial]

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"space": SearchSpace([ElasticDimension("depth", (1, 2, 3))])}, "space"),
            ({"objectives": OBJECTIVES[::-1]}, "objectives"),
            ({"objectives": OBJECTIVES[:1]}, "objectives"),
            ({"objectives": [replace(OBJECTIVES[0], direction="minimize")]}, "objectives"),
            ({"fingerprint": "another supernet"}, "fingerprint"),
        ],
    )
    def test_trials_of_another_search_are_refused(self, store, open_store, change, named):
        store.propose([SPACE.smallest])
        with pytest.raises(RequestError, match=named):
            open_store(**change)
        assert len(open_store().trials()) == 1

    def test_one_process_at_a_time_writes(self, store, open_store):
        with store.claimed():
            other = open_store(heartbeat_s=0.4)
            with pytest.raises(RequestError, match="this process has claimed"), store.claimed():
                pass
            (trial,) = store.propose([SPACE.largest])
            store.finish(finished(trial))
        with other.claimed():
            assert other.trials() == [finished(trial)]

    def test_every_architecture_survives(self, store):
        architectures = [SPACE.sample(np.random.default_rng(seed)) for seed in range(12)]
        store.propose(architectures)
        assert [trial.architecture for trial in store.trials()] == architectures
