"""The study of InstaTune can be built, and reports what its parts found."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from nasbench.config import TrainingConfig
from nasbench.supernet.training.strategies import build_strategy
from nasbench.testing.strategies import ToySubnetworks

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def instatune(experiment):
    """The script, as a module."""
    return experiment("instatune")


def study_of(instatune, name="instatune_minilm", **changes):
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return instatune.Study.model_validate({**content, **changes})


@pytest.mark.parametrize("name", ["instatune_minilm", "instatune_minilm_gpu"])
def test_each_member_can_be_trained(instatune, name):
    study = study_of(instatune, name)
    for member in study.members.values():
        config = TrainingConfig.model_validate({**study.training, **member.training})
        phases = build_strategy(config.strategy, ToySubnetworks(), config.options).phases(
            config.epochs
        )
        assert phases[0].assign(np.random.default_rng(0))[0].labels > 0
    assert {asked.member for asked in study.searches} <= study.members.keys()


def point(macs, validation, test):
    return {
        "architecture": {},
        "num_macs": macs,
        "num_parameters": 1,
        "cost": macs,
        "validation": validation,
        "top1_accuracy": test,
    }


def test_the_report_says_what_the_cheapest_as_accurate_one_has(instatune, tmp_path, capsys):
    study = study_of(instatune, folder=str(tmp_path / "study"))
    macs, folder = 700_000_000, tmp_path / "study"
    for name in ("plain", "in_place"):
        (folder / name).mkdir(parents=True)
        ladder = [point(share * macs, 0, 0.5 + share / 3) for share in (0.2, 0.6, 1.0)]
        found = {"member": name, "validation": {"top1_accuracy": 0.84}, "test": ladder}
        (folder / f"ladder-{name}.json").write_text(json.dumps(found))
        (folder / name / "training.json").write_text(json.dumps({"cpu_seconds": 90.0}))
    front = [point(0.3 * macs, 0.80, 0.79), point(0.5 * macs, 0.85, 0.82), point(macs, 0.86, 0.83)]
    found = {"search": "in_place-auto", "num_trials": 32, "largest_cost": macs, "front": front}
    (folder / "search-in_place-auto.json").write_text(json.dumps(found))
    timed = {"num_macs": macs, "latency_ms": 20.0, "relative_latency": 4.0}
    small = {"num_macs": 0.5 * macs, "latency_ms": 12.0, "relative_latency": 2.2}
    (folder / "latencies.json").write_text(json.dumps({"plain": timed, "in_place-auto": small}))
    page = tmp_path / "instatune.md"
    page.write_text(f"before\n{instatune.BEGIN}\nold\n{instatune.END}\nafter\n")
    instatune.report(study, tmp_path)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    found = ["-50%, 82.0 %"] * 4 + ["-70%, 79.0 %", "+0%, 83.0 %"]  # 0, 1, 2, 3, 5 points, best
    assert f"| `in_place-auto`, 32 trials | {' | '.join(found)} |" in written
    assert "| `in_place-auto` | 50% | 12.0, 60% | 55% |" in written
    assert (tmp_path / "study.png").stat().st_size > 10_000
    instatune.report(study, tmp_path)  # again changes nothing
    assert page.read_text() == written
