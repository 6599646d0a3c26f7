"""Screening: fewer full evaluations, and a front of nothing else."""

import hashlib

import numpy as np
import pytest

from nasbench.objectives import Constraint, Objective, losses_of
from nasbench.pareto import dominates, non_dominated
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.loop import run_search
from nasbench.search.screening import Screening
from nasbench.store import TrialStore
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem
from nasbench.trials import CHEAP, FULL, Trial, TrialState
from tests.search.finishing import in_any_order

TOY = ToyProblem(MOBILE_SPACE)


def error_of(architecture):
    return 0.5 + 0.1 * float(TOY.losses(MOBILE_SPACE.to_genome(architecture)[None])[0, 0])


def macs_of(architecture):
    return 1e6 * (10 + float(TOY.losses(MOBILE_SPACE.to_genome(architecture)[None])[0, 1]))


def noise_of(architecture):
    """The same for an architecture whenever it is asked for, within -1 and 1."""
    number = int.from_bytes(hashlib.sha256(architecture.id.encode()).digest()[:4])
    return 2 * np.random.default_rng(number).random() - 1


class Stopped(BaseException):
    """As if the process were killed here."""


class Bench:
    """Evaluates at the fidelity that is asked for, in some order, and can stop."""

    def __init__(self, noise=0.01, order_seed=0, stop_after=None, fails=lambda _: False):
        self.calls = []
        self.noise, self.stop_after, self.fails = noise, stop_after, fails
        self.rng = np.random.default_rng(order_seed)

    def __call__(self, trials):
        for trial in in_any_order(trials, self.rng):
            if len(self.calls) == self.stop_after:
                raise Stopped
            self.calls.append((trial.number, trial.fidelity))
            if self.fails(trial.architecture):
                yield trial.failed("it cannot be measured")
                continue
            error = error_of(trial.architecture)
            if trial.fidelity == CHEAP:
                error += self.noise * noise_of(trial.architecture)
            yield trial.completed({"top1_error": error, "num_macs": macs_of(trial.architecture)})


def problem(*constraints):
    return SearchProblem(
        MOBILE_SPACE,
        [Objective.of("top1_error"), Objective.of("num_macs")],
        constraints=[Constraint.parse(text) for text in constraints],
        counted={"num_macs": macs_of},
    )


def search(bench, store=None, asked=None, seed=0, num_trials=62, concurrent_batches=1):
    asked = asked or problem()
    store = store or TrialStore(None, MOBILE_SPACE, asked.objectives)
    initial = (MOBILE_SPACE.largest, MOBILE_SPACE.smallest)
    batches = {"batch_size": 10, "concurrent_batches": concurrent_batches}
    screening = Screening(asked, bench, store.trials, num_initial=len(initial), **batches)
    return run_search(
        asked,
        ALGORITHMS["nsga2"](asked, seed=seed, population=10),
        store,
        screening.evaluate,
        num_trials=num_trials,
        **batches,
        initial=initial,
        max_consecutive_failures=num_trials,
    )


def losses(trials):
    return losses_of(problem().objectives, [trial.measurements for trial in trials])


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_front_is_fully_evaluated(noise, seed):
    trials = search(Bench(noise), seed=seed)
    on_front = non_dominated(losses(trials))
    assert {t.fidelity for t, is_on in zip(trials, on_front, strict=True) if is_on} == {FULL}


def test_what_is_left_cheap_is_dominated_and_was_evaluated_once():
    bench = Bench()
    trials = search(bench)
    full = [trial for trial in trials if trial.fidelity == FULL]
    cheap = [trial for trial in trials if trial.fidelity == CHEAP]
    assert len(cheap) > len(trials) / 4, "or there is nothing to gain"
    for trial, row in zip(cheap, losses(cheap), strict=True):
        assert any(dominates(other, row) for other in losses(full))
        assert [f for number, f in bench.calls if number == trial.number] == [CHEAP]
    for trial in full:
        assert trial.measurements["top1_error"] == error_of(trial.architecture)
        assert [f for number, f in bench.calls if number == trial.number] == [CHEAP, FULL]


def test_exact_screening_loses_nothing_of_the_front():
    """Without noise every trial has its full values, so the front is that of full evaluations."""
    trials = search(Bench(noise=0.0))
    full = [trial for trial in trials if trial.fidelity == FULL]
    exact = np.array([[error_of(t.architecture), macs_of(t.architecture)] for t in trials])
    front = exact[non_dominated(exact)]
    found = losses(full)[non_dominated(losses(full))]
    assert sorted(map(tuple, found)) == sorted(map(tuple, front))


def test_the_more_a_cheap_evaluation_is_off_the_less_it_decides():
    counts = [
        sum(trial.fidelity == CHEAP for trial in search(Bench(noise)))
        for noise in (0.001, 0.02, 0.5)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_none_is_judged_before_enough_were_evaluated_both_ways():
    trials = search(Bench())
    assert {trial.fidelity for trial in trials[:12]} == {FULL}


def test_the_order_in_which_workers_finish_changes_nothing():
    assert search(Bench(order_seed=1)) == search(Bench(order_seed=2))


@pytest.mark.parametrize("concurrent_batches", [1, 2, 3])
@pytest.mark.parametrize("stop_after", [3, 30, 55, 75])
def test_a_killed_search_ends_as_one_that_was_not(stop_after, concurrent_batches):
    store = TrialStore(None, MOBILE_SPACE, problem().objectives)
    batches = {"concurrent_batches": concurrent_batches}
    with pytest.raises(Stopped):
        search(Bench(stop_after=stop_after), store, **batches)
    assert search(Bench(order_seed=5), store, **batches) == search(Bench(), **batches)


def test_what_violates_a_counted_constraint_is_left_cheap():
    known = search(Bench(), num_trials=12)
    best = min(known, key=lambda trial: trial.measurements["top1_error"]).architecture
    proposed = min(MOBILE_SPACE.neighbors(best), key=error_of)
    for bound, fidelity in ((macs_of(proposed), FULL), (macs_of(proposed) - 1, CHEAP)):
        asked = problem(f"num_macs <= {bound}")
        screening = Screening(asked, Bench(), lambda: known, num_initial=2, batch_size=10)
        (trial,) = screening.evaluate([Trial(number=12, architecture=proposed)])
        assert trial.fidelity == fidelity


def test_a_failure_is_one_trial_and_no_evidence():
    fails = lambda architecture: noise_of(architecture) > 0.6  # noqa: E731
    trials = search(Bench(fails=fails))
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    assert failed
    assert all(trial.error == "it cannot be measured" for trial in failed)
    assert len(trials) == 62
