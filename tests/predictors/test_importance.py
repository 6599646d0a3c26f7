import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.importance import measure_importances
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2)),
        ElasticDimension("width", (0, 1, 2)),
        ElasticDimension("norm", ("batch", "layer", "none")),
        ElasticDimension("kernel_size", (3, 5, 7), ActiveWhen("depth", (2,))),
    ]
)


def sample(count, seed=0):
    return SPACE.to_genomes(
        [SPACE.sample(rng) for rng in [np.random.default_rng(seed)] for _ in range(count)]
    )


def measured(genomes, values, predictor="ridge", **options):
    return measure_importances(PREDICTORS[predictor], SPACE, genomes, values, **options)


@pytest.mark.parametrize("predictor", ["ridge", "lightgbm", "gp"])
def test_of_a_sum_it_is_twice_each_terms_share_of_the_variance(predictor):
    genomes = sample(400)
    terms = np.stack([3.0 * genomes[:, 1], 1.5 * genomes[:, 2]])
    found = measured(genomes, terms.sum(axis=0), predictor, num_repeats=4)
    assert found.drops_RD.shape == (4, 4)
    drops = found.drops_RD.mean(axis=0)
    shares = terms.var(axis=1) / terms.sum(axis=0).var()
    np.testing.assert_allclose(drops[1:3], 2 * shares, rtol=0.15)
    assert np.all(found.r2_R > 0.95)
    assert np.all(np.abs(drops[[0, 3]]) < 0.02), "what is in no term costs nothing"


def test_a_dimension_matters_by_what_it_makes_active():
    genomes = sample(400)
    found = measured(genomes, np.where(genomes[:, 0] == 1, 1.0 + genomes[:, 3], 0.0), "lightgbm")
    depth, width, norm, kernel_size = found.drops_RD.mean(axis=0)
    assert min(depth, kernel_size) > 10 * max(abs(width), abs(norm))


def test_noise_is_explained_by_nothing():
    found = measured(sample(60), np.random.default_rng(1).normal(size=60))
    assert np.all(found.r2_R < 0.2)
    assert np.all(np.abs(found.drops_RD.mean(axis=0)) < 0.2)


def test_it_is_the_same_for_a_seed_and_spreads_over_repetitions():
    genomes = sample(60)
    values = genomes.sum(axis=1) + np.random.default_rng(0).normal(size=60)
    first, again = (measured(genomes, values, seed=3, num_repeats=3) for _ in range(2))
    np.testing.assert_array_equal(first.drops_RD, again.drops_RD)
    assert np.all(first.drops_RD[:, 1].std() > 0)


def test_what_explains_no_difference_is_refused():
    with pytest.raises(RequestError, match="at least 10 architectures, but there were 9"):
        measured(sample(9), np.arange(9.0))
    with pytest.raises(RequestError, match="all values are equal"):
        measured(sample(20), np.ones(20))
