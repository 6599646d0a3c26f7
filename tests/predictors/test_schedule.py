import numpy as np

from nasbench.predictors import PREDICTORS
from nasbench.predictors.gaussian_process import GaussianProcessPredictor
from nasbench.predictors.schedule import FirstSamples, settled_size
from nasbench.testing.toys import MIXED_SPACE, ToyProblem

GENOMES, LOSSES = ToyProblem(MIXED_SPACE).sample(80)
VALUES = np.exp(LOSSES[:, 0])


def test_sizes_are_thrice_per_doubling():
    sizes = [settled_size(count) for count in (2, 25, 30, 31, 50, 62, 63, 100, 399, 400)]
    assert sizes == [2, 25, 25, 31, 50, 50, 63, 100, 317, 400]


def test_first_samples_are_the_same_until_the_next_size():
    first = FirstSamples.of(GENOMES[:50], VALUES[:50])
    assert FirstSamples.of(GENOMES[:62], VALUES[:62]).are(first)
    assert not FirstSamples.of(GENOMES[:63], VALUES[:63]).are(first)
    assert not FirstSamples.of(GENOMES[:50], -VALUES[:50]).are(first)
    assert not FirstSamples.of(GENOMES[:50][::-1], VALUES[:50]).are(first)
    assert not first.are(None)


def test_a_process_keeps_its_settings_and_says_what_a_fresh_one_says(monkeypatch):
    settled = []
    original = GaussianProcessPredictor._settle
    monkeypatch.setattr(
        GaussianProcessPredictor,
        "_settle",
        lambda self, first: settled.append(len(first)) or original(self, first),
    )
    for name in ("gp", "auto"):
        settled.clear()
        kept = PREDICTORS[name](MIXED_SPACE).fit(GENOMES[:50], VALUES[:50])
        kept.fit(GENOMES[:60], VALUES[:60])
        assert settled == [50], name
        anew = PREDICTORS[name](MIXED_SPACE).fit(GENOMES[:60], VALUES[:60])
        np.testing.assert_allclose(kept.predict(GENOMES).mean, anew.predict(GENOMES).mean)
        np.testing.assert_allclose(kept.predict(GENOMES).std, anew.predict(GENOMES).std)
