import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def told(toy, num_trials=100, **options):
    algorithm = ALGORITHMS["weaknas"](toy.problem, **options)
    genomes, losses = toy.sample(num_trials)
    algorithm.tell(toy.problem.space.from_genomes(genomes), losses)
    return algorithm


def total_losses(toy, architectures):
    return toy.losses(toy.problem.space.to_genomes(architectures)).sum(axis=1)


def test_it_beats_random_search():
    volumes = {}
    for name, options in (("random", {}), ("weaknas", {"predictors": ["ridge"]})):
        algorithm = ALGORITHMS[name](TOY.problem, seed=1, **options)
        while len(algorithm.losses) < 150:
            tell(algorithm, TOY, algorithm.ask(10))
        volumes[name] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes["weaknas"] > 1.15 * volumes["random"]


@pytest.mark.parametrize("toy", [TOY, ToyProblem(MIXED_SPACE)], ids=["pool", "enumerated"])
def test_a_share_of_the_proposals_is_random(toy):
    options = {"predictors": ["ridge"], "num_top": 40}
    share = {}
    for fraction in (0.0, 0.5, 1.0):
        algorithm = told(toy, random_fraction=fraction, **options)
        bound = np.quantile(algorithm.losses.sum(axis=1), 0.3)
        share[fraction] = (total_losses(toy, algorithm.ask(40)) > bound).mean()
    assert share[0.0] < 0.1
    assert 0.2 < share[0.5] < 0.55
    assert share[1.0] > 0.55


def test_proposals_are_drawn_from_the_top_and_not_its_first():
    toy = ToyProblem(MIXED_SPACE, num_objectives=1, interaction=0.0)
    algorithm = told(toy, predictors=["ridge"], num_top=100, random_fraction=0.0)
    everything = list(MIXED_SPACE.enumerate())
    known = set(MIXED_SPACE.from_genomes(algorithm.genomes))
    new = [architecture for architecture in everything if architecture not in known]
    order = np.argsort(total_losses(toy, new))
    ranks = {new[row]: rank for rank, row in enumerate(order)}
    drawn = [ranks[architecture] for architecture in algorithm.ask(20)]
    assert max(drawn) < 130
    assert 30 < np.mean(drawn) < 70


def test_every_member_of_the_ensemble_has_a_say():
    toy = ToyProblem(MIXED_SPACE)
    asked = [
        told(toy, 50, predictors=names, random_fraction=0.0).ask(10)
        for names in (["ridge"], ["lightgbm"], ["ridge", "lightgbm"], ["lightgbm", "ridge"])
    ]
    assert asked[0] != asked[1] != asked[2] != asked[0]
    assert asked[2] == asked[3]


def test_counted_constraints_and_objectives_are_exact():
    def total_depth(architecture):
        return float(sum(architecture[f"stage{stage}.depth"] for stage in range(5)))

    problem = SearchProblem(
        MOBILE_SPACE,
        [Objective("loss0", "minimize"), Objective("total_depth", "minimize")],
        constraints=[Constraint("total_depth", "<=", 12)],
        counted={"total_depth": total_depth},
    )
    algorithm = ALGORITHMS["weaknas"](problem, predictors=["ridge"])
    genomes, losses = TOY.sample(60)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    depths = np.array([total_depth(architecture) for architecture in architectures])
    violations = np.maximum(depths - 12, 0) / 12
    algorithm.tell(architectures, np.column_stack([losses[:, 0], depths]), violations)
    assert max(map(total_depth, algorithm.ask(30))) <= 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictors": ["rigde"]}, "unknown predictor 'rigde'; did you mean 'ridge'"),
        ({"predictors": "ridge"}, "list of predictors, but it was 'ridge'"),
        ({"predictors": []}, "list of predictors, but it was"),
        ({"num_top": 0}, "at least 1, but they were 50, 0 and 10000"),
        ({"random_fraction": 1.5}, "random_fraction is 0 to 1, but it was 1.5"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        ALGORITHMS["weaknas"](TOY.problem, **options)
