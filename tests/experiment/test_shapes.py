"""Runs that learn shapes by gradient: a run like any other, from its YAML to its export."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import nasbench as nb
from nasbench.config import load_config
from nasbench.errors import RequestError
from nasbench.experiment.checks import check
from nasbench.experiment.device_files import (
    LookupFile,
    MeasuredNetwork,
    PredictorFile,
    write_device_file,
)
from nasbench.experiment.parts import build_supernet, build_task, latency_predictor
from nasbench.experiment.run import Run
from nasbench.experiment.shapes import expected_cost
from nasbench.experiment.stages import execute
from nasbench.supernet import SUPERNETS
from nasbench.trials import TrialState
from tests.experiment.searched import make_searched_run

TINY = Path(__file__).parents[1] / "tiny_shapes.yaml"


class KilledError(Exception):
    """Stands for the signal."""


class Killing:
    """Progress that dies at the `number`-th part of the stage that is named."""

    def __init__(self, stage, number):
        self.stage, self.number, self.current = stage, number, ""

    def start(self, stage, _total, _done):
        self.current, self.count = stage, 0

    def advance(self, _text):
        self.count += 1
        if self.current.startswith(self.stage) and self.count == self.number:
            raise KilledError


def make_run(folder, *settings):
    return Run(folder, load_config(TINY, settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    run = make_run(tmp_path_factory.mktemp("shapes") / "run")
    execute(run)
    return run


def outcome(run):
    trials = [(t.number, t.architecture, t.state, dict(t.measurements)) for t in run.trials]
    return trials, (run.folder / "pareto.csv").read_bytes()


class TestRun:
    """What a run leaves."""

    def test_the_unpruned_network_and_a_shape_per_target_are_its_trials(self, finished):
        first, *shapes = finished.trials
        assert first.architecture == SUPERNETS["resnet"].build("tiny", num_classes=10).largest
        found = finished.record["stages"]["search"]["shapes"]
        assert {s["architecture_id"] for s in found.values()} == {t.architecture.id for t in shapes}
        assert list(found) == ["0.3", "0.6"]
        assert all(trial.state is TrialState.COMPLETE for trial in finished.trials)
        largest = first.measurements["num_macs"]
        for trial in shapes:
            shares = [s["cost"] for s in found.values()]
            assert any(trial.measurements["num_macs"] / largest == pytest.approx(s) for s in shares)

    def test_is_finished_and_reported_like_others(self, finished):
        assert finished.is_finished
        assert "test_top1_accuracy" in (finished.folder / "pareto.csv").read_text()
        assert "tiny_shapes" in (finished.folder / "report.html").read_text()

    def test_a_shape_extracts_with_the_weights_that_were_measured(self, finished):
        trial = finished.trials[1]
        module = finished.extract(trial.architecture.id)
        count = sum(parameter.numel() for parameter in module.parameters())
        assert count == trial.measurements["num_parameters"]
        again = build_task(finished.config).evaluate(module, "validation", 360)
        assert again["cross_entropy"] == pytest.approx(trial.measurements["cross_entropy"])

    def test_a_shape_exports(self, finished, nasbench):
        trial = finished.trials[1]
        code, _, errors = nasbench(
            "export", finished.folder, "--pick", trial.architecture.id,
            "--set", "export.targets=[pt2]",
        )  # fmt: skip
        assert code == 0, errors
        folder = finished.folder / "export" / trial.architecture.id
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["supernet"]["family"] == "resnet"
        x = torch.zeros(1, 1, 8, 8)
        program = torch.export.load(folder / "model.pt2").module()
        torch.testing.assert_close(program(x), finished.extract(trial.architecture.id)(x))

    def test_is_drawn_together_with_a_search_by_evolution(self, finished, tmp_path):
        objectives = ["top1_error", "num_macs"]
        other = make_searched_run(tmp_path / "other", objectives=objectives, constraints=[])
        axes = nb.plots.plot_pareto_fronts({"gradient": [finished], "evolution": [other]})
        labels = axes.get_legend_handles_labels()[1]
        assert any("gradient" in label for label in labels)
        assert any("evolution" in label for label in labels)

    def test_holds_no_supernet_to_nest_in(self, finished, nasbench):
        code, _, errors = nasbench("nest", finished.folder)
        assert code == 2
        assert "each of which has weights of its own" in errors


@pytest.mark.parametrize(
    ("stage", "number"), [("shape for 30%", 1), ("train SHAPE", 9), ("shape for 60%", 2)]
)
def test_a_run_that_was_killed_equals_one_that_was_not(stage, number, finished, tmp_path):
    run = make_run(tmp_path / "run")
    stage = stage.replace("SHAPE", finished.trials[1].architecture.id)
    with pytest.raises(KilledError):
        execute(run, progress=Killing(stage, number))
    execute(run)
    assert outcome(run) == outcome(finished)


def test_without_distillation_a_shape_learns_from_labels_alone(finished, tmp_path):
    run = make_run(
        tmp_path / "run", "shape_search.distillation_weight=0", "shape_search.targets=[0.3]"
    )
    execute(run, ("train", "search"))
    first, second = run.trials
    assert first.measurements == finished.trials[0].measurements
    assert second.architecture == finished.trials[1].architecture
    assert second.measurements != finished.trials[1].measurements


# -- latency of a device --------------------------------------------------------------


def write_table(run, supernet, *, slope=1.1, intercept_ms=0.02):
    """A look-up table of invented latencies, and networks that lie on a line through its sums."""
    rng = np.random.default_rng(0)
    block_ms = {
        key: float(rng.uniform(0.05, 0.2)) for key in sorted(supernet.distinct_blocks(), key=str)
    }
    space = supernet.space
    drawn = space.from_genomes(space.sample_choices(4, rng))
    overhead_ms = 0.03

    def total(architecture):
        blocks = [block_ms[block.key] for block in supernet.blocks_of(architecture)]
        return sum(blocks) - (len(blocks) - 1) * overhead_ms

    networks = tuple(
        MeasuredNetwork(architecture=dict(a), latency_ms=slope * total(a) + intercept_ms)
        for a in drawn
    )
    path = run.folder.parent / "lookup_table.json"
    about = {"device": "invented", "conditions": {}, "fitted_to": networks, "tested_on": ()}
    about |= {"space": space.fingerprint, "supernet": supernet.fingerprint}
    write_device_file(path, LookupFile(**about, overhead_ms=overhead_ms, block_ms=block_ms))
    predictor = PredictorFile(**about, predictor_name="ridge")
    write_device_file(path.with_name("predictor.json"), predictor)
    return path


@pytest.fixture
def timed(tmp_path):
    """A run whose cost is a device's latency, and its supernet."""
    path = tmp_path / "lookup_table.json"
    run = make_run(
        tmp_path / "run",
        "shape_search.cost=predicted_latency_ms",
        f"latency.predictor={path}",
        "search.objectives=[top1_error, predicted_latency_ms]",
        "shape_search.targets=[0.8]",
    )
    supernet = build_supernet(run.config, build_task(run.config))
    write_table(run, supernet)
    return run, supernet


def test_expected_latency_of_one_shape_is_what_the_device_file_predicts(timed):
    run, supernet = timed
    cost, predicted_ms = expected_cost(run, supernet), latency_predictor(run, supernet)
    space = supernet.space
    drawn = space.from_genomes(space.sample_choices(8, np.random.default_rng(1)))
    for architecture in (*drawn, space.smallest, space.largest):
        assert cost.of(architecture) == pytest.approx(predicted_ms(architecture))


def test_shapes_are_learned_for_a_latency(timed):
    run, _ = timed
    check(run)
    execute(run, ("train", "search", "report"))
    assert all("predicted_latency_ms" in trial.measurements for trial in run.trials)


@pytest.mark.usefixtures("timed")
def test_a_latency_needs_a_table_and_no_other_predictor(tmp_path):
    path = tmp_path / "predictor.json"
    other = make_run(
        tmp_path / "other",
        "shape_search.cost=predicted_latency_ms",
        f"latency.predictor={path}",
    )
    with pytest.raises(RequestError, match="has no look-up table"):
        check(other)
    assert not other.folder.exists()


# -- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["shape_search.targets=[0.5, 0.01]"], "no shape costs 1.0% .* the smallest costs 6.6%"),
        (["shape_search.targets=[1.5]"], "shape_search.targets.0 is 1.5: input should be less"),
        (["shape_search.targets=[]"], "targets is empty"),
        (["shape_search.cost=num_mac"], "unknown cost of a shape search 'num_mac'; did you mean"),
        (["shape_search.cost=predicted_latency_ms"], "make it with: nasbench lut build"),
        (["shape_search.min_temperature=9"], "min_temperature=9 exceeds max_temperature=5"),
        (["supernet.family=vit"], "the family 'vit' names no layers by dimension"),
        (["supernet.sharing=mixture_layerwise"], "needs supernet.sharing slice"),
        (["training.strategy=bignas"], "training.strategy has no meaning beside 'shape_search'"),
        (["search.algorithm=nsga2"], "search.algorithm has no meaning beside 'shape_search'"),
        (["search.constraints=[num_macs <= 1M]"], "search.constraints has no meaning"),
        (["training.batch_size=800"], "lower training.batch_size"),
        (["latency.device=pi"], "latency.device=pi is a node of a Ray cluster"),
        (["search.objectives=[top1_errr]"], "'top1_errr'"),
        (["shape_search.epoch=3"], "shape_search has no setting 'epoch'; did you mean 'epochs'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(settings, sentence, nasbench, tmp_path):
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    code, _, errors = nasbench("run", TINY, "--out", "run", *overrides)
    assert code == 2, errors
    assert len(errors.splitlines()) == 1
    assert re.search(sentence, errors), errors
    assert list(tmp_path.iterdir()) == []
