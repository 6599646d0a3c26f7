"""Shipping from a run: trained alone first, chosen for a device, tested and timed."""

import json
from pathlib import Path

import pytest
import torch

from nasbench.config import load_config
from nasbench.errors import RequestError, WorkError
from nasbench.experiment import Run
from nasbench.experiment.device_files import MeasuredNetwork, PredictorFile
from nasbench.experiment.exporting import export
from nasbench.experiment.parts import load_trained
from nasbench.experiment.progress import Silent
from nasbench.experiment.stages import execute
from nasbench.export.running import ExportedNetwork
from nasbench.export.weights import SafetensorsExporter, build_network

TINY = Path(__file__).parents[1] / "tiny.yaml"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a run that was searched."""
    settings = ["search.num_trials=6", "evaluation.validation_samples=64"]
    run = Run(tmp_path_factory.mktemp("exporting") / "run", load_config(TINY, settings))
    execute(run, ("train", "search"))
    return run.folder


def opened(folder, *settings):
    return Run(folder, load_config(folder / "config.yaml", [f"export.{s}" for s in settings]))


def exported(run, **choice):
    """The folder and the manifest of an export."""
    folder = run.folder / "export" / export(run, **choice)["architecture_id"]
    return folder, json.loads((folder / "manifest.json").read_text())


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Recorded(Silent):
    def __init__(self):
        self.started = {}

    def start(self, stage, total, done):
        self.started[stage] = (total, done)


def test_every_target_is_tested_and_timed(searched):
    _, manifest = exported(opened(searched, "targets=[pt2,safetensors]"))
    for found in manifest["targets"].values():
        assert found["test"] == pytest.approx(manifest["test"])
        assert found["latency"]["latency_ms"] > 0
        assert found["latency"]["conditions"]["engine"] == "eager"
        assert found["precision"] == "float32"


def test_finetuning_starts_from_what_was_inherited(searched):
    run = opened(searched, "finetune=2")
    progress = Recorded()
    folder, manifest = exported(run, progress=progress)
    assert manifest["training"]["epochs"] == 2
    assert manifest["training"]["from"] == "inherited weights"
    assert manifest["training"]["test_before"]["cross_entropy"] > manifest["test"]["cross_entropy"]
    inherited = run.extract(manifest["architecture_id"]).state_dict()
    trained = build_network(folder).state_dict()
    assert trained.keys() == inherited.keys()
    moved = {name: (trained[name] - inherited[name]).abs().max() for name in trained}
    assert max(moved[name] for name in moved if name.endswith("weight")) > 0
    total, done = progress.started["finetune"]
    assert (total, done) == (total, 0)
    export(run, again := Recorded())
    assert again.started["finetune"] == (total, total), "it is not trained twice"


def test_retraining_starts_afresh(searched):
    _, manifest = exported(opened(searched, "retrain=1"))
    assert manifest["training"]["from"] == "fresh weights"
    assert manifest["training"]["learning_rate"] == pytest.approx(3e-3)
    with pytest.raises(RequestError, match="finetune goes on from inherited weights"):
        opened(searched, "retrain=1", "finetune=1")


def test_a_device_is_chosen_for_by_what_is_predicted_of_it(searched):
    run = opened(searched, "pick=fastest")
    supernet, _ = load_trained(run)
    trials = run.completed
    slow_is_small = {t.architecture: 1e6 / t.measurements["num_macs"] for t in trials}
    networks = tuple(
        MeasuredNetwork(architecture=dict(each), latency_ms=ms)
        for each, ms in slow_is_small.items()
    )
    file = PredictorFile(
        device="odd", space=supernet.space.fingerprint, supernet=supernet.fingerprint,
        conditions={}, fitted_to=networks, tested_on=(), predictor_name="gp",
    )  # fmt: skip
    folder = run.devices / "odd"
    folder.mkdir(parents=True)
    (folder / "predictor.json").write_text(file.model_dump_json())
    _, manifest = exported(run, device="odd")
    fastest = min(slow_is_small, key=slow_is_small.get)
    assert manifest["architecture_id"] == fastest.id, "the largest is the fastest on this device"
    assert manifest["measurements"]["predicted_latency_ms"] > 0
    with pytest.raises(RequestError, match=r"nothing is known of a device 'pi'; .* run: odd"):
        export(run, device="pi")


def test_what_computes_something_else_is_not_shipped(searched, monkeypatch):
    run = opened(searched)
    export(run)
    before = content(searched / "export")
    wrong = ExportedNetwork(lambda images: (torch.full((len(images), 10), 0.5),))
    monkeypatch.setattr(SafetensorsExporter, "load", lambda *_: wrong)
    with pytest.raises(WorkError, match=r"what the target 'safetensors' wrote differs .* nothing"):
        export(run)
    assert content(searched / "export") == before
