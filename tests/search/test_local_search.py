import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume, non_dominated
from nasbench.search import ALGORITHMS
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def told(toy, num_trials, **options):
    algorithm = ALGORITHMS["local_search"](toy.problem, **options)
    genomes, losses = toy.sample(num_trials)
    algorithm.tell(toy.problem.space.from_genomes(genomes), losses)
    return algorithm


def neighbors_of(space, genomes):
    return [set(space.neighbors(architecture)) for architecture in space.from_genomes(genomes)]


def test_proposals_are_neighbors_of_the_front_in_turn():
    algorithm = told(TOY, 200)
    front = algorithm.genomes[non_dominated(algorithm.losses)]
    around = neighbors_of(MOBILE_SPACE, front)
    proposed = algorithm.ask(len(front))
    assert len(front) > 3
    assert all(any(a in neighbors for neighbors in around) for a in proposed)
    assert all(any(a in neighbors for a in proposed) for neighbors in around)


def test_where_the_front_has_no_new_neighbors_the_next_rank_has():
    toy = ToyProblem(MIXED_SPACE, num_objectives=1)
    algorithm = told(toy, 60)
    order = np.argsort(algorithm.losses[:, 0])
    best, second = neighbors_of(MIXED_SPACE, algorithm.genomes[order[:2]])
    algorithm.tell(list(best), np.full((len(best), 1), 99.0))
    assert set(algorithm.ask(3)) <= second


def test_only_the_feasible_have_neighbors():
    algorithm = ALGORITHMS["local_search"](TOY.problem)
    genomes, losses = TOY.sample(30)
    violations = np.ones(30)
    violations[17] = 0.0
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, violations)
    (around,) = neighbors_of(MOBILE_SPACE, genomes[17:18])
    assert set(algorithm.ask(20)) <= around


def test_hills_are_climbed_to_the_top():
    toy = ToyProblem(MIXED_SPACE, num_objectives=1)
    algorithm = ALGORITHMS["local_search"](toy.problem, seed=1)
    while len(algorithm.losses) < 300:
        tell(algorithm, toy, algorithm.ask(10))
    everything = toy.losses(MIXED_SPACE.to_genomes(list(MIXED_SPACE.enumerate())))
    assert algorithm.losses.min() == everything.min()


def test_it_beats_random_search():
    volumes = {}
    for name in ("random", "local_search"):
        algorithm = ALGORITHMS[name](TOY.problem, seed=1)
        while len(algorithm.losses) < 300:
            tell(algorithm, TOY, algorithm.ask(10))
        volumes[name] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes["local_search"] > 1.5 * volumes["random"]


def test_no_start_at_all_is_refused():
    with pytest.raises(RequestError, match="num_initial is at least 1, but it was 0"):
        ALGORITHMS["local_search"](TOY.problem, num_initial=0)
