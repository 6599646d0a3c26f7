import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)
REFERENCE = np.array([2.0, 2.0])


def run(name, toy, num_trials, seed=0, **options):
    algorithm = ALGORITHMS[name](toy.problem, seed=seed, **options)
    while len(algorithm.losses) < num_trials:
        tell(algorithm, toy, algorithm.ask(25))
    return algorithm


@pytest.mark.slow
def test_it_beats_random_search_and_nsga2_by_far():
    for seed in range(3):
        toy = ToyProblem(MOBILE_SPACE, seed=seed)
        volumes = {
            name: hypervolume(run(name, toy, 125, seed).losses, REFERENCE)
            for name in ("random", "nsga2", "linas")
        }
        assert volumes["linas"] > 1.3 * max(volumes["random"], volumes["nsga2"])


def test_it_begins_as_random_search():
    linas, random = run("linas", TOY, 50), run("random", TOY, 50)
    assert (linas.genomes == random.genomes).all()
    assert linas.ask(25) != random.ask(25)


@pytest.mark.parametrize("toy", [TOY, ToyProblem(MIXED_SPACE)], ids=["evolved", "enumerated"])
def test_proposals_are_better_than_what_was_measured(toy):
    algorithm = run("linas", toy, 75)
    proposed = toy.losses(toy.problem.space.to_genomes(algorithm.ask(25)))
    assert np.median(proposed.sum(axis=1)) < np.quantile(algorithm.losses[:50].sum(axis=1), 0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_pending_is_kept_away_from(seed):
    """As if asked together; where the last ones failed, they are repeated all but exactly."""
    toy = ToyProblem(MOBILE_SPACE, seed=seed)
    genomes, losses = toy.sample(100, seed)

    def spread(ask):
        options = {"predictor": "ridge", "num_inner_evaluations": 3000}
        algorithm = ALGORITHMS["linas"](toy.problem, seed=seed, **options)
        algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
        proposed = toy.losses(MOBILE_SPACE.to_genomes(ask(algorithm)))
        return (np.ptp(proposed, axis=0) / np.ptp(losses, axis=0)).sum()

    def one_after_a_failure(algorithm):
        proposals = []
        for _ in range(5):
            proposals += algorithm.ask(1)
            algorithm.tell(proposals[-1:], np.full((1, 2), np.nan))
        return proposals

    one_by_one = spread(lambda algorithm: [algorithm.ask(1)[0] for _ in range(5)])
    assert one_by_one > 0.7 * spread(lambda algorithm: algorithm.ask(5))
    assert one_by_one > 1.5 * spread(one_after_a_failure)


def test_counted_objectives_are_searched_exactly():
    def total_depth(architecture):
        return float(sum(architecture[f"stage{stage}.depth"] for stage in range(5)))

    problem = SearchProblem(
        MOBILE_SPACE,
        [Objective("loss0", "minimize"), Objective("total_depth", "minimize")],
        constraints=[Constraint("total_depth", "<=", 12)],
        counted={"total_depth": total_depth},
    )
    algorithm = ALGORITHMS["linas"](problem)
    for _ in range(3):
        architectures = algorithm.ask(30)
        assert max(map(total_depth, architectures)) <= 12
        genomes = MOBILE_SPACE.to_genomes(architectures)
        depths = np.array([total_depth(architecture) for architecture in architectures])
        losses = np.column_stack([TOY.losses(genomes)[:, 0], depths])
        algorithm.tell(architectures, losses, np.zeros(30))
    assert {10.0, 11.0, 12.0} <= {total_depth(architecture) for architecture in algorithm.ask(30)}


def test_proposals_respect_a_constraint_on_an_objective():
    bound = float(np.quantile(TOY.sample(2000)[1][:, 0], 0.02))
    problem = SearchProblem(
        MOBILE_SPACE, TOY.problem.objectives, [Constraint("loss0", "<=", bound)]
    )
    algorithm = ALGORITHMS["linas"](problem)
    genomes, losses = TOY.sample(200)
    violations = [problem.constraints[0].violation(loss) for loss in losses[:, 0]]
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, np.array(violations))
    proposed = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(30)))
    assert (proposed[:, 0] <= bound).mean() > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "rigde"}, "unknown predictor 'rigde'; did you mean 'ridge'"),
        ({"num_initial": 0}, "at least 1, but they were 0 and 10000"),
        ({"num_inner_evaluations": 0}, "at least 1, but they were 50 and 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        ALGORITHMS["linas"](TOY.problem, **options)
