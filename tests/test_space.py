import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Architecture, ElasticDimension, SearchSpace

REPOSITORY = Path(__file__).parents[1]

CHOICES = st.lists(
    st.integers(-3, 9) | st.sampled_from([0.25, 0.5, 1.5]) | st.sampled_from(["relu", "gelü", ""]),
    min_size=1,
    max_size=3,
    unique=True,
) | st.just([False, True])


@st.composite
def spaces(draw):
    """Small forests: each dimension is always active or hangs below an earlier one."""
    dimensions = []
    for position in range(draw(st.integers(1, 5))):
        condition = None
        if dimensions and draw(st.booleans()):
            parent = draw(st.sampled_from(dimensions))
            under = draw(st.sets(st.sampled_from(parent.choices), min_size=1))
            condition = ActiveWhen(parent.name, tuple(c for c in parent.choices if c in under))
        dimensions.append(ElasticDimension(f"d{position}", tuple(draw(CHOICES)), condition))
    return SearchSpace(dimensions)


@st.composite
def spaces_with_genome(draw):
    """A space and one of its raw genomes, canonical or not."""
    space = draw(spaces())
    return space, [draw(st.integers(0, len(d.choices) - 1)) for d in space]


def canonical_by_definition(space, genome):
    """Each dimension in turn: active if its condition holds on an active dimension."""
    canonical = {}
    for dimension, index in zip(space, genome, strict=True):
        when = dimension.active_when
        active = when is None or (
            canonical[when.dimension] is not None
            and space[when.dimension].choices[canonical[when.dimension]] in when.choices
        )
        canonical[dimension.name] = index if active else None
    return tuple(index or 0 for index in canonical.values())


def all_by_brute_force(space):
    raw = product(*(range(len(d.choices)) for d in space))
    return sorted({canonical_by_definition(space, genome) for genome in raw})


def genomes_of(space, architectures):
    return [tuple(space.to_genome(architecture).tolist()) for architecture in architectures]


def make_tiny_space():
    """Two stages' worth of everything: conditions two deep, numbers, texts, booleans."""
    return SearchSpace(
        [
            ElasticDimension("depth", (1, 2, 3)),
            ElasticDimension("block2.kernel_size", (3, 5, 7), ActiveWhen("depth", (2, 3))),
            ElasticDimension("block3.kernel_size", (3, 5, 7), ActiveWhen("depth", (3,))),
            ElasticDimension("block3.attention", (False, True), ActiveWhen("depth", (3,))),
            ElasticDimension("block3.heads", (2, 4), ActiveWhen("block3.attention", (True,))),
            ElasticDimension("width", (1.0, 0.5)),
            ElasticDimension("activation", ("relu", "hswish")),
        ]
    )


TINY = make_tiny_space()
SMALLEST = {
    "depth": 1,
    "block2.kernel_size": 3,
    "block3.kernel_size": 3,
    "block3.attention": False,
    "block3.heads": 2,
    "width": 0.5,
    "activation": "relu",
}


class TestGenomes:
    @given(spaces_with_genome())
    def test_round_trip_is_canonical(self, drawn):
        space, genome = drawn
        architecture = space.from_genome(genome)
        expected = canonical_by_definition(space, genome)
        assert genomes_of(space, [architecture]) == [expected]
        assert space.to_genome(architecture).dtype == np.int64
        assert space.from_genome(space.to_genome(architecture)) == architecture
        assert list(architecture) == [d.name for d in space]
        for dimension, index in zip(space, expected, strict=True):
            assert architecture[dimension.name] == dimension.choices[index]

    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_many_at_once_equal_one_by_one(self, space, seed):
        genomes = np.random.default_rng(seed).integers(0, space.num_choices, (7, len(space)))
        architectures = space.from_genomes(genomes)
        assert architectures == [space.from_genome(genome) for genome in genomes]
        canonical = space.canonical_genomes(genomes)
        np.testing.assert_array_equal(space.to_genomes(architectures), canonical)
        assert [tuple(row) for row in canonical.tolist()] == [
            canonical_by_definition(space, genome) for genome in genomes
        ]

    @given(spaces_with_genome(), st.data())
    def test_architectures_are_equal_when_their_canonical_forms_are(self, drawn, data):
        space, genome = drawn
        other = [data.draw(st.integers(0, len(d.choices) - 1)) for d in space]
        a, b = space.from_genome(genome), space.from_genome(other)
        same = canonical_by_definition(space, genome) == canonical_by_definition(space, other)
        assert (a == b) == same
        assert (a.id == b.id) == same
        assert hash(a) == hash(b) or not same

    @given(spaces_with_genome())
    def test_canonical_takes_any_complete_assignment(self, drawn):
        space, genome = drawn
        written = {d.name: d.choices[i] for d, i in zip(space, genome, strict=True)}
        backwards = dict(reversed(written.items()))
        assert space.canonical(written) == space.from_genome(genome)
        assert space.canonical(backwards).to_json() == space.from_genome(genome).to_json()
        np.testing.assert_array_equal(space.to_genome(written), space.to_genome(backwards))

    @given(spaces_with_genome())
    def test_active_dimensions_are_those_that_a_change_can_tell(self, drawn):
        space, genome = drawn
        active = space.active(np.array([genome]))[0]
        for position, dimension in enumerate(space):
            changed = {
                space.from_genome([*genome[:position], index, *genome[position + 1 :]])
                for index in range(len(dimension.choices))
            }
            assert len(changed) == (len(dimension.choices) if active[position] else 1)

    def test_canonical_genomes_leave_their_argument_alone(self):
        genomes = np.array([[0, 2, 2, 1, 1, 1, 1]], dtype=np.int32)
        canonical = TINY.canonical_genomes(genomes)
        assert canonical.tolist() == [[0, 0, 0, 0, 0, 1, 1]]
        assert canonical.dtype == np.int64
        assert genomes.tolist() == [[0, 2, 2, 1, 1, 1, 1]]

    def test_no_architecture_has_no_genome(self):
        assert TINY.to_genomes([]).shape == (0, 7)
        assert TINY.canonical_genomes(np.zeros((0, 7))).shape == (0, 7)
        assert TINY.from_genomes(np.zeros((0, 7))) == []

    @pytest.mark.parametrize(
        ("genome", "said"),
        [
            ([0, 0], "expected genomes of shape (num_architectures, 7), one column per elastic"),
            ([[0] * 7], "but they had shape (1, 1, 7)"),
            (3, "but they had shape (1,)"),
            ([0.0] * 7, "genomes hold integer choice indices, not float64"),
            ([True] * 7, "genomes hold integer choice indices, not bool"),
            ([0, 3, 0, 0, 0, 0, 0], "'block2.kernel_size' has choice indices 0 to 2, but the gen"),
            ([-1, 0, 0, 0, 0, 0, 0], "'depth' has choice indices 0 to 2, but the genome in row 0"),
            ([0, 0, 0, 0, 0, 0, 2], "'activation' has choice indices 0 to 1, but the genome in r"),
        ],
    )
    def test_another_genome_is_refused(self, genome, said):
        with pytest.raises(RequestError) as error:
            TINY.from_genome(genome)
        assert said in str(error.value)

    @pytest.mark.parametrize("visit", [TINY.active, TINY.canonical_genomes, TINY.from_genomes])
    def test_the_row_that_is_wrong_is_named(self, visit):
        genomes = np.zeros((3, 7), dtype=np.int64)
        genomes[2, 5] = 2
        with pytest.raises(RequestError, match=r"'width' has .* the genome in row 2 has 2"):
            visit(genomes)


class TestForeignArchitectures:
    @pytest.mark.parametrize(
        ("foreign", "said"),
        [
            ({}, "the architecture has no value for 'depth'"),
            (SMALLEST | {"dept": 1}, "unknown elastic dimension 'dept'; did you mean 'depth'?"),
            (SMALLEST | {3: 1}, "unknown elastic dimension '3'; possible: activation, block2"),
            (SMALLEST | {"depth": 4}, "'depth' has no choice 4; possible: 1, 2, 3"),
            (SMALLEST | {"depth": "1"}, "'depth' has no choice '1'; possible: 1, 2, 3"),
            (SMALLEST | {"depth": [1]}, "'depth' has no choice [1]; possible: 1, 2, 3"),
            (SMALLEST | {"depth": None}, "'depth' has no choice None; possible: 1, 2, 3"),
            (SMALLEST | {"block3.heads": 8}, "'block3.heads' has no choice 8; possible: 2, 4"),
            ([0] * 7, "an architecture maps every elastic dimension to one of its choices, but w"),
            (None, "an architecture maps every elastic dimension to one of its choices, but was N"),
        ],
    )
    @pytest.mark.parametrize(
        "enter",
        [TINY.canonical, TINY.to_genome, TINY.neighbors, lambda a: TINY.to_genomes([SMALLEST, a])],
        ids=["canonical", "to_genome", "neighbors", "to_genomes"],
    )
    def test_are_refused_with_a_sentence(self, enter, foreign, said):
        with pytest.raises(RequestError) as error:
            enter(foreign)
        assert said in str(error.value)

    def test_of_another_space_are_refused(self):
        other = SearchSpace([*TINY.dimensions, ElasticDimension("resolution", (8, 16))])
        with pytest.raises(RequestError, match="unknown elastic dimension 'resolution'"):
            TINY.to_genome(other.smallest)
        with pytest.raises(RequestError, match="the architecture has no value for 'resolution'"):
            other.to_genome(TINY.smallest)

    def test_an_unknown_dimension_is_refused(self):
        assert TINY["depth"] is TINY.dimensions[0]
        with pytest.raises(RequestError, match=r"dimension 'block3.head'; did you mean 'block3.h"):
            TINY["block3.head"]


class TestCounting:
    @given(spaces())
    def test_size_and_enumeration_are_those_of_brute_force(self, space):
        expected = all_by_brute_force(space)
        assert space.size == len(expected)
        assert genomes_of(space, space.enumerate()) == expected  # in lexicographic order

    def test_hand_made_case(self):
        assert TINY.size == (1 + 3 + 3 * 3 * (1 + 2)) * 2 * 2
        assert repr(TINY) == "SearchSpace(7 dimensions, 124 architectures)"

    def test_size_is_exact_beyond_64_bits(self):
        space = SearchSpace([ElasticDimension(f"d{i}", (1, 2, 3)) for i in range(80)])
        assert space.size == 3**80
        assert len(space.sample(np.random.default_rng(0))) == 80

    def test_a_space_without_dimensions_has_one_architecture(self):
        space = SearchSpace([])
        assert space.size == 1
        assert list(space.enumerate()) == [space.from_genome([])]
        assert space.sample(np.random.default_rng(0)) == space.largest == space.smallest
        assert space.neighbors({}) == []
        assert space.to_genomes([{}, {}]).shape == (2, 0)


class TestSampling:
    @settings(max_examples=25)
    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_is_uniform_over_canonical_architectures(self, space, seed):
        everything = all_by_brute_force(space)
        count = 40 * len(everything)
        genomes = space.sample_genomes(count, np.random.default_rng(seed))
        counted = Counter(map(tuple, genomes.tolist()))
        assert set(counted) <= set(everything)
        if len(everything) > 1:
            assert chisquare([counted[genome] for genome in everything]).pvalue > 1e-5

    def test_is_uniform_where_depths_hide_much(self):
        genomes = TINY.sample_genomes(25_000, np.random.default_rng(0))
        counted = Counter(map(tuple, genomes.tolist()))
        assert len(counted) == TINY.size
        assert chisquare(list(counted.values())).pvalue > 1e-3

    def test_the_batch_size_does_not_change_what_is_drawn(self):
        at_once = TINY.sample_genomes(9, np.random.default_rng(3))
        rng = np.random.default_rng(3)
        one_by_one = [TINY.sample(rng) for _ in range(4)]
        assert TINY.from_genomes(at_once[:4]) == one_by_one
        np.testing.assert_array_equal(TINY.sample_genomes(5, rng), at_once[4:])

    def test_the_generator_decides(self):
        a, b, c = (TINY.sample_genomes(50, np.random.default_rng(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()

    def test_none_is_a_count_too(self):
        assert TINY.sample_genomes(0, np.random.default_rng(0)).shape == (0, 7)


class TestNeighbors:
    @given(spaces_with_genome())
    def test_are_their_definition(self, drawn):
        space, genome = drawn
        genome = canonical_by_definition(space, genome)
        architecture = space.from_genome(genome)
        active = space.active(np.array([genome]))[0]
        expected = [
            canonical_by_definition(space, [*genome[:position], index, *genome[position + 1 :]])
            for position, dimension in enumerate(space)
            for index in range(len(dimension.choices))
            if active[position] and index != genome[position]
        ]
        neighbors = space.neighbors(architecture)
        assert genomes_of(space, neighbors) == expected
        assert len(set(neighbors)) == len(neighbors)
        assert architecture not in neighbors

    def test_what_a_change_activates_stands_at_its_first_choice(self):
        deeper = TINY.neighbors(TINY.smallest)[1]
        assert deeper == TINY.canonical(SMALLEST | {"depth": 3})


class TestExtremes:
    def test_largest_and_smallest_go_by_value_and_not_by_position(self):
        assert TINY.smallest.to_json() == SMALLEST
        assert TINY.largest.to_json() == {
            "depth": 3,
            "block2.kernel_size": 7,
            "block3.kernel_size": 7,
            "block3.attention": True,
            "block3.heads": 4,
            "width": 1.0,
            "activation": "hswish",
        }

    @given(spaces())
    def test_are_members_and_bound_every_number(self, space):
        everything = list(space.enumerate())
        assert space.largest in everything
        assert space.smallest in everything
        for dimension in space:
            numeric = not any(isinstance(choice, str) for choice in dimension.choices)
            if dimension.active_when is None and numeric:
                assert space.largest[dimension.name] == max(dimension.choices)
                assert space.smallest[dimension.name] == min(dimension.choices)


class TestArchitecture:
    @given(spaces_with_genome())
    def test_json_round_trip(self, drawn):
        space, genome = drawn
        architecture = space.from_genome(genome)
        read = json.loads(json.dumps(architecture.to_json()))
        assert space.canonical(read) == architecture
        assert space.canonical(read).id == architecture.id

    def test_equality_knows_no_order_and_no_plain_dictionary(self):
        a, b = Architecture({"x": 1, "y": 2}), Architecture({"y": 2, "x": 1})
        assert a == b
        assert hash(a) == hash(b)
        assert a.id == b.id
        assert a != {"x": 1, "y": 2}
        assert a != Architecture({"x": 1})

    def test_is_a_read_only_mapping(self):
        architecture = TINY.smallest
        assert dict(architecture) == SMALLEST
        assert len(architecture) == 7
        assert architecture["depth"] == 1
        assert "dept" not in architecture
        with pytest.raises(TypeError):
            architecture["depth"] = 2
        with pytest.raises(AttributeError):
            architecture.depth = 2

    def test_does_not_follow_the_dictionary_that_it_came_from_or_gave(self):
        values = dict(SMALLEST)
        architecture = Architecture(values)
        values["depth"] = 3
        architecture.to_json()["depth"] = 3
        assert architecture["depth"] == 1

    def test_shows_its_choices(self):
        assert repr(Architecture({"depth": 2})) == "Architecture({'depth': 2})"

    def test_id_names_files_of_earlier_versions_too(self):
        assert TINY.smallest.id == "3ceff483721d"
        assert TINY.largest.id == "427697b80e65"
        assert TINY.fingerprint == "1aa5b6d9df209901"

    @given(spaces_with_genome())
    def test_pickling_keeps_equality(self, drawn):
        space, genome = drawn
        architecture = space.from_genome(genome)
        copied_space, copied = pickle.loads(pickle.dumps((space, architecture)))
        assert copied == architecture
        assert hash(copied) == hash(architecture)
        assert copied_space == space
        assert hash(copied_space) == hash(space)
        assert copied_space.fingerprint == space.fingerprint

    def test_pickles_and_ids_hold_in_a_process_that_hashes_otherwise(self, tmp_path):
        """Text hashes differ from process to process; equality, sets and ids must not."""
        write = (
            "import pickle, sys, numpy as np, nasbench.space as s\n"
            "space = pickle.load(sys.stdin.buffer)\n"
            "found = space.from_genomes(space.sample_genomes(20, np.random.default_rng(0)))\n"
            "print(hash('text'), file=sys.stderr)\n"
            "ids = [architecture.id for architecture in found]\n"
            "pickle.dump((space, found, ids), sys.stdout.buffer)\n"
        )
        here = TINY.from_genomes(TINY.sample_genomes(20, np.random.default_rng(0)))
        text_hashes = set()
        for seed in ("1", "2"):
            process = subprocess.run(
                [sys.executable, "-c", write],
                input=pickle.dumps(make_tiny_space()),
                capture_output=True,
                check=True,
                cwd=REPOSITORY,
                env=os.environ | {"PYTHONHASHSEED": seed},
            )
            space, there, ids = pickle.loads(process.stdout)
            assert space == TINY
            assert space.fingerprint == TINY.fingerprint
            assert there == here
            assert set(there) == set(here)
            assert ids == [architecture.id for architecture in here]
            text_hashes.add(process.stderr)
        assert len(text_hashes) == 2


class TestElasticDimension:
    @pytest.mark.parametrize(
        ("choices", "said"),
        [
            ((), "elastic dimension 'd' has no choices; give at least one"),
            ((3, 5, 3), "elastic dimension 'd' repeats a choice in (3, 5, 3)"),
            ((1, True), "elastic dimension 'd' repeats a choice in (1, True)"),
            ((1, 1.0), "elastic dimension 'd' repeats a choice in (1, 1.0)"),
            ("357", "elastic dimension 'd' needs a sequence of choices, but was given '357'"),
            (3, "elastic dimension 'd' needs a sequence of choices, but was given 3"),
            ({3, 5}, "elastic dimension 'd' needs a sequence of choices, but was given {3, 5}"),
            ((3, None), "elastic dimension 'd' has the choice None; possible: finite numbers, te"),
            (((3, 3),), "elastic dimension 'd' has the choice (3, 3); possible: finite numbers,"),
            (([3],), "elastic dimension 'd' has the choice [3]; possible: finite numbers, texts"),
            ((0.5, float("nan")), "elastic dimension 'd' has the choice nan; possible: finite"),
            ((0.5, float("inf")), "elastic dimension 'd' has the choice inf; possible: finite"),
            ((1j,), "elastic dimension 'd' has the choice 1j; possible: finite numbers, texts,"),
        ],
        ids=repr,
    )
    def test_bad_choices_are_refused(self, choices, said):
        with pytest.raises(RequestError) as error:
            ElasticDimension("d", choices)
        assert said in str(error.value)

    @pytest.mark.parametrize("name", ["", None, 3])
    def test_a_name_is_a_text(self, name):
        with pytest.raises(RequestError) as error:
            ElasticDimension(name, (1, 2))
        assert str(error.value) == f"an elastic dimension's name is a text, not {name!r}"

    @pytest.mark.parametrize("choices", [[3, 5], range(3, 6, 2), np.array([3, 5])], ids=repr)
    def test_any_sequence_becomes_plain_values(self, choices):
        dimension = ElasticDimension("d", choices)
        assert dimension == ElasticDimension("d", (3, 5))
        assert [type(choice) for choice in dimension.choices] == [int, int]
        assert SearchSpace([dimension]).largest.id == Architecture({"d": 5}).id

    def test_cannot_be_changed(self):
        with pytest.raises(AttributeError):
            TINY["depth"].choices = (1,)

    @pytest.mark.parametrize(
        ("choices", "is_ordinal"),
        [
            ((1, 2, 3), True),
            ((0.5, 1, 1.5), True),
            ((4,), True),
            ((3, 2), False),
            ((1, 3, 2), False),
            ((False, True), False),
            (("a", "b"), False),
            ((1, "b"), False),
        ],
    )
    def test_rising_numbers_are_ordinal(self, choices, is_ordinal):
        assert ElasticDimension("d", choices).is_ordinal is is_ordinal

    def test_index_finds_a_choice_or_says_which_there_are(self):
        dimension = ElasticDimension("d", ("a", "b"))
        assert [dimension.index("a"), dimension.index("b")] == [0, 1]
        with pytest.raises(RequestError, match="'d' has no choice 'c'; possible: 'a', 'b'"):
            dimension.index("c")


class TestConditions:
    def test_two_dimensions_share_no_name(self):
        with pytest.raises(RequestError, match="two elastic dimensions are named 'd'"):
            SearchSpace([ElasticDimension("d", (1,)), ElasticDimension("d", (2,))])

    @pytest.mark.parametrize("on", ["later", "unknown", "d"])
    def test_a_condition_looks_back(self, on):
        with pytest.raises(RequestError) as error:
            SearchSpace(
                [
                    ElasticDimension("d", (1, 2), ActiveWhen(on, (1,))),
                    ElasticDimension("later", (1, 2)),
                ]
            )
        assert str(error.value) == (
            f"'d' is active depending on '{on}', which is not a dimension declared before it"
        )

    def test_a_condition_names_choices_that_exist(self):
        with pytest.raises(RequestError) as error:
            SearchSpace(
                [
                    ElasticDimension("depth", (2, 3)),
                    ElasticDimension("d", (1, 2), ActiveWhen("depth", (3, 4))),
                ]
            )
        assert str(error.value) == (
            "'d' is active where 'depth' is 4, which is none of its choices: 2, 3"
        )

    @pytest.mark.parametrize(
        ("choices", "said"),
        [
            ((), "a condition on 'depth' has no choices; give at least one"),
            (3, "a condition on 'depth' needs a sequence of choices, but was given 3"),
            ("12", "a condition on 'depth' needs a sequence of choices, but was given '12'"),
            ((3, 3), "a condition on 'depth' repeats a choice in (3, 3)"),
        ],
        ids=repr,
    )
    def test_bad_choices_are_refused(self, choices, said):
        with pytest.raises(RequestError) as error:
            ActiveWhen("depth", choices)
        assert str(error.value) == said

    def test_a_list_of_choices_is_as_good_as_a_tuple(self):
        assert ActiveWhen("depth", [2, 3]) == ActiveWhen("depth", (2, 3))
        assert hash(ActiveWhen("depth", [2, 3])) == hash(ActiveWhen("depth", (2, 3)))


class TestFingerprint:
    def test_equal_spaces_are_one(self):
        assert make_tiny_space() == TINY
        assert hash(make_tiny_space()) == hash(TINY)
        assert make_tiny_space().fingerprint == TINY.fingerprint

    def test_changes_with_everything_that_matters(self):
        a, b = ElasticDimension("a", (1, 2)), ElasticDimension("b", (1, 2))
        variants = [
            SearchSpace([]),
            SearchSpace([a]),
            SearchSpace([a, b]),
            SearchSpace([b, a]),
            SearchSpace([a, ElasticDimension("c", (1, 2))]),
            SearchSpace([a, ElasticDimension("b", (2, 1))]),
            SearchSpace([a, ElasticDimension("b", (1, 2, 3))]),
            SearchSpace([a, ElasticDimension("b", ("1", "2"))]),
            SearchSpace([a, ElasticDimension("b", (1, 2), ActiveWhen("a", (1,)))]),
            SearchSpace([a, ElasticDimension("b", (1, 2), ActiveWhen("a", (2,)))]),
            SearchSpace([a, ElasticDimension("b", (1, 2), ActiveWhen("a", (1, 2)))]),
        ]
        assert len({space.fingerprint for space in variants}) == len(variants)
        assert all(a != b for a, b in combinations(variants, 2))
