import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS, Prediction
from nasbench.predictors.quality import (
    cross_validate,
    held_out_prediction,
    measure_quality,
    rank_agreement,
)
from nasbench.testing.toys import MIXED_SPACE, ToyProblem

GENOMES, LOSSES = ToyProblem(MIXED_SPACE, 1, interaction=0.0).sample(80)
VALUES = LOSSES[:, 0] + 10.0


def quality_of(mean, values, std=1.0, strata=None):
    mean, values = np.asarray(mean, float), np.asarray(values, float)
    return measure_quality(Prediction(mean, np.full(len(mean), std)), values, strata)


def test_perfect_predictions():
    quality = quality_of([1, 2, 4], [1, 2, 4])
    assert (quality.tau, quality.spearman, quality.rmse, quality.mape) == (
        1,
        pytest.approx(1),
        0,
        0,
    )


def test_a_small_case_by_hand():
    quality = quality_of([1, 3, 2, 6], [1, 2, 4, 8], std=1.5)
    assert quality.tau == pytest.approx((5 - 1) / 6)
    assert quality.rmse == pytest.approx(np.sqrt((0 + 1 + 4 + 4) / 4))
    assert quality.mape == pytest.approx((0 + 1 / 2 + 2 / 4 + 2 / 8) / 4)
    assert quality.coverage == 0.5


def test_predictions_that_are_all_equal_rank_nothing():
    assert quality_of([1, 1, 1], [1, 2, 3]).tau == 0
    assert rank_agreement(np.ones(3), np.ones(3)) == 0


def test_mape_is_unknown_where_a_value_is_zero():
    assert quality_of([1, 2], [0, 2]).mape is None


def test_strata_show_what_the_global_tau_hides():
    values = np.concatenate([np.arange(10.0), 100 + np.arange(10.0)])
    width_only = np.repeat([0.0, 1.0], 10) + np.tile([0.1, 0.0], 10)
    quality = quality_of(width_only, values, strata=np.repeat([0, 1], 10))
    assert quality.tau > 0.5
    assert abs(quality.within_tau) < 0.2


def test_strata_of_few_architectures_are_left_out():
    assert quality_of([1, 2, 3], [1, 2, 3], strata=np.arange(3)).within_tau is None


def test_more_samples_help_and_every_fold_counts():
    small, large = cross_validate(
        PREDICTORS["ridge"], MIXED_SPACE, GENOMES, VALUES, sizes=[8, 64], num_repeats=2
    )
    assert (small.size, large.size, small.num_fits) == (8, 64, 10)
    assert large.mean.tau > 0.95 > small.mean.tau
    assert large.mean.rmse < small.mean.rmse
    assert small.std.tau > large.std.tau


def test_strata_are_the_choices_of_a_dimension():
    (found,) = cross_validate(
        PREDICTORS["ridge"], MIXED_SPACE, GENOMES, VALUES, sizes=[60], stratify_by="norm"
    )
    assert 0.8 < found.mean.within_tau <= 1
    with pytest.raises(RequestError, match="did you mean 'norm'"):
        cross_validate(
            PREDICTORS["ridge"], MIXED_SPACE, GENOMES, VALUES, sizes=[60], stratify_by="nrom"
        )


@pytest.mark.parametrize(("count", "sizes"), [(9, [4]), (80, [65]), (80, []), (80, [0])])
def test_what_cannot_be_split_is_refused(count, sizes):
    with pytest.raises(RequestError, match=r"samples"):
        cross_validate(
            PREDICTORS["ridge"], MIXED_SPACE, GENOMES[:count], VALUES[:count], sizes=sizes
        )


def test_held_out_predictions_do_not_know_their_values():
    noise = np.random.default_rng(0).normal(size=80)
    found = held_out_prediction(PREDICTORS["ridge"], MIXED_SPACE, GENOMES, noise)
    assert abs(rank_agreement(found.mean, noise)) < 0.3
    found = held_out_prediction(PREDICTORS["ridge"], MIXED_SPACE, GENOMES, VALUES)
    assert rank_agreement(found.mean, VALUES) > 0.9
