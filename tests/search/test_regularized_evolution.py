import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def told(losses, violations=None, **options):
    """An algorithm, and for each trial how many of the next proposals are its children."""
    genomes, _ = TOY.sample(len(losses))
    algorithm = ALGORITHMS["regularized_evolution"](TOY.problem, **options)
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, violations)
    proposed = MOBILE_SPACE.to_genomes(algorithm.ask(100))
    active = MOBILE_SPACE.active(proposed)[:, None] & MOBILE_SPACE.active(genomes)[None]
    differing = ((proposed[:, None] != genomes[None]) & active).sum(axis=2)
    assert (differing.min(axis=1) <= 1).all()
    return np.bincount(differing.argmin(axis=1), minlength=len(genomes))


def test_only_the_youngest_are_parents_however_good_the_old_are():
    losses = np.linspace(0, 1, 60)[:, None].repeat(2, axis=1)
    children = told(losses, population=20)
    assert children[:40].sum() == 0
    assert children[40:].sum() == 100


def test_the_best_of_a_sample_is_the_parent():
    losses = np.linspace(0, 1, 40)[:, None].repeat(2, axis=1)
    children = told(losses, population=40, sample_size=10)
    assert children[:8].sum() > 70 > children[20:].sum() == 0
    assert told(losses, population=40, sample_size=1)[20:].sum() > 30


def test_all_of_a_front_are_parents_alike():
    position = np.linspace(0, 1, 20)
    children = told(np.column_stack([position, 1 - position]), population=20, sample_size=10)
    assert children.max() < 20
    assert (children > 0).sum() > 14


def test_the_feasible_win():
    violations = np.ones(40)
    violations[30:] = 0.0
    losses = np.linspace(0, 1, 40)[:, None].repeat(2, axis=1)
    assert told(losses, violations, population=40, sample_size=40)[30:].sum() == 100


def test_it_beats_random_search():
    volumes = {}
    for name in ("random", "regularized_evolution"):
        algorithm = ALGORITHMS[name](TOY.problem, seed=1)
        while len(algorithm.losses) < 300:
            tell(algorithm, TOY, algorithm.ask(10))
        volumes[name] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes["regularized_evolution"] > 1.15 * volumes["random"]


@pytest.mark.parametrize("options", [{"population": 0}, {"sample_size": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(RequestError, match="are at least 1, but they were"):
        ALGORITHMS["regularized_evolution"](TOY.problem, **options)
