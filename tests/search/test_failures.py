"""Trials that fail: what is learned of them, and how a search keeps away from them."""

import numpy as np
import pytest

from nasbench.search import ALGORITHMS
from nasbench.search.failures import SuccessPredictor
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)


def fails(genomes):
    """An operator that the device lacks: the last choice of the first kernel, whatever the rest."""
    return genomes[:, COLUMN] == MOBILE_SPACE.num_choices[COLUMN] - 1


COLUMN = next(n for n, d in enumerate(MOBILE_SPACE) if "kernel" in d.name)


def test_all_succeed_as_far_as_few_failures_tell():
    genomes, _ = TOY.sample(40)
    predictor = SuccessPredictor(MOBILE_SPACE, 0)
    assert (predictor.probabilities(genomes, genomes, genomes[:4]) == 1).all()
    assert (predictor.probabilities(genomes, genomes[:4], genomes) == 1).all()


def test_what_always_fails_is_given_up_and_the_rest_is_not():
    genomes, _ = TOY.sample(400)
    known, others = genomes[:200], genomes[200:]
    predictor = SuccessPredictor(MOBILE_SPACE, 0)
    found = predictor.probabilities(others, known[~fails(known)], known[fails(known)])
    assert (found[fails(others)] == 0).mean() > 0.9
    assert (found[~fails(others)] > 0.5).all()


def test_failures_without_a_cause_give_nothing_up():
    genomes, _ = TOY.sample(400)
    is_failed = np.random.default_rng(0).random(200) < 0.3
    predictor = SuccessPredictor(MOBILE_SPACE, 0)
    found = predictor.probabilities(
        genomes[200:], genomes[:200][~is_failed], genomes[:200][is_failed]
    )
    assert (found > 0).mean() > 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_auto_learns_to_keep_away_from_what_fails(seed):
    algorithm = ALGORITHMS["auto"](TOY.problem, seed=seed)
    shares = []
    for _ in range(12):
        proposed = algorithm.ask(10)
        genomes = MOBILE_SPACE.to_genomes(proposed)
        # The larger the kernel the better, so that predictions lead to the one that fails.
        losses = TOY.losses(genomes) - 2.0 * genomes[:, [COLUMN]]
        losses[fails(genomes)] = np.nan
        algorithm.tell(proposed, losses)
        shares.append(fails(genomes).mean())
    assert sum(map(len, [algorithm.genomes, algorithm.failed])) == 120
    assert fails(algorithm.failed).all()
    assert np.mean(shares[-6:]) < 0.3


def test_what_failed_is_kept_once_and_in_order():
    algorithm = ALGORITHMS["random"](TOY.problem)
    genomes, losses = TOY.sample(6)
    architectures = MOBILE_SPACE.from_genomes(genomes)
    losses[[1, 4]] = np.nan
    algorithm.tell(architectures, losses)
    algorithm.tell(architectures[:2], losses[:2])
    np.testing.assert_array_equal(algorithm.failed, genomes[[1, 4]])
    np.testing.assert_array_equal(algorithm.genomes, genomes[[0, 2, 3, 5]])
