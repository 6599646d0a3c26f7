import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.search.variation import Variation
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ONLY_SPACE, TINY_SPACE

NUM_SAMPLES = 20_000

generators = st.integers(0, 10_000).map(np.random.default_rng)
spaces = st.sampled_from([TINY_SPACE, MIXED_SPACE, MOBILE_SPACE])


def flat_space(num_dimensions, choices):
    return SearchSpace([ElasticDimension(f"d{i}", choices) for i in range(num_dimensions)])


def copies(genome, count=NUM_SAMPLES):
    return np.tile(np.asarray(genome), (count, 1))


# -- sampling -----------------------------------------------------------------------------------


def test_every_choice_of_a_dimension_is_sampled_equally():
    genomes = MIXED_SPACE.sample_choices(NUM_SAMPLES, np.random.default_rng(0))
    assert (MIXED_SPACE.canonical_genomes(genomes) == genomes).all()
    active = MIXED_SPACE.active(genomes)
    for column, dimension in enumerate(MIXED_SPACE):
        drawn = genomes[active[:, column], column]
        frequency = np.bincount(drawn, minlength=len(dimension.choices)) / len(drawn)
        np.testing.assert_allclose(frequency, 1 / len(dimension.choices), atol=0.03)


# -- mutation -----------------------------------------------------------------------------------


@given(space=spaces, rng=generators, rate=st.sampled_from([None, 0.0, 0.3, 1.0]))
@settings(max_examples=40)
def test_a_mutation_always_gives_another_network(space, rng, rate):
    parents = space.sample_genomes(30, rng)
    children = Variation(space).mutate(parents, rng, rate)
    assert (children != parents).any(axis=1).all()
    assert (space.canonical_genomes(children) == children).all()


@pytest.mark.parametrize("choices", [(False, True), (1, 2), (1, 2, 3), tuple("abcdefg")])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_dimensions_change_at_the_rate_asked_for(choices, rate):
    space = flat_space(20, choices)
    rng = np.random.default_rng(0)
    parents = space.sample_genomes(NUM_SAMPLES, rng)
    changed = (Variation(space).mutate(parents, rng, rate) != parents).mean(axis=0)
    expected = rate + (1 - rate) ** 20 / 20  # where chance picks none, one changes
    np.testing.assert_allclose(changed, expected, atol=0.015)


def test_one_dimension_changes_on_average_by_default_and_one_where_there_would_be_none():
    space = flat_space(10, (False, True))
    rng = np.random.default_rng(0)
    parents = space.sample_genomes(NUM_SAMPLES, rng)
    changed = (Variation(space).mutate(parents, rng) != parents).sum(axis=1)
    assert changed.min() == 1
    assert changed.mean() == pytest.approx(1 + 0.9**10, abs=0.02)


def test_another_name_is_drawn_uniformly():
    children = Variation(flat_space(1, tuple("abcd"))).mutate(copies([2]), np.random.default_rng(0))
    frequency = np.bincount(children[:, 0], minlength=4) / NUM_SAMPLES
    np.testing.assert_allclose(frequency, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.02)


@pytest.mark.parametrize("start", [0, 3, 6])
def test_numbers_change_to_near_ones_first_and_to_all(start):
    children = Variation(flat_space(1, (1, 2, 3, 4, 5, 6, 7))).mutate(
        copies([start]), np.random.default_rng(0)
    )
    frequency = np.bincount(children[:, 0], minlength=7) / NUM_SAMPLES
    assert frequency[start] == 0
    assert (np.delete(frequency, start) > 0.02).all()
    for upwards in (frequency[start + 1 :], frequency[:start][::-1]):
        assert (np.diff(upwards) < 0).all()


def test_what_a_mutation_activates_is_drawn_uniformly():
    space = SearchSpace(
        [
            ElasticDimension("depth", (1, 2)),
            ElasticDimension("width", (1, 2, 3, 4), ActiveWhen("depth", (2,))),
        ]
    )
    children = Variation(space).mutate(copies([0, 0]), np.random.default_rng(0))
    assert (children[:, 0] == 1).all()
    frequency = np.bincount(children[:, 1], minlength=4) / NUM_SAMPLES
    np.testing.assert_allclose(frequency, 0.25, atol=0.02)


def test_the_only_genome_stays():
    only = np.zeros((3, len(ONLY_SPACE)), dtype=np.int64)
    assert (Variation(ONLY_SPACE).mutate(only, np.random.default_rng(0)) == only).all()


# -- crossover ----------------------------------------------------------------------------------


@given(space=spaces, rng=generators)
@settings(max_examples=40)
def test_every_active_choice_of_a_child_is_active_in_a_parent(space, rng):
    first, second = space.sample_genomes(30, rng), space.sample_genomes(30, rng)
    children = Variation(space).cross(first, second, rng)
    inherited = ((children == first) & space.active(first)) | (
        (children == second) & space.active(second)
    )
    assert inherited[space.active(children)].all()
    assert (space.canonical_genomes(children) == children).all()
    assert (Variation(space).cross(first, first, rng) == first).all()


def test_parents_give_half_each():
    space = flat_space(8, (False, True))
    children = Variation(space).cross(
        copies(np.zeros(8, dtype=int)), copies(np.ones(8, dtype=int)), np.random.default_rng(0)
    )
    np.testing.assert_allclose(children.mean(axis=0), 0.5, atol=0.02)
