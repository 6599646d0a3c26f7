"""A run whose sub-networks are screened: what it records, and what cannot be screened."""

from pathlib import Path

import pandas as pd
import pytest

import nasbench as nb
from nasbench.trials import CHEAP, FULL

TINY = Path(__file__).parents[1] / "tiny.yaml"
SCREENED = (
    "evaluation.screening={validation_samples: 120, calibration_samples: 64}",
    "search.num_trials=26",
    "search.batch_size=12",
    "export.targets=[]",
)


def set_all(*settings):
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture
def screened(nasbench):
    code, _, err = nasbench("run", TINY, *set_all(*SCREENED), "--out", "alone")
    assert code == 0, err
    return nb.load_run("alone")


@pytest.mark.slow
def test_every_trial_says_how_it_was_measured(screened):
    trials = screened.trials
    cheap = [trial for trial in trials if trial.fidelity == CHEAP]
    assert 0 < len(cheap) < 12, "the last batch is judged"
    assert all("screening" in t.provenance for t in trials if t.fidelity == FULL)
    assert {trial.fidelity for trial in screened.pareto_front()} == {FULL}
    assert screened.record["stages"]["search"]["num_screened"] == len(cheap)
    table = pd.read_csv(screened.folder / "pareto.csv").set_index("trial")
    assert all(table.loc[trial.number, "fidelity"] == trial.fidelity for trial in trials)
    sizes = {FULL: 360, CHEAP: 120}
    for trial in trials:  # a share of so many samples
        num_right = trial.measurements["top1_accuracy"] * sizes[trial.fidelity]
        assert num_right == pytest.approx(round(num_right))


@pytest.mark.slow
@pytest.mark.ray
def test_workers_change_nothing(screened, nasbench):
    code, _, err = nasbench(
        "run", TINY, *set_all(*SCREENED, "resources.workers=2"), "--out", "shared"
    )
    assert code == 0, err
    assert nb.load_run("shared").trials == screened.trials


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["search.objectives=[top1_error, latency_ms]"], "latency_ms needs a clock"),
        (["search.constraints=[latency <= 3 ms]"], "latency_ms needs a clock"),
        (["evaluation.screening.validation_samples=360"], "no less than the 360 of a full"),
        (["evaluation.validation_samples=100"], "no less than the 100 of a full"),
        (["evaluation.screening.validation_sample=2"], "did you mean 'validation_samples'"),
    ],
)
def test_what_cannot_be_screened_is_one_sentence(nasbench, tmp_path, settings, sentence):
    code, _, err = nasbench("run", TINY, *set_all(*SCREENED, *settings))
    assert code == 2
    assert sentence in err
    assert list(tmp_path.iterdir()) == []
