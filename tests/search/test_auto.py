import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.pareto import hypervolume, non_dominated
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)
FAST = {"predictor": "ridge", "pool_size": 500}
REFERENCE = np.array([2.0, 2.0])


def run(name, toy, num_trials, seed=0, **options):
    algorithm = ALGORITHMS[name](toy.problem, seed=seed, **options)
    while len(algorithm.losses) < num_trials:
        tell(algorithm, toy, algorithm.ask(10))
    return algorithm


@pytest.mark.slow
def test_it_needs_far_fewer_measurements_than_evolution():
    for seed in range(2):
        toy = ToyProblem(MOBILE_SPACE, seed=seed)
        ours = hypervolume(run("auto", toy, 60, seed).losses, REFERENCE)
        assert ours > 1.2 * hypervolume(run("nsga2", toy, 120, seed).losses, REFERENCE)


def test_it_begins_at_random_and_then_learns():
    auto = run("auto", TOY, 40, **FAST)
    random = run("random", TOY, 20)
    assert (auto.genomes[:20] == random.genomes).all()
    first, then = auto.losses[:20].sum(axis=1), auto.losses[20:].sum(axis=1)
    assert np.median(then) < first.min()


def test_failures_among_the_first_do_not_delay_it():
    def proposed(num_initial):
        algorithm = ALGORITHMS["auto"](TOY.problem, num_initial=num_initial, **FAST)
        architectures = algorithm.ask(20)
        losses = TOY.losses(MOBILE_SPACE.to_genomes(architectures))
        losses[8:] = np.nan
        algorithm.tell(architectures, losses)
        return algorithm.ask(10)

    assert proposed(num_initial=20) == proposed(num_initial=1)
    assert proposed(num_initial=20) != proposed(num_initial=21)


def test_what_is_pending_counts_as_measured():
    """Ten asked one by one are as good a batch as ten asked together."""

    def added(ask):
        genomes, losses = TOY.sample(60)
        algorithm = ALGORITHMS["auto"](TOY.problem, random_fraction=0.0, **FAST)
        algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
        found = TOY.losses(MOBILE_SPACE.to_genomes(ask(algorithm)))
        return hypervolume(np.vstack([losses, found]), REFERENCE) - hypervolume(losses, REFERENCE)

    one_by_one = added(lambda algorithm: [algorithm.ask(1)[0] for _ in range(10)])
    at_once = added(lambda algorithm: algorithm.ask(10))
    alone = added(lambda algorithm: algorithm.ask(1))
    assert one_by_one > 0.8 * at_once
    assert one_by_one > 1.2 * alone


def test_a_share_of_the_proposals_is_random():
    genomes, losses = TOY.sample(60)
    shares = []
    for fraction in (0.0, 0.5, 1.0):
        algorithm = ALGORITHMS["auto"](TOY.problem, random_fraction=fraction, **FAST)
        algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
        proposed = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(40))).sum(axis=1)
        shares.append((proposed < np.quantile(losses.sum(axis=1), 0.1)).mean())
    assert shares[0] > 0.9
    assert 0.3 < shares[1] < 0.8
    assert shares[2] < 0.4


def test_a_share_of_the_proposals_is_the_best_by_rank():
    """Where all is known without measuring, that is the front of what is left, spread."""
    space, rng = MIXED_SPACE, np.random.default_rng(0)
    every = list(space.enumerate())
    names = ("loss0", "loss1")
    losses = dict(zip(every, rng.random((len(every), 2)), strict=True))
    problem = SearchProblem(
        space,
        [Objective(name, "minimize") for name in names],
        counted={name: lambda a, m=m: losses[a][m] for m, name in enumerate(names)},
    )
    options = {"random_fraction": 0.0, "rank_fraction": 1.0, "pool_size": space.size}
    algorithm = ALGORITHMS["auto"](problem, **options)
    first = algorithm.ask(20)
    algorithm.tell(first, np.array([losses[a] for a in first]))
    left = [a for a in every if a not in first]
    best = non_dominated(np.array([losses[a] for a in left]))
    front = [left[row] for row in np.flatnonzero(best)]
    assert set(algorithm.ask(len(front))) == set(front)


def test_counted_objectives_are_searched_exactly():
    def total_depth(architecture):
        return float(sum(architecture[f"stage{stage}.depth"] for stage in range(5)))

    problem = SearchProblem(
        MOBILE_SPACE,
        [Objective("loss0", "minimize"), Objective("total_depth", "minimize")],
        constraints=[Constraint("total_depth", "<=", 12)],
        counted={"total_depth": total_depth},
    )
    algorithm = ALGORITHMS["auto"](problem, **FAST)
    for _ in range(3):
        architectures = algorithm.ask(30)
        assert max(map(total_depth, architectures)) <= 12
        depths = np.array([total_depth(architecture) for architecture in architectures])
        losses = np.column_stack([TOY.losses(MOBILE_SPACE.to_genomes(architectures))[:, 0], depths])
        algorithm.tell(architectures, losses, np.zeros(30))
    assert {10.0, 11.0, 12.0} <= {total_depth(architecture) for architecture in algorithm.ask(30)}


def test_proposals_respect_a_constraint_on_an_objective():
    bound = float(np.quantile(TOY.sample(2000)[1][:, 0], 0.02))
    problem = SearchProblem(
        MOBILE_SPACE, TOY.problem.objectives, [Constraint("loss0", "<=", bound)]
    )
    algorithm = ALGORITHMS["auto"](problem, random_fraction=0.0, **FAST)
    genomes, losses = TOY.sample(200)
    violations = [problem.constraints[0].violation(loss) for loss in losses[:, 0]]
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses, np.array(violations))
    proposed = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(20)))
    assert (proposed[:, 0] <= bound).mean() > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "rigde"}, "unknown predictor 'rigde'; did you mean 'ridge'"),
        ({"num_initial": 0}, "at least 1, but they were 0 and 2000"),
        ({"pool_size": 0}, "at least 1, but they were 20 and 0"),
        ({"random_fraction": 1.5}, "random_fraction is 0 to 1, but it was 1.5"),
        ({"rank_fraction": -0.1}, "rank_fraction is 0 to 1, but it was -0.1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        ALGORITHMS["auto"](ToyProblem(MIXED_SPACE).problem, **options)
