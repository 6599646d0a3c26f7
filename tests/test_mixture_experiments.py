"""The studies of mixtures can be built, what they report, and that the benchmark runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def mixture_quality(experiment):
    """The script, as a module."""
    return experiment("mixture_quality")


def study_of(mixture_quality, name):
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return mixture_quality.MixtureStudy.model_validate(content)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("mixture_*.yaml")))
def test_each_strategy_of_a_study_can_be_built(mixture_quality, name):
    study = study_of(mixture_quality, name)
    fingerprints = set()
    for strategy in study.strategies.values():
        TrainingConfig.model_validate({**study.training, **strategy.training})
        settings = {**study.supernet.options, **strategy.supernet}
        with torch.device("meta"):
            supernet = SUPERNETS[study.supernet.family].build(study.supernet.preset, **settings)
        fingerprints.add(supernet.fingerprint)
    assert len(fingerprints) == len(study.strategies)


def result(strategy, seed, values, position=None):
    test = [{"perplexity": value, "num_macs": 10.0} for value in values]
    return {"strategy": strategy, "seed": seed, "position": position, "test": test}


def test_the_gap_closed_is_relative_to_plain_slices_of_the_same_seed(mixture_quality):
    study = study_of(mixture_quality, "mixture_language")
    alone = [result("alone", 0, [value], number) for number, value in enumerate((30, 20, 10))]
    plain = [result("sandwich", 0, [36, 26, 16]), result("sandwich", 1, [34, 24, 14])]
    mixed = [result("layerwise", 0, [32, 22, 12]), result("layerwise", 1, [33, 23, 15])]
    found = mixture_quality.comparison(study, [*alone, *plain, *mixed])
    found = found.set_index(["strategy", "seed"])
    assert list(found["mean gap"]) == pytest.approx([6, 4, 2, 11 / 3])
    assert list(found["gap closed"]) == pytest.approx([0, 0, 2 / 3, 1 / 12])
    assert list(found["tau"]) == [1, 1, 1, 1]


@pytest.mark.slow
def test_the_benchmark_prints_a_table_and_writes_all_numbers(tmp_path):
    report = tmp_path / "report.json"
    options = ["--repetitions", "2", "--batch-size", "4", "--json", report]
    command = [sys.executable, FOLDER / "mixture_cost.py", "decoder/tiny", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "decoder/tiny" in done.stdout
    plain, layerwise, neuronwise = json.loads(report.read_text())["costs"]
    assert plain["ratios"]["training"]["median"] == 1
    assert plain["kept_bytes"] == 0 < layerwise["kept_bytes"] == neuronwise["kept_bytes"]
    held = [cost["num_parameters"] for cost in (plain, layerwise, neuronwise)]
    assert held == sorted(held)
    for cost in (plain, layerwise, neuronwise):
        assert cost["training_bytes"] >= 16 * cost["num_parameters"]
