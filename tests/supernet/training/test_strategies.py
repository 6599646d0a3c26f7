"""Training strategies: what each trains in a step, and in which phases."""

from collections import Counter

import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.space import ElasticDimension, SearchSpace
from nasbench.supernet.training.attentive import CostTable
from nasbench.supernet.training.strategies import (
    Assignment,
    build_strategy,
)
from nasbench.testing.strategies import StrategyContract, ToySubnetworks

SUBNETWORKS = ToySubnetworks()
SPACE = SUBNETWORKS.space


def build(name, **options):
    return build_strategy(name, SUBNETWORKS, options)


def assignments(name, seed=0, **options):
    """Of the first step of the last phase."""
    return build(name, **options).phases(12)[-1].assign(np.random.default_rng(seed))


class TestStrategyContract(StrategyContract):
    pass


class TestSandwichRule:
    def test_is_largest_random_ones_smallest(self):
        first, *others, last = assignments("sandwich", num_random=3)
        assert first == Assignment(SPACE.largest, labels=1.0)
        assert last == Assignment(SPACE.smallest, labels=0.5, largest=0.5)
        assert len(others) == 3
        assert {(a.labels, a.largest) for a in others} == {(0.5, 0.5)}

    def test_can_learn_more_from_labels_or_from_the_largest(self):
        first, *others = assignments("sandwich", label_weight=0.25)
        assert first == Assignment(SPACE.largest, labels=1.0)
        assert {(a.labels, a.largest) for a in others} == {(0.25, 0.75)}

    def test_draws_every_choice_alike(self):
        rng = np.random.default_rng(0)
        assign = build("sandwich", num_random=1).phases(1)[0].assign
        drawn = [assign(rng)[1].architecture for _ in range(600)]
        for dimension in ("stage.depth", "block1.width"):
            counts = Counter(architecture[dimension] for architecture in drawn)
            expected = 600 / len(SPACE[dimension].choices)
            assert all(abs(count - expected) < 0.3 * expected for count in counts.values())

    @pytest.mark.parametrize(
        "wrong",
        [{"num_random": -1}, {"num_random": 1.5}, {"label_weight": 1.1}, {"label_weight": "half"}],
    )
    def test_bad_options_are_refused(self, wrong):
        (name,) = wrong
        with pytest.raises(RequestError, match=rf"training\.options\.{name} is a"):
            build("sandwich", **wrong)


def test_bignas_regularizes_the_largest_only_and_starts_at_identities():
    (phase,) = build("bignas").phases(3)
    assert phase.preparations == ("zero_residual_branches",)
    first, *others = phase.assign(np.random.default_rng(0))
    assert first.is_regularized
    assert {(o.labels, o.largest, o.is_regularized) for o in others} == {(0.0, 1.0, False)}


class TestInstaTune:
    """Equation 1 with alpha 0.3: what is summed for the largest and for each random one."""

    def test_in_place_the_others_learn_from_the_largest(self):
        first, *others = assignments("instatune", num_random=3)
        assert first == Assignment(SPACE.largest, labels=0.3)
        assert len(others) == 3
        assert {(o.labels, o.largest, o.teacher) for o in others} == {(0.3, 0.7, 0.0)}
        assert len({o.architecture for o in others}) > 1

    def test_with_a_strong_teacher_all_learn_from_it_once_it_is_fine_tuned(self):
        alone, elastic = build("instatune", gamma=1.0, alpha=0.25).phases(10)
        assert (alone.num_epochs, elastic.num_epochs) == (4, 6)
        rng = np.random.default_rng(0)
        assert alone.assign(rng) == [Assignment(SPACE.largest, labels=1.0)]
        assert elastic.preparations == ("freeze_teacher",)
        first, other = elastic.assign(rng)
        assert first == Assignment(SPACE.largest, labels=0.25, teacher=0.75)
        assert (other.labels, other.largest, other.teacher) == (0.25, 0.0, 0.75)

    def test_both_teachers_share_the_rest_of_the_loss(self):
        first, other = build("instatune", gamma=0.5).phases(2)[1].assign(np.random.default_rng(0))
        assert (first.largest, first.teacher) == (0.0, 0.35)
        assert (other.labels, other.largest, other.teacher) == (0.3, 0.35, 0.35)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"alpha": 1.5}, "alpha is a number from 0 to 1"),
            ({"alpha": 0}, "alpha is above 0"),
            ({"gamma": "in place"}, "gamma is a number from 0 to 1"),
            ({"num_random": 0}, "num_random is a whole number from 1 up"),
        ],
    )
    def test_bad_options_are_refused(self, options, said):
        with pytest.raises(RequestError, match=f"training.options.{said}"):
            build("instatune", **options)

    def test_a_teacher_needs_an_epoch_of_its_own(self):
        with pytest.raises(RequestError, match=r"training\.epochs is at least 2, not 1"):
            build("instatune", gamma=1.0).phases(1)


def test_single_path_with_the_largest_adds_just_that():
    (drawn,) = assignments("single_path", seed=3)
    assert drawn.labels == 1.0
    assert assignments("single_path_largest", seed=3) == [
        Assignment(SPACE.largest, labels=1.0),
        drawn,
    ]
    assert assignments("hat", seed=3) == [drawn]
    with pytest.raises(RequestError, match="num_random is a whole number from 1"):
        build("single_path", num_random=0)


class TestAttentiveSampling:
    def test_contests_take_the_place_of_random_ones(self):
        first, *contests, last = assignments("attentive", num_candidates=4)
        assert (first.architecture, last.architecture) == (SPACE.largest, SPACE.smallest)
        assert [contest.architecture.winner for contest in contests] == ["lowest_loss"] * 2
        assert [len(contest.architecture.candidates) for contest in contests] == [4, 4]
        _, contest, *_ = assignments("attentive", winner="worst")
        assert contest.architecture.winner == "highest_loss"

    def test_candidates_are_of_about_the_same_macs(self):
        table = CostTable(SUBNETWORKS, num_bins=8)
        width = (3 * 49 * 32 - 9 * 8) / 8
        rng = np.random.default_rng(0)
        for _ in range(100):
            macs = [SUBNETWORKS.count(a)["num_macs"] for a in table.draw(3, rng)]
            assert max(macs) - min(macs) <= width

    def test_macs_are_drawn_as_often_as_random_subnetworks_have_them(self):
        table = CostTable(SUBNETWORKS, num_bins=6)
        rng = np.random.default_rng(0)
        random = SPACE.from_genomes(SPACE.sample_choices(1500, rng))
        drawn = [table.draw(1, rng)[0] for _ in range(1500)]
        edges = np.linspace(9 * 8, 3 * 49 * 32, 7)
        shares = [
            np.histogram([SUBNETWORKS.count(a)["num_macs"] for a in of], edges)[0] / 1500
            for of in (random, drawn)
        ]
        assert np.abs(shares[0] - shares[1]).max() < 0.05

    @pytest.mark.parametrize(
        "wrong", [{"num_candidates": 0}, {"num_bins": 0}, {"winner": "middle"}]
    )
    def test_bad_options_are_refused(self, wrong):
        (name,) = wrong
        with pytest.raises(RequestError, match=rf"training\.options\.{name} is"):
            build("attentive", **wrong)


class TestProgressiveShrinking:
    def test_opens_kernels_then_depths_then_widths(self):
        phases = build("progressive_shrinking").phases(59)
        names = [phase.name for phase in phases]
        assert names == [
            "largest", "kernels", "depths, first", "depths", "widths, first", "widths"
        ]  # fmt: skip
        assert [phase.num_epochs for phase in phases] == [18, 12, 3, 12, 2, 12]

    def test_a_phase_draws_what_is_open_and_nothing_else(self):
        expected = [
            {"block1.kernel_size": {7}, "stage.depth": {3}, "block1.width": {32}},
            {"block1.kernel_size": {3, 5, 7}, "stage.depth": {3}, "block1.width": {32}},
            {"block1.kernel_size": {3, 5, 7}, "stage.depth": {2, 3}, "block1.width": {32}},
            {"block1.kernel_size": {3, 5, 7}, "stage.depth": {1, 2, 3}, "block1.width": {32}},
            {"stage.depth": {1, 2, 3}, "block1.width": {24, 32}, "block3.width": {8, 16}},
            {"stage.depth": {1, 2, 3}, "block1.width": {8, 16, 24, 32}},
        ]
        rng = np.random.default_rng(0)
        for phase, choices in zip(build("progressive_shrinking").phases(6), expected, strict=True):
            drawn = [a.architecture for _ in range(200) for a in phase.assign(rng)]
            for name, possible in choices.items():
                assert {architecture[name] for architecture in drawn} == possible

    def test_trains_one_two_or_four_on_labels_and_teacher(self):
        first, *later = build("progressive_shrinking").phases(6)
        rng = np.random.default_rng(0)
        assert first.assign(rng) == [Assignment(SPACE.largest, labels=1.0)]
        found = [phase.assign(rng) for phase in later]
        assert [len(of) for of in found] == [1, 2, 2, 4, 4]
        assert {(a.labels, a.teacher) for of in found for a in of} == {(1.0, 1.0)}

    def test_freezes_the_teacher_once_and_sorts_before_widths(self):
        phases = build("progressive_shrinking").phases(6)
        assert [phase.preparations for phase in phases] == [
            (), ("freeze_teacher",), (), (), ("sort_channels",), ("sort_channels",)
        ]  # fmt: skip
        assert phases[-1].trained_choices["block1.width"] == (24, 32)

    def test_leaves_out_phases_in_which_nothing_opens(self):
        subnetworks = ToySubnetworks()
        subnetworks.space = SearchSpace(
            [ElasticDimension("width", (8, 16)), ElasticDimension("resolution", (20, 28))]
        )
        first, second = build_strategy("progressive_shrinking", subnetworks, {}).phases(2)
        assert (first.name, second.name) == ("largest", "widths")
        rng = np.random.default_rng(0)
        assert {first.assign(rng)[0].architecture["resolution"] for _ in range(50)} == {20, 28}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"label_weight": -1}, "label_weight is a number from 0 up"),
            ({"teacher_weight": float("inf")}, "teacher_weight is a number from 0 up"),
            ({"teacher_weight": float("nan")}, "teacher_weight is a number from 0 up"),
            ({"label_weight": 0, "teacher_weight": 0}, "leaves no loss"),
        ],
    )
    def test_bad_options_are_refused(self, options, said):
        with pytest.raises(RequestError, match=said):
            build("progressive_shrinking", **options)

    def test_too_few_epochs_are_refused(self):
        with pytest.raises(RequestError, match=r"6 phases, so training\.epochs is at least 6"):
            build("progressive_shrinking").phases(5)


class TestSortedChain:
    def test_draws_the_members_of_its_chain(self):
        strategy = build("sorted", num_members=4)
        assert (strategy.chain[0], strategy.chain[-1]) == (SPACE.smallest, SPACE.largest)
        rng = np.random.default_rng(0)
        drawn = {strategy.assign(rng)[0].architecture for _ in range(100)}
        assert drawn == set(strategy.chain)
        assert strategy.redraws

    def test_the_chain_can_be_given(self):
        members = [SPACE.smallest, {**SPACE.smallest, "block1.kernel_size": 5}, SPACE.largest]
        strategy = build("sorted", members=members)
        assert list(strategy.chain) == [SPACE.canonical(member) for member in members]

    def test_the_chain_can_grow_in_some_dimensions(self):
        strategy = build("sorted", dimensions=("depth",))
        assert {member["stage.depth"] for member in strategy.chain} == {1, 2, 3}
        assert {member["block1.width"] for member in strategy.chain} == {32}

    def test_weights_say_how_often_a_member_is_drawn(self):
        strategy = build("sorted", num_members=4, member_weights=[0, 1, 0, 3], num_random=2000)
        drawn = Counter(a.architecture for a in strategy.assign(np.random.default_rng(0)))
        assert drawn.keys() == {strategy.chain[1], strategy.chain[3]}
        assert drawn[strategy.chain[3]] == pytest.approx(1500, abs=100)

    def test_the_largest_can_always_be_there(self):
        options = {"num_members": 4, "includes_largest": True, "label_weight": 0.5}
        rng = np.random.default_rng(0)
        strategy = build("sorted", **options)
        for _ in range(30):
            first, *others = strategy.assign(rng)
            assert first == Assignment(SPACE.largest, labels=1.0)
            assert all((other.labels, other.largest) == (0.5, 0.5) for other in others)

    @pytest.mark.parametrize("includes_largest", [True, False])
    def test_the_smallest_can_always_be_there_once(self, includes_largest):
        options = {"num_members": 2, "num_random": 3, "includes_largest": includes_largest}
        strategy = build("sorted", includes_smallest=True, **options)
        rng = np.random.default_rng(0)
        for _ in range(30):
            *others, last = [a.architecture for a in strategy.assign(rng)]
            assert last == SPACE.smallest
            assert set(others) <= {SPACE.largest}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"num_members": 1}, "num_members is a whole number from 2"),
            ({"num_members": 99}, "a chain in this space has at most 8"),
            ({"num_members": 4, "label_weight": 0.5}, "distils from the largest"),
            ({"includes_largest": "no"}, "includes_largest is true or false"),
            ({"includes_smallest": 1}, "includes_smallest is true or false"),
            ({"exits": True, "includes_smallest": True}, "includes_smallest have nothing to say"),
            ({"dimensions": ("dept",)}, "unknown elastic dimension 'dept'; did you mean 'depth'"),
            ({"dimensions": "depth"}, r"a list of names; write \[depth\]"),
            ({"num_members": 3, "members": [SPACE.largest]}, "members is the whole chain"),
            ({"members": [SPACE.largest, SPACE.smallest]}, "members 0 and 1 are no chain"),
            ({"num_members": 4, "member_weights": [1, 1]}, "has 2 numbers, but the chain has 4"),
            ({"num_members": 2, "member_weights": [0, 0]}, "are all 0"),
            ({"exits": True}, "needs the elastic dimension 'depth'"),
            ({"exits": True, "num_members": 2}, "exits trains all depths of the largest"),
            ({"exits": "no"}, "exits is true or false"),
            ({"num_members": 2, "member_weights": [1, -1]}, "numbers from 0 up, not -1"),
        ],
    )
    def test_bad_options_are_refused(self, options, said):
        with pytest.raises(RequestError, match=said):
            build("sorted", **options)
