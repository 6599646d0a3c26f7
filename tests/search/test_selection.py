import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.pareto import dominates
from nasbench.search.selection import best_rows, diverse_rows, feasible_first_ranks

NOTHING = np.empty((0, 2))


@st.composite
def candidates(draw):
    """Losses and violations on coarse grids, so that ties are common."""
    count, num_objectives = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    losses = rng.integers(0, 4, size=(count, num_objectives)).astype(float)
    return losses, np.maximum(rng.integers(-3, 3, size=count), 0).astype(float)


def precedes(losses, violations, a, b):
    """Constrained dominance, by its definition."""
    if violations[a] != violations[b]:
        return violations[a] < violations[b]
    return violations[a] == 0 and dominates(losses[a], losses[b])


@given(candidates())
@settings(max_examples=60)
def test_ranks_agree_with_the_definition_of_constrained_dominance(candidates):
    losses, violations = candidates
    expected, rest, rank = np.zeros(len(losses), dtype=int), set(range(len(losses))), 0
    while rest:
        rank += 1
        front = {b for b in rest if not any(precedes(losses, violations, a, b) for a in rest)}
        expected[list(front)] = rank
        rest -= front
    assert feasible_first_ranks(losses, violations).tolist() == expected.tolist()


@given(candidates(), st.integers(1, 14))
@settings(max_examples=60)
def test_no_better_rank_is_left_out(candidates, count):
    losses, violations = candidates
    ranks = feasible_first_ranks(losses, violations)
    for rows in (
        best_rows(losses, violations, count),
        diverse_rows(losses, violations, count, np.empty((0, losses.shape[1]))),
    ):
        assert len(set(rows.tolist())) == len(rows) == min(count, len(losses))
        assert sorted(ranks[rows]) == sorted(ranks)[: len(rows)]


def test_the_best_come_first():
    losses = np.array([[3.0, 3.0], [0.0, 4.0], [1.0, 2.0], [1.1, 1.9], [4.0, 0.0]])
    assert best_rows(losses, np.zeros(5), 3).tolist()[:2] == [1, 4]
    assert best_rows(losses, np.array([0.0, 0, 9, 9, 9]), 3).tolist() == [0, 1, 2]


def test_a_front_is_taken_in_its_breadth():
    position = np.concatenate([np.linspace(0, 0.1, 50), [0.5, 1.0]])
    losses = np.column_stack([position, 1 - position])
    assert set(diverse_rows(losses, np.zeros(52), 3, NOTHING)) == {0, 50, 51}


def test_what_was_taken_before_is_kept_away_from():
    position = np.linspace(0, 1, 11)
    losses = np.column_stack([position, 1 - position])
    assert diverse_rows(losses, np.zeros(11), 1, losses[:1]).tolist() == [10]
    assert diverse_rows(losses, np.zeros(11), 1, losses[[0, 10]]).tolist() == [5]


@pytest.mark.parametrize("count", [1, 4])
def test_points_that_coincide_are_different_rows(count):
    rows = diverse_rows(np.ones((6, 2)), np.zeros(6), count, NOTHING)
    assert len(set(rows.tolist())) == count
