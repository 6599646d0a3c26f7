import numpy as np
import pytest

from nasbench.pareto import hypervolume
from nasbench.search import acquisition
from nasbench.search.acquisition import HypervolumeGain

FRONT = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
REFERENCE = np.array([1.1, 1.1])


def gain(measured=FRONT, seed=0):
    return HypervolumeGain(np.asarray(measured), np.random.default_rng(seed))


def known(losses):
    """Candidates of which everything is known."""
    losses = np.asarray(losses, dtype=float)
    return losses, np.zeros_like(losses)


def test_candidates_are_ordered_by_the_hypervolume_that_they_add():
    rng = np.random.default_rng(1)
    candidates = rng.uniform(-0.1, 1.0, size=(40, 2))
    whole = hypervolume(FRONT, REFERENCE)
    added = np.array(
        [hypervolume(np.vstack([FRONT, each]), REFERENCE) - whole for each in candidates]
    )
    best = gain().best(*known(candidates), 1)[0]
    assert added[best] > 0.9 * added.max()


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
def test_what_dominates_more_comes_first(num_objectives):
    measured = np.eye(num_objectives) + 0.5
    candidates = np.array([[0.6], [0.3], [0.4]]) * np.ones(num_objectives)
    assert gain(measured).best(*known(candidates), 3)[0] == 1


def test_one_objective_is_the_expected_improvement():
    means, stds = np.array([[0.1], [0.6], [2.0]]), np.array([[0.0], [2.0], [0.1]])
    measured = np.array([[0.0], [3.0]])
    assert gain(measured).best(means, stds, 3)[0] == 1, "only this one may improve"


def test_those_taken_together_are_apart():
    twins = [[0.1, 0.6], [0.1001, 0.6001], [0.6, 0.1]]
    assert set(gain().best(*known(twins), 2).tolist()) == {0, 2}


def test_what_is_being_measured_counts_as_measured():
    candidates = known([[0.1, 0.6], [0.62, 0.12]])
    assert gain().best(*candidates, 1).tolist() == [0]
    waiting = gain()
    waiting.take(*known([[0.1, 0.6]]))
    assert waiting.best(*candidates, 1).tolist() == [1]


def test_a_gain_counts_by_the_chance_to_measure_it():
    means, stds = known([[0.1, 0.3], [0.3, 0.3], [0.6, 0.1]])
    assert gain().best(means, stds, 1)[0] == 0
    assert gain().best(means, stds, 1, np.array([0.3, 0.9, 0.9]))[0] == 1
    assert set(gain().best(means, stds, 2, np.array([0.0, 0.9, 0.1])).tolist()) == {1, 2}


def test_doubt_is_a_chance():
    means = np.array([[0.5, 0.5], [0.5, 0.5]])
    stds = np.array([[0.01, 0.01], [0.3, 0.3]])
    assert gain().best(means, stds, 1).tolist() == [1]


def test_fewer_candidates_than_asked_for_are_all_taken_once():
    assert sorted(gain().best(*known([[2.0, 2.0], [0.1, 0.1]]), 9).tolist()) == [0, 1]
    many = np.random.default_rng(0).uniform(size=(acquisition._MAX_COMPARED + 50, 2))
    rows = gain().best(*known(many), 20)
    assert len(set(rows.tolist())) == 20
