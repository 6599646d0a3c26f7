"""The search loop: nothing is evaluated twice, nothing finished is lost, a resumed search equals
an uninterrupted one."""

import numpy as np
import pytest

from nasbench.errors import MissingExtraError, WorkError
from nasbench.objectives import Objective
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.loop import run_search
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.store import TrialStore
from nasbench.trials import TrialState
from tests.search.finishing import in_any_order

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2, 3)),
        *(
            ElasticDimension(
                f"block{block}.{name}",
                (1, 2, 3),
                ActiveWhen("depth", tuple(range(block, 4))) if block > 1 else None,
            )
            for block in (1, 2, 3)
            for name in ("kernel", "expansion")
        ),
    ]
)
OBJECTIVES = [Objective("top1_error", "minimize"), Objective("latency_ms", "minimize")]
PROBLEM = SearchProblem(SPACE, OBJECTIVES)


# Small enough that the algorithms have learned something before the budgets here are spent.
OPTIONS = {
    "linas": {"num_initial": 8, "num_inner_evaluations": 500},
    "weaknas": {"num_initial": 8, "pool_size": 500, "predictors": ["ridge"]},
    "attentive_pareto": {"num_initial": 8},
    "gp": {"num_initial": 24},
    "local_search": {"num_initial": 8},
} | {
    name: {"population": 8}
    for name in (
        *("nsga2", "nsga3", "unsga3", "agemoea2", "smsemoa", "rvea", "moead", "spea2"),
        *("optuna_nsga2", "regularized_evolution"),
    )
}
NIGHTLY = ("agemoea2", "gp")  # numba compiles for seconds, a Gaussian process fits for seconds


class Stopped(BaseException):
    """As if the process were killed here."""


class Bench:
    """Evaluates from a formula, remembers what it evaluated, and can stop or fail on demand."""

    def __init__(self, stop_after=None, fails=lambda _: False, order_seed=0):
        self.evaluated = []
        self.stop_after, self.fails = stop_after, fails
        self.rng = np.random.default_rng(order_seed)

    def __call__(self, trials):
        for trial in in_any_order(trials, self.rng):
            if len(self.evaluated) == self.stop_after:
                raise Stopped
            self.evaluated.append(trial.architecture)
            if self.fails(trial.architecture):
                yield trial.failed("no room")
                continue
            genome = SPACE.to_genome(trial.architecture)
            cost = float(genome.sum())
            error = float(np.cos(genome * np.arange(1, 8)).sum() / (1 + cost))
            yield trial.completed({"top1_error": error, "latency_ms": cost})


def search(store, bench, algorithm="random", num_trials=40, batch_size=8, **options):
    return run_search(
        PROBLEM,
        ALGORITHMS[algorithm](PROBLEM, seed=1, **OPTIONS.get(algorithm, {})),
        store,
        bench,
        num_trials=num_trials,
        batch_size=batch_size,
        **options,
    )


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.nightly if name in NIGHTLY else ())
        for name in sorted(ALGORITHMS)
    ]
)
def algorithm(request):
    try:
        ALGORITHMS[request.param](PROBLEM)
    except MissingExtraError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def store():
    return TrialStore(None, SPACE, OBJECTIVES)


def test_the_budget_is_counted_exactly(store):
    bench = Bench()
    trials = search(store, bench, num_trials=21, batch_size=8)
    assert len(trials) == len(bench.evaluated) == len(set(bench.evaluated)) == 21
    assert trials == store.trials()


def test_a_trial_is_in_the_store_before_it_is_told(store):
    bench = Bench()

    class Watching(ALGORITHMS["random"]):
        def tell(self, architectures, losses, violations=None):
            kept = {t.architecture for t in store.trials() if t.state is TrialState.COMPLETE}
            assert set(architectures) <= kept
            super().tell(architectures, losses, violations)

    run_search(PROBLEM, Watching(PROBLEM), store, bench, num_trials=8, batch_size=4)


@pytest.mark.parametrize("stop_after", [0, 5, 8, 19, 31])
def test_a_resumed_search_equals_an_uninterrupted_one(store, algorithm, stop_after):
    whole = search(TrialStore(None, SPACE, OBJECTIVES), Bench(), algorithm)
    killed, resumed = Bench(stop_after=stop_after), Bench()
    with pytest.raises(Stopped):
        search(store, killed, algorithm)
    assert search(store, resumed, algorithm) == whole
    assert len(killed.evaluated + resumed.evaluated) == len(whole), "nothing is measured twice"


@pytest.mark.parametrize("concurrent_batches", [2, 3])
@pytest.mark.parametrize("stop_after", [1, 9, 19, 31])
def test_a_resumed_search_of_concurrent_batches_equals_an_uninterrupted_one(
    store, algorithm, stop_after, concurrent_batches
):
    options = {"concurrent_batches": concurrent_batches, "initial": (SPACE.largest, SPACE.smallest)}
    whole = search(TrialStore(None, SPACE, OBJECTIVES), Bench(), algorithm, **options)
    killed, resumed = Bench(stop_after=stop_after), Bench(order_seed=1)
    with pytest.raises(Stopped):
        search(store, killed, algorithm, **options)
    assert search(store, resumed, algorithm, **options) == whole, "in whatever order they finish"
    assert len(killed.evaluated + resumed.evaluated) == len(whole), "nothing is measured twice"


@pytest.mark.parametrize("concurrent_batches", [1, 2, 3])
def test_so_many_batches_are_evaluated_at_a_time(store, concurrent_batches):
    num_unfinished = []

    class Watching(ALGORITHMS["random"]):
        def ask(self, count):
            proposals = super().ask(count)
            num_unfinished.append(sum(not t.state.is_finished for t in store.trials()))
            return proposals

    run_search(
        PROBLEM,
        Watching(PROBLEM),
        store,
        Bench(),
        num_trials=48,
        batch_size=8,
        concurrent_batches=concurrent_batches,
    )
    assert max(num_unfinished) == 8 * (concurrent_batches - 1)


@pytest.mark.parametrize("num_committed", range(1, 8))
def test_a_search_killed_while_it_proposes_equals_an_uninterrupted_one(
    store, num_committed, monkeypatch
):
    whole = search(TrialStore(None, SPACE, OBJECTIVES), Bench(), "nsga2", num_trials=24)
    propose = TrialStore.propose

    def stopping(self, architectures):
        if len(self.trials()) < 8:
            return propose(self, architectures)
        propose(self, architectures[:num_committed])
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(TrialStore, "propose", stopping)
        with pytest.raises(Stopped):
            search(store, Bench(), "nsga2", num_trials=24)
    assert len(store.trials()) == 8 + num_committed
    assert search(store, Bench(), "nsga2", num_trials=24) == whole


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 9, 12])
def test_initial_architectures_come_first_and_count(store, stop_after):
    initial = (SPACE.largest, SPACE.smallest)
    whole = search(TrialStore(None, SPACE, OBJECTIVES), Bench(), "nsga2", 20, initial=initial)
    assert [trial.architecture for trial in whole[:2]] == list(initial)
    assert len({trial.architecture for trial in whole}) == len(whole) == 20
    with pytest.raises(Stopped):
        search(store, Bench(stop_after=stop_after), "nsga2", 20, initial=initial)
    assert search(store, Bench(), "nsga2", 20, initial=initial) == whole


def test_a_finished_search_evaluates_nothing(store):
    first = search(store, Bench())
    again = Bench()
    assert search(store, again) == first
    assert again.evaluated == []


def test_a_larger_budget_carries_on(store):
    first = search(store, Bench(), num_trials=12)
    bench = Bench()
    longer = search(store, bench, num_trials=30)
    assert longer[:12] == first
    assert len(bench.evaluated) == 18


def test_an_exhausted_space_ends_the_search():
    space = SearchSpace([ElasticDimension("depth", (1, 2, 3))])
    problem = SearchProblem(space, [OBJECTIVES[1]])
    store = TrialStore(None, space, problem.objectives)

    def evaluate(trials):
        for trial in trials:
            yield trial.completed({"latency_ms": float(trial.architecture["depth"])})

    algorithm = ALGORITHMS["random"](problem)
    trials = run_search(problem, algorithm, store, evaluate, num_trials=20, batch_size=2)
    assert [trial.architecture for trial in trials] == list({t.architecture: 0 for t in trials})
    assert len(trials) == 3


def test_a_failed_trial_is_recorded_and_the_search_goes_on(store, algorithm):
    bench = Bench(fails=lambda architecture: architecture["block1.kernel"] == 3)
    trials = search(store, bench, algorithm, max_consecutive_failures=40)
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    assert failed
    assert {trial.error for trial in failed} == {"no room"}
    assert len(set(bench.evaluated)) == len(trials) == 40


def test_many_failures_in_a_row_stop_the_search(store):
    with pytest.raises(WorkError, match="4 trials in a row failed, the last with: no room"):
        search(store, Bench(fails=lambda _: True), max_consecutive_failures=4)
    states = [trial.state for trial in store.trials()]
    assert states.count(TrialState.FAILED) == 4


def test_each_finished_trial_is_announced_once(store):
    announced = []
    trials = search(store, Bench(), num_trials=16, on_trial=announced.append)
    assert sorted(announced, key=lambda trial: trial.number) == trials
