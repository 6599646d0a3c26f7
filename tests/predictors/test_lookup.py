"""Look-up tables: sums with the overhead counted once, and a line fitted to whole networks."""

import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.lookup import LookupTable
from nasbench.testing.toys import TINY_SPACE

TABLE = LookupTable({"stem": 1.5, "3": 1.0, "5": 2.0, "7": 4.0}, overhead_ms=0.5)


def blocks_of(architecture):
    depth = architecture["depth"]
    return ["stem"] + [str(architecture[f"block{b}.kernel_size"]) for b in range(1, depth + 1)]


def true_ms(architecture):
    return 0.9 * TABLE.sum_ms(blocks_of(architecture)) + 0.2


@pytest.fixture
def lookup():
    return PREDICTORS["lookup"](TINY_SPACE, table=TABLE, blocks_of=blocks_of)


GENOMES = TINY_SPACE.to_genomes(list(TINY_SPACE.enumerate()))
VALUES = np.array([true_ms(architecture) for architecture in TINY_SPACE.enumerate()])


def test_the_overhead_is_counted_once():
    assert TABLE.sum_ms(["stem"]) == 1.5
    assert TABLE.sum_ms(["stem", "3", "3"]) == pytest.approx(0.5 + 1.0 + 0.5 + 0.5)


def test_a_line_through_a_few_networks_predicts_all(lookup):
    few = [0, 5, 11]
    prediction = lookup.fit(GENOMES[few], VALUES[few]).predict(GENOMES)
    np.testing.assert_allclose(prediction.mean, VALUES)
    np.testing.assert_allclose(prediction.std, 0, atol=1e-9)


@pytest.mark.parametrize("values", [VALUES, np.full(len(VALUES), 3.0)])
def test_the_line_says_what_is_predicted(lookup, values):
    slope, intercept = lookup.fit(GENOMES, values).line
    sums = np.array([TABLE.sum_ms(blocks_of(a)) for a in TINY_SPACE.enumerate()])
    np.testing.assert_allclose(slope * sums + intercept, lookup.predict(GENOMES).mean)


def test_held_out_predictions_are_those_of_a_fit_without_the_sample(lookup):
    values = VALUES + np.random.default_rng(0).normal(size=len(VALUES))
    held_out = lookup.fit(GENOMES, values).held_out_means()
    for left in range(len(values)):
        kept = np.arange(len(values)) != left
        other = PREDICTORS["lookup"](TINY_SPACE, table=TABLE, blocks_of=blocks_of)
        expected = other.fit(GENOMES[kept], values[kept]).predict(GENOMES[left : left + 1])
        assert held_out[left] == pytest.approx(expected.mean[0])


def test_refusals_are_sentences():
    with pytest.raises(RequestError, match="nasbench lut build"):
        PREDICTORS["lookup"](TINY_SPACE)
    with pytest.raises(RequestError, match="takes no encoding"):
        PREDICTORS["lookup"](TINY_SPACE, encoding="one_hot", table=TABLE, blocks_of=blocks_of)
    with pytest.raises(RequestError, match="knows no block '9'"):
        TABLE.sum_ms(["stem", "9"])
