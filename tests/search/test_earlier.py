import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS
from nasbench.search.earlier import EarlierSearch, EarlierTrials
from nasbench.search.problem import CountedMetrics
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)
REFERENCE = np.array([2.0, 2.0])


def earlier_trials(count=120, bend=lambda losses: losses):
    genomes, losses = TOY.sample(count, seed=5)
    return EarlierTrials(genomes, bend(losses))


def reached(num_trials, **options):
    algorithm = ALGORITHMS["auto"](TOY.problem, pool_size=500, **options)
    while len(algorithm.losses) < num_trials:
        tell(algorithm, TOY, algorithm.ask(10))
    return hypervolume(algorithm.losses, REFERENCE)


def test_what_another_device_found_shortens_a_search():
    """Here a device that takes twice as long, and more the longer it takes."""
    earlier = earlier_trials(bend=lambda losses: 2.0 * np.exp(losses))
    assert reached(20, earlier=earlier) > reached(40)


@pytest.mark.slow
def test_noise_in_place_of_an_earlier_search_delays_and_does_not_lock_in():
    rng = np.random.default_rng(0)
    wrong = earlier_trials(bend=lambda losses: rng.permuted(losses, axis=0))
    assert reached(90, earlier=wrong) > reached(40)


def test_half_of_the_first_proposals_are_on_the_expected_front():
    algorithm = ALGORITHMS["auto"](TOY.problem, earlier=earlier_trials(), num_initial=100)
    proposed = TOY.losses(MOBILE_SPACE.to_genomes(algorithm.ask(60))).sum(axis=1)
    good = np.quantile(TOY.sample(1000)[1].sum(axis=1), 0.02)
    assert 0.3 < (proposed < good).mean() < 0.7


def test_the_same_earlier_trials_give_the_same_proposals():
    first, again = (ALGORITHMS["auto"](TOY.problem, earlier=earlier_trials()) for _ in range(2))
    assert first.ask(8) == again.ask(8)


def expected(share):
    counted = CountedMetrics(TOY.problem)
    return EarlierSearch(TOY.problem, counted, earlier_trials(), seed=0, reduce_below=share)


def test_rare_are_the_choices_that_good_candidates_do_not_make():
    genomes, losses = TOY.sample(2000)
    order = np.argsort(losses.sum(axis=1))
    best, worst = genomes[order[:100]], genomes[order[-100:]]
    assert (expected(0.0).num_rare(genomes) == 0).all()
    for share in (0.05, 0.1):
        assert expected(share).num_rare(best).mean() < expected(share).num_rare(worst).mean()
    assert (expected(0.05).num_rare(genomes) <= expected(0.1).num_rare(genomes)).all()


def test_proposals_but_for_random_ones_respect_the_reduction():
    search = expected(0.1)
    algorithm = ALGORITHMS["auto"](
        TOY.problem,
        earlier=earlier_trials(),
        transfer=False,
        reduce_below=0.1,
        random_fraction=0.0,
        pool_size=500,
    )
    genomes, losses = TOY.sample(60)
    algorithm.tell(MOBILE_SPACE.from_genomes(genomes), losses)
    proposed = MOBILE_SPACE.to_genomes(algorithm.ask(20))
    assert (search.num_rare(proposed) == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: earlier_trials(19), "at least 20 completed trials to learn from, but has 19"),
        (lambda: EarlierTrials(TOY.sample(30)[0], np.ones(30)), r"but it was \(30,\)"),
        (lambda: EarlierTrials(TOY.sample(30)[0], np.full((30, 2), np.nan)), "is not finite"),
        (
            lambda: ALGORITHMS["auto"](
                TOY.problem, earlier=EarlierTrials(TOY.sample(30)[0], np.ones((30, 3)))
            ),
            "has 2 objectives, but earlier trials have losses of 3",
        ),
        (
            lambda: ALGORITHMS["auto"](ToyProblem(MIXED_SPACE).problem, earlier=earlier_trials()),
            "genomes",
        ),
        (lambda: ALGORITHMS["auto"](TOY.problem, reduce_below=0.1), "needs an earlier search"),
        (
            lambda: ALGORITHMS["auto"](TOY.problem, earlier=earlier_trials(), reduce_below=1.0),
            "0 or more and below 1, but it was 1.0",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(make, message):
    with pytest.raises(RequestError, match=message):
        make()
