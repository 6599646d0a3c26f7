"""The contract of predictors: subclass it, and every entry of `PREDICTORS` is enrolled.

A predictor of your own passes the same tests once it is registered, or under the name by which
a configuration calls it:

    class TestMyPredictor(PredictorContract):
        names = ("my_package.my_module:MyPredictor",)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasbench.encoding import one_hot
from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS, Prediction, Predictor
from nasbench.predictors.lookup import LookupPredictor, LookupTable
from nasbench.predictors.transfer import TransferPredictor
from nasbench.space import Architecture, SearchSpace
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ONLY_SPACE, ToyProblem

TOY = ToyProblem(MIXED_SPACE, num_objectives=1)


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Distinct genomes of shape (count, D) and values of shape (count,)."""
    genomes, losses = TOY.sample(count, seed)
    return genomes, losses[:, 0]


def transfer(space: SearchSpace, seed: int = 0) -> Predictor:
    """The predictor `transfer`, from a prior that knows something of the toy's losses."""
    genomes, losses = ToyProblem(space, num_objectives=1, interaction=0.0).sample(30)
    prior = PREDICTORS["ridge"](space).fit(genomes, losses[:, 0])
    return TransferPredictor(space, seed, prior=prior)


def lookup(space: SearchSpace, seed: int = 0) -> Predictor:
    """The predictor `lookup`, with a table of what each choice adds to the toy's losses."""
    toy = ToyProblem(space, num_objectives=1, interaction=0.0)
    genomes, losses = toy.sample(500)
    shares = np.linalg.lstsq(one_hot(space, genomes), losses[:, 0], rcond=None)[0]
    names = [f"{d.name}={choice}" for d in space for choice in d.choices]
    table = LookupTable(dict(zip(names, shares.tolist(), strict=True)))

    def blocks_of(architecture: Architecture) -> list[str]:
        (features,) = one_hot(space, space.to_genome(architecture)[None])
        return [name for name, is_taken in zip(names, features, strict=True) if is_taken]

    return LookupPredictor(space, seed, table=table, blocks_of=blocks_of)


NEEDS_MORE: Mapping[str, Callable[..., Predictor]] = {"transfer": transfer, "lookup": lookup}


class PredictorContract:
    """What every predictor promises, from the first sample on."""

    names: ClassVar[Sequence[str]] = ()
    max_fit_seconds: ClassVar[float] = 2.5
    """Of processor time for 500 samples of 45 dimensions, with room for a busy machine: `gp` takes
    0.8, `mlp` 1.0, and `auto` 1.8 where it also compares its candidates."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "kind" in metafunc.fixturenames:
            metafunc.parametrize("kind", self.names or sorted(PREDICTORS), indirect=True)

    @pytest.fixture
    def kind(self, request: pytest.FixtureRequest) -> Callable[..., Predictor]:
        return NEEDS_MORE.get(request.param, PREDICTORS[request.param])

    # -- what is predicted ------------------------------------------------------------------

    def test_predictions_have_one_mean_and_deviation_per_genome(self, kind):
        genomes, values = samples(40)
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        for count in (0, 1, 40):
            assert_sound(predictor.predict(genomes[:count]), count)

    def test_unseen_architectures_are_ranked(self, kind):
        genomes, values = samples(400)
        predictor = kind(MIXED_SPACE).fit(genomes[:200], values[:200])
        assert kendalltau(predictor.predict(genomes[200:]).mean, values[200:]).statistic > 0.7

    def test_deviations_cover_the_errors(self, kind):
        rng = np.random.default_rng(0)
        genomes, values = samples(600)
        values = values + rng.normal(size=600) * values.std() / 2
        prediction = kind(MIXED_SPACE).fit(genomes[:200], values[:200]).predict(genomes[200:])
        covered = np.abs(prediction.mean - values[200:]) < prediction.std
        assert 0.5 < covered.mean() < 0.85  # 0.68 for a normal distribution

    @pytest.mark.parametrize("count", [25, 100])
    def test_deviations_are_not_too_small_where_there_is_no_noise(self, kind, count):
        covered = []
        for seed in range(3):
            genomes, values = samples(count + 200, seed)
            prediction = kind(MIXED_SPACE, seed).fit(genomes[:count], values[:count])
            found = prediction.predict(genomes[count:])
            covered.append(np.abs(found.mean - values[count:]) < found.std)
        assert np.mean(covered) > 0.4

    def test_only_the_active_dimensions_count(self, kind):
        genomes, values = samples(60)
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        active = MIXED_SPACE.active(genomes)
        assert not active.all()
        scrambled = np.where(active, genomes, MIXED_SPACE.num_choices - 1)
        assert_equal(predictor.predict(scrambled), predictor.predict(genomes))
        relearned = kind(MIXED_SPACE).fit(scrambled, values)
        assert_equal(relearned.predict(genomes), predictor.predict(genomes))

    def test_the_unit_of_the_values_does_not_matter(self, kind):
        genomes, values = samples(50)
        milliseconds = kind(MIXED_SPACE).fit(genomes, values).predict(genomes)
        ticks = kind(MIXED_SPACE).fit(genomes, values * 1024).predict(genomes)
        assert_equal(ticks, Prediction(milliseconds.mean * 1024, milliseconds.std * 1024))

    def test_the_mean_alone_is_that_of_the_prediction(self, kind):
        genomes, values = samples(60)
        predictor = kind(MIXED_SPACE).fit(genomes[:40], np.exp(values[:40]))
        expected = predictor.predict(genomes).mean
        np.testing.assert_allclose(predictor.predict_mean(genomes), expected, rtol=1e-9)

    def test_held_out_predictions_do_not_know_what_they_predict(self, kind):
        genomes, _ = samples(80)
        noise = np.random.default_rng(1).normal(size=80)
        predictor = kind(MIXED_SPACE).fit(genomes, noise)
        assert kendalltau(predictor.held_out_means(), noise).statistic < 0.3
        genomes, values = samples(150)
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        assert kendalltau(predictor.held_out_means(), values).statistic > 0.6

    # -- few, odd and many samples ----------------------------------------------------------

    @pytest.mark.parametrize("count", [2, 3, 4, 7])
    def test_few_samples_are_enough_to_answer(self, kind, count):
        genomes, values = samples(count)
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        assert_sound(predictor.predict(samples(30)[0]), 30)
        assert predictor.held_out_means().shape == (count,)

    def test_one_sample_is_the_answer(self, kind):
        genomes, values = samples(5)
        prediction = kind(MIXED_SPACE).fit(genomes[:1], values[:1]).predict(genomes)
        assert_equal(prediction, Prediction(np.full(5, values[0]), np.zeros(5)))

    def test_equal_values_are_the_answer(self, kind):
        genomes, _ = samples(30)
        predictor = kind(MIXED_SPACE).fit(genomes, np.full(30, 0.1))
        prediction = predictor.predict(genomes)
        assert (prediction.mean == 0.1).all()
        assert (prediction.std == 0.0).all()
        np.testing.assert_allclose(predictor.held_out_means(), 0.1)

    def test_rows_may_repeat_and_disagree(self, kind):
        genomes, values = samples(12)
        repeated = kind(MIXED_SPACE).fit(
            np.repeat(genomes, 3, axis=0), np.repeat(values, 3) + np.tile([0.0, 0.1, -0.1], 12)
        )
        assert_sound(repeated.predict(genomes), 12)

    def test_a_space_without_choice_is_no_obstacle(self, kind):
        genomes = np.zeros((6, len(ONLY_SPACE)), dtype=np.int64)
        prediction = kind(ONLY_SPACE).fit(genomes, np.arange(6.0)).predict(genomes[:1])
        assert prediction.mean == pytest.approx(2.5, abs=1.0)

    def test_a_dimension_that_never_varied_is_no_obstacle(self, kind):
        genomes, values = samples(40)
        genomes[:, 4] = 0
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        genomes[:, 4] = 1
        assert_sound(predictor.predict(genomes), 40)

    def test_fewer_samples_than_features(self, kind):
        toy = ToyProblem(MOBILE_SPACE, num_objectives=1)
        genomes, losses = toy.sample(40)
        assert_sound(kind(MOBILE_SPACE).fit(genomes, losses[:, 0]).predict(genomes), 40)

    def test_five_hundred_samples_of_many_dimensions_are_no_obstacle(self, kind):
        genomes, losses = ToyProblem(MOBILE_SPACE, num_objectives=1).sample(500)
        predictor = kind(MOBILE_SPACE).fit(genomes[:20], losses[:20, 0])  # imports a library
        start = time.process_time()
        predictor.fit(genomes, losses[:, 0])
        assert time.process_time() - start < self.max_fit_seconds

    # -- randomness and memory --------------------------------------------------------------

    def test_the_same_seed_predicts_the_same(self, kind):
        genomes, values = samples(50)
        first, second = (kind(MIXED_SPACE, seed=5).fit(genomes, values) for _ in range(2))
        assert_equal(first.predict(genomes), second.predict(genomes))

    def test_fitting_again_begins_anew(self, kind):
        genomes, values = samples(60)
        twice = kind(MIXED_SPACE).fit(genomes[:40], -values[:40]).fit(genomes[30:], values[30:])
        once = kind(MIXED_SPACE).fit(genomes[30:], values[30:])
        assert_equal(twice.predict(genomes), once.predict(genomes))

    def test_what_is_given_stays_as_it_is(self, kind):
        genomes, values = samples(30)
        before = genomes.copy(), values.copy()
        predictor = kind(MIXED_SPACE).fit(genomes, values)
        prediction = predictor.predict(genomes)
        assert (genomes == before[0]).all()
        assert (values == before[1]).all()
        values[:] = 0.0  # and what was learned does not depend on what becomes of it
        assert_equal(predictor.predict(genomes), prediction)
        assert np.ptp(predictor.held_out_means()) > 0

    # -- refusals ---------------------------------------------------------------------------

    def test_refusals_are_sentences(self, kind):
        genomes, values = samples(4)
        predictor = kind(MIXED_SPACE)
        with_nan = np.where([False, False, True, False], np.nan, values)
        for refused, message in [
            (lambda: predictor.predict(genomes), "has learned nothing yet"),
            (lambda: predictor.held_out_means(), "has learned nothing yet"),
            (lambda: predictor.fit(genomes[:0], values[:0]), "at least one sample"),
            (lambda: predictor.fit(genomes, values[:3]), r"values of shape \(4,\)"),
            (lambda: predictor.fit(genomes, values[:, None]), r"values of shape \(4,\)"),
            (lambda: predictor.fit(genomes, with_nan), "row 2 is nan"),
            (lambda: predictor.fit(genomes[:, 1:], values), "expected genomes of shape"),
            (lambda: predictor.fit(genomes + 9, values), "choice indices"),
            (lambda: predictor.fit(genomes, values).predict(genomes[0]), "expected genomes"),
            (lambda: predictor.fit(genomes[:1], values[:1]).held_out_means(), "at least two"),
        ]:
            with pytest.raises(RequestError, match=message):
                refused()


def assert_sound(prediction: Prediction, count: int) -> None:
    """Finite numbers of the right shape and type, deviations not negative."""
    for numbers in (prediction.mean, prediction.std):
        assert numbers.shape == (count,)
        assert numbers.dtype == np.float64
        assert np.isfinite(numbers).all()
    assert (prediction.std >= 0).all()


def assert_equal(first: Prediction, second: Prediction) -> None:
    """The same numbers but for the last digits."""
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first.std, second.std, rtol=1e-9, atol=1e-12)
