import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def distance_to_nearest(proposed, genomes):
    """Mean over proposals of the share of dimensions that differ from the nearest genome."""
    differing = MOBILE_SPACE.to_genomes(proposed)[:, None] != genomes[None]
    return differing.mean(axis=2).min(axis=1).mean()


def test_children_resemble_the_population_only_once_there_is_one():
    algorithm = ALGORITHMS["nsga2"](TOY.problem, population=30)
    genomes, losses = TOY.sample(30)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    algorithm.tell(architectures[:29], losses[:29])
    before = distance_to_nearest(algorithm.ask(20), genomes)
    algorithm.tell(architectures[29:], losses[29:])
    after = distance_to_nearest(algorithm.ask(20), genomes)
    assert after < 0.7 * before


def test_trials_that_it_did_not_propose_become_its_population():
    algorithm = ALGORITHMS["nsga2"](TOY.problem, population=20)
    genomes, losses = TOY.sample(2000)
    best = np.argsort(losses.sum(axis=1))[:5]
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
    children = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(50)))
    assert np.median(children.sum(axis=1)) < np.quantile(losses.sum(axis=1), 0.05)
    assert losses[best].sum(axis=1).mean() < children.sum(axis=1).mean()


def test_feasible_trials_are_the_parents():
    constrained = ToyProblem(MOBILE_SPACE).problem
    algorithm = ALGORITHMS["nsga2"](constrained, population=20)
    genomes, losses = TOY.sample(400)
    deep = genomes[:, 0] == 2
    assert 0.2 < deep.mean() < 0.8
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, np.where(deep, 0.0, 1.0))
    children = MOBILE_SPACE.to_genomes(algorithm.ask(50))
    assert (children[:, 0] == 2).mean() > 0.9


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_it_beats_random_search_with_batches_of_any_size(batch_size):
    volumes = {}
    for name, options in (("random", {}), ("nsga2", {"population": 30})):
        algorithm = ALGORITHMS[name](TOY.problem, seed=1, **options)
        while len(algorithm.losses) < 300:
            tell(algorithm, TOY, algorithm.ask(batch_size))
        volumes[name] = hypervolume(algorithm.losses[:300], np.array([2.0, 2.0]))
    assert volumes["nsga2"] > 1.15 * volumes["random"]


def test_a_population_of_one_is_refused():
    with pytest.raises(RequestError, match="at least two members, but it was 1"):
        ALGORITHMS["nsga2"](ToyProblem(MIXED_SPACE).problem, population=1)
