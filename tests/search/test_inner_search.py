import numpy as np
import pytest

from nasbench.pareto import hypervolume, non_dominated
from nasbench.search.inner_search import evolve_candidates
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem


def search(toy, num_evaluations=3000, seed=0, bound=np.inf):
    rng = np.random.default_rng(seed)

    def score(genomes):
        losses = toy.losses(genomes)
        return losses, np.maximum(losses[:, 0] - bound, 0.0)

    space = toy.problem.space
    return evolve_candidates(space, score, space.sample_genomes(50, rng), num_evaluations, rng)


def test_every_candidate_is_scored_once_and_as_it_is():
    toy = ToyProblem(MIXED_SPACE)
    found = search(toy)
    assert len(np.unique(found.genomes, axis=0)) == len(found.genomes)
    np.testing.assert_array_equal(found.losses, toy.losses(found.genomes))
    assert (MIXED_SPACE.canonical_genomes(found.genomes) == found.genomes).all()


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_the_whole_front_of_a_small_space_is_found(num_objectives):
    toy = ToyProblem(MIXED_SPACE, num_objectives)
    everything = toy.losses(MIXED_SPACE.to_genomes(list(MIXED_SPACE.enumerate())))
    found = search(toy).losses
    true, reached = (
        np.unique(losses[non_dominated(losses)], axis=0) for losses in (everything, found)
    )
    np.testing.assert_allclose(reached, true)


def test_a_large_space_is_searched_far_better_than_at_random():
    for seed in range(3):
        toy = ToyProblem(MOBILE_SPACE, seed=seed)
        found = search(toy, num_evaluations=1500, seed=seed)
        random = toy.losses(MOBILE_SPACE.sample_genomes(1500, np.random.default_rng(seed)))
        reference = random.max(axis=0)
        assert hypervolume(found.losses, reference) > 1.6 * hypervolume(random, reference)


def test_violations_are_left_behind():
    toy = ToyProblem(MOBILE_SPACE)
    bound = np.quantile(toy.sample(1000)[1][:, 0], 0.001)
    found = search(toy, bound=bound)
    assert (found.violations[:50] > 0).all()
    assert (found.violations[-1000:] == 0).mean() > 0.5
