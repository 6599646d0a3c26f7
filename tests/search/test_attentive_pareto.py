import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def parents(losses, violations=None, **options):
    """The rows whose descendants are proposed."""
    toy = ToyProblem(MOBILE_SPACE, losses.shape[1])
    genomes, _ = toy.sample(len(losses))
    algorithm = ALGORITHMS["attentive_pareto"](toy.problem, num_initial=1, **options)
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, violations)
    return sorted(algorithm._parent_rows())


def test_every_interval_has_its_best_as_parent():
    losses = np.array([[3.0, 0.0], [2.0, 0.1], [9.0, 0.5], [8.0, 0.6], [1.0, 1.0], [0.5, 0.9]])
    assert parents(losses, num_intervals=2) == [1, 5]
    assert parents(losses, num_intervals=4) == [1, 3, 5]
    assert parents(losses, num_intervals=1) == [5]


def test_intervals_of_several_objectives_share_the_number():
    position = np.arange(8.0)
    losses = np.column_stack([position, position % 2, position // 2 % 2])
    assert parents(losses, num_intervals=4) == [0, 1, 2, 3]
    assert parents(losses, num_intervals=3) == [0]


def test_with_one_objective_the_best_are_parents():
    assert parents(np.array([[3.0], [1.0], [2.0], [4.0]]), num_intervals=2) == [1, 2]


def test_the_infeasible_are_parents_only_where_all_are():
    losses = np.array([[1.0, 0.0], [2.0, 0.1], [3.0, 1.0]])
    assert parents(losses, np.array([1.0, 0.0, 0.0]), num_intervals=2) == [1, 2]
    assert parents(losses, np.array([1.0, 0.5, 2.0]), num_intervals=2) == [0, 1]


def test_a_mutation_changes_a_fifth_and_a_crossover_mixes_two():
    algorithm = ALGORITHMS["attentive_pareto"](TOY.problem, num_initial=2, num_intervals=2)
    told = MOBILE_SPACE.to_genomes([MOBILE_SPACE.smallest, MOBILE_SPACE.largest])
    algorithm.tell(MOBILE_SPACE.from_genomes(told), np.array([[0.0, 1.0], [1.0, 0.0]]))
    proposed = MOBILE_SPACE.to_genomes(algorithm.ask(200))
    crossed = (proposed != 1).all(axis=1)  # of first and last choices, which are 0 and 2
    assert 45 < crossed.sum() < 90  # half of the crossovers are of one parent with itself: known
    last = (proposed[crossed] == 2)[:, :5].mean()
    assert 0.4 < last < 0.6
    changed = (proposed[~crossed][:, None] != told[None])[:, :, :5].mean(axis=2).min(axis=1)
    assert 0.1 < changed.mean() < 0.3


def test_it_beats_random_search():
    volumes = {}
    for name in ("random", "attentive_pareto"):
        algorithm = ALGORITHMS[name](TOY.problem, seed=1)
        while len(algorithm.losses) < 300:
            tell(algorithm, TOY, algorithm.ask(10))
        volumes[name] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes["attentive_pareto"] > 1.15 * volumes["random"]


@pytest.mark.parametrize("options", [{"num_initial": 0}, {"num_intervals": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(RequestError, match="are at least 1, but they were"):
        ALGORITHMS["attentive_pareto"](TOY.problem, **options)
