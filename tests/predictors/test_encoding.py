import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.predictors.encoding import num_one_hot_features, one_hot, ordinal
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.testing.toys import MIXED_SPACE

SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2)),
        ElasticDimension("width", (16, 24, 64), ActiveWhen("depth", (2,))),
        ElasticDimension("norm", ("batch", "layer")),
        ElasticDimension("stem", ("conv",)),
    ]
)

genomes = st.integers(0, 10_000).map(
    lambda seed: MIXED_SPACE.sample_genomes(20, np.random.default_rng(seed))
)


def test_one_hot_has_a_column_per_declared_choice():
    features = one_hot(SPACE, np.array([[1, 1, 0, 0], [0, 0, 1, 0]]))
    assert num_one_hot_features(SPACE) == features.shape[1] == 2 + 3 + 2 + 1
    assert features.tolist() == [[0, 1, 0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1, 1]]


def test_ordinal_keeps_the_spacing_of_numbers():
    features = ordinal(SPACE, np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 2, 0, 0], [0, 0, 0, 0]]))
    assert features[:, 1] == pytest.approx([0, 1 / 6, 1, -1])
    assert features[:, 2].tolist() == [0, 1, 0, 0]
    assert features[:, 3].tolist() == [0, 0, 0, 0]


@given(genomes)
@settings(max_examples=20)
def test_one_hot_says_which_dimensions_are_active(genomes):
    assert (one_hot(MIXED_SPACE, genomes).sum(axis=1) == MIXED_SPACE.active(genomes).sum(1)).all()


@pytest.mark.parametrize("encode", [one_hot, ordinal])
@given(genomes=genomes)
@settings(max_examples=20)
def test_encodings_are_equal_where_networks_are(encode, genomes):
    scrambled = np.where(MIXED_SPACE.active(genomes), genomes, MIXED_SPACE.num_choices - 1)
    features = encode(MIXED_SPACE, scrambled)
    assert (features == encode(MIXED_SPACE, genomes)).all()
    assert len(np.unique(features, axis=0)) == len(np.unique(genomes, axis=0))
