"""What is particular to each predictor; what all promise is in the contract."""

import numpy as np
import pytest
import threadpoolctl
from scipy.stats import kendalltau
from sklearn.linear_model import RidgeCV
from sklearn.svm import SVR

from nasbench.encoding import one_hot
from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.auto import AutoPredictor
from nasbench.predictors.ensemble import EnsemblePredictor
from nasbench.predictors.transfer import TransferPredictor
from nasbench.space import ElasticDimension, SearchSpace
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

BITS = SearchSpace([ElasticDimension(f"bit{index}", (False, True)) for index in range(6)])


def toy_samples(space, count, interaction=0.3, seed=0):
    genomes, losses = ToyProblem(space, 1, seed, interaction).sample(count, seed)
    return genomes, losses[:, 0]


def exclusive_or(count, seed=0):
    genomes = np.random.default_rng(seed).integers(0, 2, size=(count, 6))
    return genomes, (genomes[:, 0] ^ genomes[:, 3]) + 0.1 * genomes[:, 5]


# -- ridge --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [30, 150])
def test_ridge_agrees_with_an_independent_implementation(count):
    genomes, values = toy_samples(MOBILE_SPACE, count + 50)
    features = one_hot(MOBILE_SPACE, genomes)
    center, scale = values[:count].mean(), values[:count].std()
    reference = RidgeCV(alphas=np.logspace(-3, 3, 25)).fit(
        features[:count], (values[:count] - center) / scale
    )
    predicted = PREDICTORS["ridge"](MOBILE_SPACE).fit(genomes[:count], values[:count])
    expected = center + scale * reference.predict(features[count:])
    np.testing.assert_allclose(predicted.predict(genomes[count:]).mean, expected, rtol=1e-6)


def test_ridge_recovers_additive_metrics():
    genomes, values = toy_samples(MOBILE_SPACE, 400, interaction=0.0)
    ridge = PREDICTORS["ridge"](MOBILE_SPACE).fit(genomes[:300], values[:300])
    prediction = ridge.predict(genomes[300:])
    np.testing.assert_allclose(prediction.mean, values[300:], atol=1e-3)
    assert prediction.std.max() < 1e-2


def test_ridge_is_less_sure_of_what_it_has_not_seen():
    genomes, values = toy_samples(MIXED_SPACE, 60)
    genomes[:, 4] = 0  # every sample has the same norm
    ridge = PREDICTORS["ridge"](MIXED_SPACE).fit(genomes, values)
    other = genomes.copy()
    other[:, 4] = 1
    assert (ridge.predict(other).std > ridge.predict(genomes).std).all()


@pytest.mark.parametrize("count", [25, 100])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_errors_of_ridge_are_as_large_as_it_says(count, noise):
    scores = []
    for seed in range(4):
        genomes, values = toy_samples(MOBILE_SPACE, count + 200, seed=seed)
        values = values + noise * np.random.default_rng(seed).normal(size=len(values))
        ridge = PREDICTORS["ridge"](MOBILE_SPACE).fit(genomes[:count], values[:count])
        prediction = ridge.predict(genomes[count:])
        scores.append((prediction.mean - values[count:]) / prediction.std)
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1.0, abs=0.25)


# -- support vectors, boosting, stacking ----------------------------------------------------------


def test_svr_agrees_with_an_independent_implementation_in_one_of_its_better_settings():
    genomes, values = toy_samples(MOBILE_SPACE, 420)
    measured = values + np.random.default_rng(0).normal(size=420) * values.std()
    features = one_hot(MOBILE_SPACE, genomes)
    center, scale = measured[:120].mean(), measured[:120].std()
    predictor = PREDICTORS["svr"](MOBILE_SPACE).fit(genomes[:120], measured[:120])
    mean = predictor.predict(genomes[120:]).mean
    expected = [
        center
        + scale
        * SVR(C=c, gamma=multiple / features.shape[1], epsilon=0.1)
        .fit(features[:120], (measured[:120] - center) / scale)
        .predict(features[120:])
        for c in (1, 10, 100)
        for multiple in (1, 3)
    ]
    chosen = int(np.argmin([np.abs(mean - other).max() for other in expected]))
    np.testing.assert_allclose(mean, expected[chosen], atol=1e-2 * scale)
    errors = [np.abs(other - values[120:]).mean() for other in expected]
    assert errors[chosen] <= np.median(errors)


def test_boosting_finds_an_interaction_that_ridge_cannot():
    genomes, values = exclusive_or(200)
    taus = {
        name: kendalltau(
            PREDICTORS[name](BITS).fit(genomes[:120], values[:120]).predict(genomes[120:]).mean,
            values[120:],
        ).statistic
        for name in ("ridge", "lightgbm")
    }
    assert taus["lightgbm"] > 0.8 > 0.4 > taus["ridge"]


@pytest.mark.parametrize("interaction", [0.0, 0.8])
def test_the_stack_is_about_as_good_as_its_better_member(interaction):
    genomes, values = toy_samples(MOBILE_SPACE, 500, interaction)
    measured = values + np.random.default_rng(0).normal(size=500) * values.std() / 4
    errors = {
        name: np.abs(
            PREDICTORS[name](MOBILE_SPACE)
            .fit(genomes[:150], measured[:150])
            .predict(genomes[150:])
            .mean
            - values[150:]
        ).mean()
        for name in ("ridge", "svr", "stacked")
    }
    assert errors["stacked"] < 1.1 * min(errors["ridge"], errors["svr"])


# -- auto ---------------------------------------------------------------------------------------


def test_auto_takes_what_fits():
    candidates = ("ridge", "lightgbm")
    crossed = AutoPredictor(BITS, candidates=candidates).fit(*exclusive_or(100))
    added = AutoPredictor(MOBILE_SPACE, candidates=candidates).fit(
        *toy_samples(MOBILE_SPACE, 100, interaction=0.0)
    )
    assert (crossed.chosen, added.chosen) == ("lightgbm", "ridge")


def test_auto_predicts_as_its_choice_does():
    genomes, values = toy_samples(MIXED_SPACE, 60)
    auto = AutoPredictor(MIXED_SPACE, seed=4, candidates=("svr",)).fit(genomes, values)
    svr = PREDICTORS["svr"](MIXED_SPACE, seed=4).fit(genomes, values)
    np.testing.assert_allclose(auto.predict(genomes).mean, svr.predict(genomes).mean)
    np.testing.assert_allclose(auto.predict(genomes).std, svr.predict(genomes).std)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [((), "name at least one"), (("rigde",), "did you mean 'ridge'")],
)
def test_auto_refuses_candidates_that_are_none(candidates, message):
    with pytest.raises(RequestError, match=message):
        AutoPredictor(BITS, candidates=candidates)


def test_auto_takes_another_than_its_first_only_where_that_is_clearly_better():
    genomes, values = toy_samples(MIXED_SPACE, 150, interaction=0.0)
    for first, second in (("ridge", "gp"), ("gp", "ridge")):
        auto = AutoPredictor(MIXED_SPACE, candidates=(first, second)).fit(genomes, values)
        assert auto.chosen == first


def test_auto_keeps_its_choice_until_it_compares_again(monkeypatch):
    genomes, values = toy_samples(MIXED_SPACE, 80)
    auto = AutoPredictor(MIXED_SPACE, candidates=("ridge", "svr")).fit(genomes[:50], values[:50])
    compared = []
    original = AutoPredictor._compare
    monkeypatch.setattr(
        AutoPredictor,
        "_compare",
        lambda self, g, t: compared.append(len(t)) or original(self, g, t),
    )
    auto.fit(genomes[:60], values[:60])
    assert compared == []
    auto.fit(genomes, values)
    assert compared == [79]
    anew = AutoPredictor(MIXED_SPACE, candidates=("ridge", "svr")).fit(genomes, values)
    assert anew.chosen == auto.chosen
    assert (anew.predict(genomes).mean == auto.predict(genomes).mean).all()
    auto.fit(genomes, -values)
    assert compared == [79, 79, 79], "other values are compared anew"


# -- ensembles ------------------------------------------------------------------------------------


def test_an_ensemble_leans_to_the_member_that_is_right():
    genomes, values = exclusive_or(150)
    ensemble = EnsemblePredictor(BITS, members=("ridge", "lightgbm")).fit(genomes, values)
    of_ridge, of_trees = ensemble._weights_K
    assert of_trees > 1.5 * of_ridge


@pytest.mark.parametrize(
    ("members", "message"), [((), "name at least one"), (("rigde",), "did you mean 'ridge'")]
)
def test_an_ensemble_refuses_members_that_are_none(members, message):
    with pytest.raises(RequestError, match=message):
        EnsemblePredictor(BITS, members=members)


# -- transfer -------------------------------------------------------------------------------------


def test_a_bent_copy_of_the_prior_needs_a_handful_of_samples():
    genomes, values = toy_samples(MOBILE_SPACE, 600)
    bent = np.exp(values / values.std())
    prior = PREDICTORS["gp"](MOBILE_SPACE).fit(genomes[:300], values[:300])
    known, unknown = slice(300, 312), slice(400, 600)
    transfer = TransferPredictor(MOBILE_SPACE, prior=prior).fit(genomes[known], bent[known])
    alone = PREDICTORS["gp"](MOBILE_SPACE).fit(genomes[known], bent[known])
    taus = [
        kendalltau(predictor.predict(genomes[unknown]).mean, bent[unknown]).statistic
        for predictor in (transfer, alone)
    ]
    assert taus[0] > 0.8
    assert taus[0] > taus[1] + 0.2


def test_a_prior_that_knows_nothing_does_little_harm():
    genomes, values = toy_samples(MIXED_SPACE, 300)
    noise = np.random.default_rng(0).normal(size=300)
    prior = PREDICTORS["ridge"](MIXED_SPACE).fit(genomes, noise)
    transfer = TransferPredictor(MIXED_SPACE, prior=prior).fit(genomes[:100], values[:100])
    assert kendalltau(transfer.predict(genomes[100:]).mean, values[100:]).statistic > 0.8


def test_a_transfer_needs_a_prior_of_its_space():
    with pytest.raises(RequestError, match="give it a fitted predictor as prior"):
        PREDICTORS["transfer"](BITS)
    prior = PREDICTORS["ridge"](MIXED_SPACE)
    with pytest.raises(RequestError, match="another space"):
        TransferPredictor(BITS, prior=prior)


# -- networks -------------------------------------------------------------------------------------


def test_networks_leave_the_global_randomness_alone():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    expected = float(torch.rand(1))
    torch.manual_seed(0)
    PREDICTORS["mlp"](BITS).fit(*exclusive_or(20))
    assert float(torch.rand(1)) == expected


# -- what an implementation receives -------------------------------------------------------------


def test_implementations_receive_canonical_genomes_and_standardized_targets():
    class Watching(PREDICTORS["ridge"]):
        def _fit(self, genomes, targets):
            self.seen, self.targets = [genomes], targets
            super()._fit(genomes, targets)

        def _predict(self, genomes):
            self.seen.append(genomes)
            return super()._predict(genomes)

    genomes, values = toy_samples(MIXED_SPACE, 30)
    scrambled = np.where(MIXED_SPACE.active(genomes), genomes, MIXED_SPACE.num_choices - 1)
    watching = Watching(MIXED_SPACE).fit(scrambled, 7 + 3 * values)
    watching.predict(scrambled)
    assert all((seen == genomes).all() for seen in watching.seen)
    assert (watching.targets.mean(), watching.targets.std()) == pytest.approx((0, 1))


# -- threads ------------------------------------------------------------------------------------


def test_fitting_and_predicting_use_one_thread():
    class Watching(PREDICTORS["ridge"]):
        def _fit(self, genomes, targets):
            self.seen = num_blas_threads()
            super()._fit(genomes, targets)

        def _predict(self, genomes):
            self.seen += num_blas_threads()
            return super()._predict(genomes)

    before = num_blas_threads()
    watching = Watching(BITS).fit(*exclusive_or(10))
    watching.predict(exclusive_or(10)[0])
    assert set(watching.seen) == {1}
    assert num_blas_threads() == before


def num_blas_threads():
    pools = threadpoolctl.threadpool_info()
    return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
