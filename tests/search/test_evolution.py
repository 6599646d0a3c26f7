import warnings

import numpy as np
import pytest

from nasbench.errors import MissingExtraError, RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS, evolution
from nasbench.search.evolution import reference_directions
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)
NAMES = ["nsga2", "nsga3", "unsga3", "smsemoa", "rvea", "moead", "spea2"]
NAMES += [pytest.param("agemoea2", marks=pytest.mark.slow)]  # numba compiles for seconds


@pytest.fixture(params=NAMES)
def name(request):
    if request.param == "agemoea2":
        pytest.importorskip("numba", reason="agemoea2 needs the extra of its name")
    return request.param


def distance_to_nearest(proposed, genomes):
    """Mean over proposals of the share of dimensions that differ from the nearest genome."""
    differing = MOBILE_SPACE.to_genomes(proposed)[:, None] != genomes[None]
    return differing.mean(axis=2).min(axis=1).mean()


def test_children_resemble_the_population_only_once_there_is_one(name):
    algorithm = ALGORITHMS[name](TOY.problem, population=30)
    genomes, losses = TOY.sample(30)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    algorithm.tell(architectures[:29], losses[:29])
    before = distance_to_nearest(algorithm.ask(20), genomes)
    algorithm.tell(architectures[29:], losses[29:])
    after = distance_to_nearest(algorithm.ask(20), genomes)
    assert after < 0.7 * before


def test_trials_that_it_did_not_propose_become_its_population(name):
    algorithm = ALGORITHMS[name](TOY.problem, population=20)
    genomes, losses = TOY.sample(2000)
    best = np.argsort(losses.sum(axis=1))[:5]
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
    children = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(50)))
    assert np.median(children.sum(axis=1)) < np.quantile(losses.sum(axis=1), 0.05)
    assert losses[best].sum(axis=1).mean() < children.sum(axis=1).mean()


def test_feasible_trials_are_the_parents(name):
    constrained = ToyProblem(MOBILE_SPACE).problem
    algorithm = ALGORITHMS[name](constrained, population=20)
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


def test_each_beats_random_search(name):
    volumes = {}
    for which in ("random", name):
        algorithm = ALGORITHMS[which](TOY.problem, seed=1)
        while len(algorithm.losses) < 400:
            tell(algorithm, TOY, algorithm.ask(20))
        volumes[which] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes[name] > 1.1 * volumes["random"]


def test_ties_are_broken_by_the_seed(name):
    genomes, losses = TOY.sample(80)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    asked = []
    for _ in range(2):
        algorithm = ALGORITHMS[name](TOY.problem, seed=5)
        algorithm.tell(architectures, losses, np.ones(80))
        asked.append(algorithm.ask(20))
    assert asked[0] == asked[1]


def test_instances_share_nothing_that_they_learned(name):
    genomes, losses = TOY.sample(80)
    architectures = MOBILE_SPACE.from_genomes(genomes)

    def proposals():
        algorithm = ALGORITHMS[name](TOY.problem, seed=5, population=20)
        algorithm.tell(architectures, losses)
        return algorithm.ask(20)

    before = proposals()
    ALGORITHMS[name](TOY.problem, population=20).tell(architectures, losses * 100 - 1000)
    assert proposals() == before


def test_the_least_violated_are_the_parents_where_none_is_feasible(name):
    algorithm = ALGORITHMS[name](TOY.problem, population=20)
    genomes, losses = TOY.sample(400)
    deep = genomes[:, 0] == 2
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, np.where(deep, 1.0, 2.0))
    children = MOBILE_SPACE.to_genomes(algorithm.ask(50))
    assert (children[:, 0] == 2).mean() > 0.9


def test_warnings_of_the_process_are_left_as_they_were(name):
    before = list(warnings.filters)
    algorithm = ALGORITHMS[name](TOY.problem, population=20)
    genomes, losses = TOY.sample(60)
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
    algorithm.ask(5)
    assert warnings.filters == before


def test_the_unit_of_an_objective_does_not_matter_to_moead():
    genomes, losses = TOY.sample(200)
    asked = []
    for unit in (1.0, 2.0**20):
        algorithm = ALGORITHMS["moead"](TOY.problem)
        algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses * [1.0, unit])
        asked.append(algorithm.ask(20))
    assert asked[0] == asked[1]


def test_one_trial_of_moead_takes_only_the_weightings_near_its_own():
    genomes, losses = TOY.sample(51)
    algorithm = ALGORITHMS["moead"](TOY.problem)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    algorithm.tell(architectures[:50], losses[:50])
    algorithm.tell(architectures[50:], losses[:50].min(axis=0, keepdims=True) - 1.0)
    assert (algorithm._evolution.pop.get("X") == genomes[50]).all(axis=1).sum() == 20


def test_rvea_adapts_to_the_ranges_ten_times_in_the_trials_expected():
    def directions(num_told):
        algorithm = ALGORITHMS["rvea"](TOY.problem, num_trials=1000, population=20)
        for first in range(0, num_told, 20):
            tell(algorithm, TOY, MOBILE_SPACE.from_genomes(genomes[first : first + 20]))
        return algorithm._evolution.survival.V

    genomes, _ = TOY.sample(200)
    assert (directions(60) == directions(80)).all()
    assert (directions(80) != directions(100)).any()
    assert (directions(100) == directions(180)).all()
    assert (directions(180) != directions(200)).any()


@pytest.mark.parametrize(("num_objectives", "population", "count"), [(2, 50, 50), (3, 50, 45)])
def test_reference_directions_cover_the_simplex(num_objectives, population, count):
    directions = reference_directions(num_objectives, population)
    assert directions.shape == (count, num_objectives)
    np.testing.assert_allclose(directions.sum(axis=1), 1.0)
    assert (np.eye(num_objectives)[:, None] == directions[None]).all(axis=2).any(axis=1).all()


def test_fewer_places_than_objectives_are_refused():
    with pytest.raises(RequestError, match="one per objective, 4, but it was 3"):
        ALGORITHMS["nsga3"](ToyProblem(MIXED_SPACE, 4).problem, population=3)


def test_rvea_of_no_trials_is_refused():
    with pytest.raises(RequestError, match="num_trials is at least 1, but it was 0"):
        ALGORITHMS["rvea"](TOY.problem, num_trials=0)


def test_agemoea2_names_its_extra(monkeypatch):
    monkeypatch.setattr(evolution, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"'numba', .* pip install 'nasbench\[agemoea2\]'"):
        ALGORITHMS["agemoea2"](TOY.problem)
