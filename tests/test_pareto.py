from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from nasbench import pareto
from nasbench.errors import RequestError

FUNCTIONS = {
    "non_dominated": pareto.non_dominated,
    "non_domination_ranks": pareto.non_domination_ranks,
    "crowding_distance": pareto.crowding_distance,
    "hypervolume": lambda losses: pareto.hypervolume(losses, np.full(np.shape(losses)[-1], 9.0)),
    "knee_index": pareto.knee_index,
}


def points(min_points=0, max_points=8, min_objectives=1, max_objectives=4):
    """Small sets on a coarse grid, so that ties and equal points are common."""
    shapes = st.tuples(
        st.integers(min_points, max_points), st.integers(min_objectives, max_objectives)
    )
    return shapes.flatmap(
        lambda shape: st_numpy.arrays(np.float64, shape, elements=st.sampled_from([0, 1, 2, 3]))
    )


def dominates_by_definition(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def front_by_definition(losses):
    return [not any(dominates_by_definition(b, a) for b in losses) for a in losses]


def ranks_by_definition(losses):
    ranks = np.zeros(len(losses), dtype=int)
    rank = 1
    while (ranks == 0).any():
        left = np.flatnonzero(ranks == 0)
        ranks[left[front_by_definition(losses[left])]] = rank
        rank += 1
    return ranks


def volume_by_inclusion_and_exclusion(losses, reference):
    """Each point dominates the box between itself and the reference; boxes meet in boxes."""
    volume = 0.0
    for count in range(1, len(losses) + 1):
        for subset in combinations(losses, count):
            sides = np.clip(reference - np.max(subset, axis=0), 0, None)
            volume -= (-1) ** count * np.prod(sides)
    return volume


class TestDominance:
    @given(points(min_points=2, max_points=2))
    def test_dominates_is_its_definition(self, losses):
        a, b = losses
        assert pareto.dominates(a, b) == dominates_by_definition(a, b)
        assert not (pareto.dominates(a, b) and pareto.dominates(b, a))
        assert not pareto.dominates(a, a)

    @given(points())
    def test_non_dominated_is_its_definition(self, losses):
        mask = pareto.non_dominated(losses)
        assert mask.dtype == bool
        assert mask.tolist() == front_by_definition(losses)

    @given(points())
    def test_ranks_are_their_definition(self, losses):
        ranks = pareto.non_domination_ranks(losses)
        assert ranks.dtype == np.int64
        assert ranks.tolist() == ranks_by_definition(losses).tolist()

    @given(points())
    def test_the_first_rank_is_the_front(self, losses):
        first = pareto.non_domination_ranks(losses) == 1
        assert first.tolist() == pareto.non_dominated(losses).tolist()

    def test_equal_points_all_stay(self):
        losses = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
        assert pareto.non_dominated(losses).tolist() == [True, True, True, False]
        assert pareto.non_domination_ranks(losses).tolist() == [1, 1, 1, 2]

    def test_one_objective_ranks_by_value(self):
        losses = np.array([[3.0], [1.0], [2.0], [1.0]])
        assert pareto.non_domination_ranks(losses).tolist() == [3, 1, 2, 1]
        assert pareto.non_dominated(losses).tolist() == [False, True, False, True]

    def test_an_infinite_loss_is_worse_than_any_other(self):
        losses = np.array([[np.inf, 1.0], [2.0, 1.0], [1.0, np.inf]])
        assert pareto.non_dominated(losses).tolist() == [False, True, True]
        assert pareto.non_domination_ranks(losses).tolist() == [2, 1, 1]


class TestCrowdingDistance:
    def test_hand_made_case(self):
        losses = np.array([[2.0, 1.0], [0.0, 8.0], [1.0, 2.0], [4.0, 0.0]])
        #                   middle      end         middle      end
        expected = [(4 - 1) / 4 + (2 - 0) / 8, np.inf, (2 - 0) / 4 + (8 - 1) / 8, np.inf]
        np.testing.assert_allclose(pareto.crowding_distance(losses), expected)

    @given(points(max_points=2))
    def test_up_to_two_points_are_all_ends(self, losses):
        assert np.isinf(pareto.crowding_distance(losses)).all()

    @given(points(min_points=1))
    def test_each_objective_has_its_ends(self, losses):
        distance = pareto.crowding_distance(losses)
        assert (distance >= 0).all()
        for values in losses.T:
            assert np.isinf(distance[values == values.min()]).any()
            assert np.isinf(distance[values == values.max()]).any()

    def test_equal_points_between_the_ends_are_crowded(self):
        losses = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        assert pareto.crowding_distance(losses)[2] == 0

    def test_an_objective_without_extent_says_nothing(self):
        losses = np.array([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0], [4.0, 5.0]])
        np.testing.assert_allclose(pareto.crowding_distance(losses), [np.inf, 0.75, 0.75, np.inf])

    @given(st.permutations(range(5)), st.sampled_from([0.5, 2.0, 1024.0]))
    def test_order_and_scale_do_not_matter(self, order, scale):
        losses = np.array([[0.0, 9.0], [1.0, 5.0], [2.0, 4.0], [5.0, 3.0], [9.0, 0.0]])
        distance = pareto.crowding_distance(losses)
        changed = pareto.crowding_distance(losses[order] * [1.0, scale] + [7.0, 0.0])
        np.testing.assert_allclose(changed, distance[order])


class TestHypervolume:
    @pytest.mark.parametrize(
        ("losses", "reference", "volume"),
        [
            ([[0.25, 0.5]], [1.0, 1.0], 0.375),
            ([[1.0, 2.0], [2.0, 1.0]], [3.0, 3.0], 3.0),
            ([[1.0, 2.0], [2.0, 1.0], [2.5, 2.5]], [3.0, 3.0], 3.0),
            ([[0.0, 0.0, 0.0]], [1.0, 2.0, 3.0], 6.0),
            ([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [2.0, 2.0, 2.0], 5.0),
            ([[2.0], [1.5]], [3.0], 1.5),
            ([[3.0, 1.0]], [3.0, 3.0], 0.0),
            ([[4.0, 1.0]], [3.0, 3.0], 0.0),
        ],
    )
    def test_hand_made_cases(self, losses, reference, volume):
        found = pareto.hypervolume(np.array(losses), np.array(reference))
        assert found == pytest.approx(volume)
        assert isinstance(found, float)

    @given(points(max_points=6), st.sampled_from([1.5, 2.0, 3.0, 4.5]))
    def test_equals_inclusion_and_exclusion(self, losses, bound):
        reference = np.full(losses.shape[1], bound)
        assert pareto.hypervolume(losses, reference) == pytest.approx(
            volume_by_inclusion_and_exclusion(losses, reference), abs=1e-9
        )

    @given(points(min_points=1))
    def test_another_point_never_shrinks_it(self, losses):
        reference = np.full(losses.shape[1], 2.5)
        all_but_last = pareto.hypervolume(losses[:-1], reference)
        assert pareto.hypervolume(losses, reference) >= all_but_last - 1e-12

    @given(points(min_points=1))
    def test_dominated_points_add_nothing(self, losses):
        reference = np.full(losses.shape[1], 2.5)
        front = losses[pareto.non_dominated(losses)]
        assert pareto.hypervolume(losses, reference) == pytest.approx(
            pareto.hypervolume(front, reference)
        )

    @given(points(min_points=2), st.randoms(use_true_random=False))
    def test_the_order_of_points_and_objectives_does_not_matter(self, losses, random):
        rows, columns = list(range(len(losses))), list(range(losses.shape[1]))
        random.shuffle(rows)
        random.shuffle(columns)
        reference = np.linspace(2.0, 4.0, losses.shape[1])
        assert pareto.hypervolume(losses[rows][:, columns], reference[columns]) == pytest.approx(
            pareto.hypervolume(losses, reference)
        )

    @given(points(min_points=1), st.sampled_from([1e-3, 0.5, 3.0, 1e6]))
    def test_scales_with_each_objective(self, losses, scale):
        factors = scale ** np.arange(1, losses.shape[1] + 1)
        reference = np.full(losses.shape[1], 2.5)
        scaled = pareto.hypervolume(losses * factors + 1.0, reference * factors + 1.0)
        expected = pareto.hypervolume(losses, reference) * factors.prod()
        assert scaled == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("reference", [[1.0], [1.0, 1.0, 1.0], [[1.0, 1.0]], 1.0])
    def test_a_reference_of_another_shape_is_refused(self, reference):
        with pytest.raises(RequestError) as error:
            pareto.hypervolume(np.zeros((3, 2)), reference)
        assert str(error.value) == (
            "expected a reference point of shape (2,), one value per objective, "
            f"but it had shape {np.shape(reference)}"
        )

    def test_a_reference_that_is_no_number_is_refused(self):
        with pytest.raises(RequestError, match="objective 1 of the reference point is nan"):
            pareto.hypervolume(np.zeros((3, 2)), np.array([1.0, np.nan]))


class TestKnee:
    def test_an_l_shaped_front_bends_at_its_corner(self):
        losses = np.array([[0.0, 10.0], [0.2, 5.0], [1.0, 1.0], [5.0, 0.2], [10.0, 0.0]])
        assert pareto.knee_index(losses) == 2

    def test_units_do_not_matter(self):
        losses = np.array([[0.0, 10.0], [0.2, 5.0], [1.0, 1.0], [5.0, 0.2], [10.0, 0.0]])
        assert pareto.knee_index(losses * [1e-6, 1e9] + [3.0, -5.0]) == 2

    def test_dominated_points_do_not_shape_it(self):
        front = np.array([[0.0, 10.0], [1.0, 1.0], [10.0, 0.0]])
        far = np.array([[1e9, 11.0]])
        assert pareto.knee_index(np.concatenate([far, front])) == 2

    @given(points(min_points=1))
    def test_is_non_dominated(self, losses):
        assert pareto.non_dominated(losses)[pareto.knee_index(losses)]

    @given(points(min_points=1))
    def test_bulges_most_towards_the_ideal_corner(self, losses):
        front = losses[pareto.non_dominated(losses)]
        ideal, worst = front.min(axis=0), front.max(axis=0)
        varies = worst > ideal
        scaled = ((losses - ideal) / np.where(varies, worst - ideal, 1.0)).sum(axis=1)
        knee = pareto.knee_index(losses)
        assert scaled[knee] <= scaled[pareto.non_dominated(losses)].min() + 1e-12

    def test_one_objective_has_its_best_point(self):
        assert pareto.knee_index(np.array([[3.0], [1.0], [2.0]])) == 1

    def test_one_point_is_its_own_knee(self):
        assert pareto.knee_index(np.array([[3.0, 4.0]])) == 0

    def test_an_empty_front_has_none(self):
        with pytest.raises(RequestError, match="a knee needs at least one point, but the front is"):
            pareto.knee_index(np.zeros((0, 2)))


class TestInput:
    @pytest.mark.parametrize("num_objectives", [1, 2, 3])
    def test_no_point_gives_an_empty_answer(self, num_objectives):
        empty = np.zeros((0, num_objectives))
        assert pareto.non_dominated(empty).shape == (0,)
        assert pareto.non_dominated(empty).dtype == bool
        assert pareto.non_domination_ranks(empty).shape == (0,)
        assert pareto.crowding_distance(empty).shape == (0,)
        assert pareto.hypervolume(empty, np.ones(num_objectives)) == 0.0

    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    def test_losses_that_are_no_numbers_are_refused(self, function):
        with pytest.raises(RequestError, match="objective 1 of point 2 is nan"):
            function(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, np.nan]]))

    @pytest.mark.parametrize("function", [pareto.crowding_distance, pareto.knee_index])
    def test_distances_need_finite_losses(self, function):
        with pytest.raises(RequestError, match="objective 0 of point 1 is inf"):
            function(np.array([[0.0, 1.0], [np.inf, 0.0], [2.0, 2.0]]))

    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    @pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 2, 2)])
    def test_another_shape_is_refused(self, function, shape):
        with pytest.raises(RequestError) as error:
            function(np.zeros(shape))
        assert str(error.value) == (
            f"expected losses of shape (num_points, num_objectives), but they had shape {shape}"
        )

    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    def test_layout_and_type_do_not_matter_and_nothing_is_written(self, function):
        losses = np.random.default_rng(0).integers(0, 9, (12, 3))
        plain = losses.astype(np.float64)
        kept = plain.copy()
        expected = function(plain)
        wide = np.zeros((24, 6))
        wide[::2, ::2] = losses
        for other in (losses, losses.tolist(), np.asfortranarray(plain), wide[::2, ::2]):
            np.testing.assert_array_equal(function(other), expected)
        np.testing.assert_array_equal(plain, kept)


class TestOverTrials:
    @given(points(min_points=1))
    def test_each_value_is_that_of_the_points_so_far(self, losses):
        reference = np.full(losses.shape[1], 2.5)
        found = pareto.hypervolume_over_trials(losses, reference)
        expected = [pareto.hypervolume(losses[: n + 1], reference) for n in range(len(losses))]
        assert found == pytest.approx(np.array(expected))

    def test_a_trial_without_a_result_adds_nothing(self):
        losses = np.array([[np.inf, np.inf], [1.0, 1.0], [np.inf, np.inf]])
        found = pareto.hypervolume_over_trials(losses, np.array([2.0, 2.0]))
        assert found.tolist() == [0, 1, 1]

    @given(points(min_points=2), st.integers(1, 7))
    def test_comparable_ones_do_not_depend_on_the_objectives_scales(self, losses, cut):
        searches = [losses[: min(cut, len(losses) - 1)], losses[min(cut, len(losses) - 1) :]]
        reference, found = pareto.comparable_hypervolumes(searches)
        assert [len(curve) for curve in found] == [len(each) for each in searches]
        assert all(0 < curve[-1] <= 1 + 1e-9 for curve in found)
        factors = np.arange(2.0, 2.0 + losses.shape[1])
        scaled = [each * factors for each in searches]
        _, again = pareto.comparable_hypervolumes(scaled, reference * factors)
        for a, b in zip(found, again, strict=True):
            assert a == pytest.approx(b)

    @given(points(min_points=1))
    def test_every_point_dominates_the_reference_beyond(self, losses):
        assert np.all(losses < pareto.reference_beyond(losses))


class TestAttainment:
    FRONTS = (np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([[1.5, 2.0], [3.0, 0.5]]))

    def attained_by(self, point):
        return sum(bool(np.any(np.all(front <= point, axis=1))) for front in self.FRONTS)

    @pytest.mark.parametrize(("share", "count"), [(0.5, 1), (1.0, 2)])
    def test_the_corners_are_attained_by_the_share_and_nothing_below_them_is(self, share, count):
        corners = pareto.attainment(self.FRONTS, share)
        assert np.all(np.diff(corners[:, 0]) > 0)
        for corner in corners:
            assert self.attained_by(corner) >= count
            for step in ([1e-6, 0], [0, 1e-6]):
                assert self.attained_by(corner - step) < count

    def test_one_front_attains_itself(self):
        np.testing.assert_array_equal(pareto.attainment(self.FRONTS[:1], 0.5), self.FRONTS[0])

    @pytest.mark.parametrize("fronts", [[], [np.zeros((0, 2))], [np.zeros((1, 3))]])
    def test_it_needs_fronts_over_two_objectives(self, fronts):
        with pytest.raises(RequestError, match="non-empty fronts over two objectives"):
            pareto.attainment(fronts, 0.5)
