"""Genomes as numbers: averages over layers. One column per choice or dimension is tested with the
predictors, which read them.
"""

import numpy as np

from nasbench.encoding import layer_means, ordinal
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.supernet import SUPERNETS

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2, 3)),
        ElasticDimension("layer1.width", (16, 32, 48)),
        ElasticDimension("layer2.width", (16, 32, 48), ActiveWhen("depth", (2, 3))),
        ElasticDimension("layer3.width", (16, 32, 48), ActiveWhen("depth", (3,))),
        ElasticDimension("norm", ("batch", "layer")),
        ElasticDimension("stem", (8,)),
    ]
)


def test_repeated_dimensions_are_averaged_over_the_layers_that_run():
    genomes = np.array([[0, 2, 0, 0, 0, 0], [1, 2, 1, 0, 1, 0], [2, 2, 1, 0, 0, 0]])
    expected = [[0, 1, 0, 0], [0.5, 0.75, 1, 0], [1, 0.5, 0, 0]]
    np.testing.assert_allclose(layer_means(SPACE, genomes), expected)


def test_none_that_runs_is_zero():
    space = SearchSpace(
        [
            ElasticDimension("depth", (1, 2)),
            ElasticDimension("layer2.width", (16, 32), ActiveWhen("depth", (2,))),
            ElasticDimension("layer3.width", (16, 32), ActiveWhen("depth", (2,))),
        ]
    )
    genomes = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1]])
    np.testing.assert_allclose(layer_means(space, genomes), [[0, 0], [1, 1], [1, 0.5]])


def test_without_repetition_it_is_ordinal():
    space = SearchSpace([ElasticDimension("a", (1, 2, 4)), ElasticDimension("b", ("x", "y"))])
    genomes = np.array([[0, 0], [1, 1], [2, 0]])
    np.testing.assert_array_equal(layer_means(space, genomes), ordinal(space, genomes))


def test_the_space_of_hat_has_ten_features_from_0_to_1():
    for preset in ("tiny", "multi30k", "hat_wmt"):
        spec = SUPERNETS["seq2seq"].presets[preset]
        space = spec.space()
        genomes = space.sample_choices(64, np.random.default_rng(0))
        features = layer_means(space, genomes)
        assert features.shape == (64, 10)
        assert features.min() >= 0
        assert features.max() <= 1
        extremes = [space.to_genome(space.smallest), space.to_genome(space.largest)]
        smallest, largest = layer_means(space, np.array(extremes))
        is_elastic = largest > 0  # all but the depth of HAT's encoder, which has one choice
        assert (smallest == 0).all()
        assert (largest[is_elastic] == 1).all()
        assert is_elastic.sum() == 10 - (preset == "hat_wmt")
