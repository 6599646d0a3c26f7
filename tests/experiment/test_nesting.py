"""A run's ladder: which chain it is, what the bundle holds, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nasbench import plots
from nasbench.cli.tables import print_ladder
from nasbench.config import load_config
from nasbench.errors import RequestError, WorkError
from nasbench.experiment import Run, load_run
from nasbench.experiment.exporting import export_member
from nasbench.experiment.nesting import chain_of, load_bundle, nest
from nasbench.experiment.parts import build_supernet, build_task, load_trained
from nasbench.experiment.stages import execute, report
from nasbench.supernet.nested import NestedChain, NestedModel
from nasbench.supernet.nested.bundle import add_latency
from nasbench.trials import Trial
from tests.experiment.simulated import SIMULATED

TINY = Path(__file__).parents[1] / "tiny.yaml"
FEW = ["training.epochs=2", "evaluation.validation_samples=64", "search.num_trials=8"]


def opened(folder, *settings):
    """The run again, with settings that do not make it another one."""
    return Run(folder, load_config(folder / "config.yaml", settings))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a run that was searched."""
    run = Run(tmp_path_factory.mktemp("nesting") / "run", load_config(TINY, FEW))
    execute(run, ("train", "search", "report"))
    return run.folder


@pytest.fixture(scope="module")
def nested(searched):
    """The same with its ladder of four."""
    nest(opened(searched, "nest.num_members=4"))
    return searched


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestTheBundle:
    def test_is_in_the_run_and_drawn(self, nested):
        assert {p.name for p in (nested / "nest").iterdir()} == {
            "manifest.json", "weights.safetensors"
        }  # fmt: skip
        assert (nested / "ladder.png").read_bytes().startswith(b"\x89PNG")
        assert not [p.name for p in nested.rglob(".*nest*")]

    def test_members_compute_what_the_run_extracts(self, nested):
        model = NestedModel.load(nested / "nest")
        run = load_run(nested)
        largest = model.members[-1].architecture
        inputs = build_task(run.config).example_inputs(4)
        with torch.inference_mode():
            expected = run.extract(largest.id)(*inputs)
            torch.testing.assert_close(model.at(-1)(*inputs), expected, rtol=1e-4, atol=1e-4)

    def test_numbers_are_measured_with_their_conditions(self, nested):
        manifest = json.loads((nested / "nest" / "manifest.json").read_text())
        assert manifest["task"] == "digits"
        for member in manifest["members"]:
            assert 0 < member["validation"]["top1_accuracy"] < 1
            assert 0 < member["test"]["top1_accuracy"] < 1
            ((device, latency),) = member["latency"].items()
            assert latency["conditions"]["device"] == device
            assert latency["conditions"]["engine"] == "eager"
            assert 0 < latency["latency_p10_ms"] <= latency["latency_ms"]

    def test_takes_latencies_of_further_devices(self, nested, tmp_path, nasbench):
        bundle = tmp_path / "nest"
        shutil.copytree(nested / "nest", bundle)
        before = content(bundle)
        few = ("measure", bundle, "--repeats", 5, "--engine", SIMULATED)
        code, out, err = nasbench(*few, "--json")
        assert code == 0, err
        assert [each["model"] for each in json.loads(out)] == [f"{bundle} {n}" for n in range(4)]
        assert content(bundle) == before, "it is written only if asked for"
        code, out, err = nasbench(*few, "--record")
        assert code == 0, err
        assert "recorded in: " in out
        model = NestedModel.load(bundle)
        (here,) = NestedModel.load(nested / "nest").devices
        (other,) = set(model.devices) - {here}
        for member in model.members:
            assert member.latency[other]["latency_ms"] > 0
            assert member.latency[other]["conditions"]["engine"] == "simulated"
        with pytest.raises(RequestError, match="say on which device"):
            model.select("latency_ms <= 1000")
        where, counted = "latency_ms <= 1000", {"device": other, "skip_dominated": False}
        assert model.select(where, **counted).index == 3

    def test_made_again_it_keeps_them(self, nested, tmp_path):
        again = tmp_path / "run"
        shutil.copytree(nested, again)
        members = NestedModel.load(again / "nest").members
        add_latency(
            again / "nest", [{"phone": {"latency_ms": 5.0, "conditions": {}}}] * len(members)
        )
        nest(opened(again, "nest.num_members=4"))
        assert "phone" in NestedModel.load(again / "nest").devices
        manifest = again / "nest" / "manifest.json"
        damaged = json.loads(manifest.read_text())
        del damaged["members"][0]["architecture"]
        nest(opened(again, "nest.num_members=3"))
        assert "phone" not in NestedModel.load(again / "nest").devices, "members are others"
        manifest.write_text(json.dumps(damaged))
        nest(opened(again, "nest.num_members=4"))
        assert "phone" not in NestedModel.load(again / "nest").devices, "nothing of it is trusted"

    @pytest.mark.parametrize("arguments", [["none"], ["nest", "nest"]])
    def test_recording_needs_one_bundle(self, nested, nasbench, arguments):
        paths = [nested / each for each in arguments]
        before = content(nested)
        code, out, err = nasbench("measure", *paths, "--record")
        assert (code, out) == (2, "")
        assert "--record adds latencies to one bundle" in err
        assert content(nested) == before

    def test_a_table_and_the_report_show_it(self, nested, capsys):
        run = load_run(nested)
        print_ladder(run, load_bundle(run))
        out = capsys.readouterr().out
        assert "4 nested sub-networks of tiny" in out
        assert "are no better on validation data than a smaller one" in out
        (nested / "ladder.png").unlink()
        report(run)
        assert (nested / "ladder.png").exists()


class TestTheChain:
    def test_passes_the_best_of_the_measured_ones(self, searched, monkeypatch):
        run = opened(searched, "nest.num_members=5")
        supernet, task = load_trained(run)
        steps = NestedChain.grown(supernet, 12)
        good = steps[4]
        better_elsewhere = supernet.space.canonical(
            {**supernet.largest, "stage1.depth": 1, "stage2.width": 8}
        )
        accuracies = {
            steps[0]: 0.2, good: 0.9, better_elsewhere: 0.91, steps[7]: 0.7, steps[-1]: 0.95
        }  # fmt: skip
        trials = [
            Trial(number=n, architecture=a).completed({"top1_accuracy": v, **supernet.count(a)})
            for n, (a, v) in enumerate(accuracies.items())
        ]
        monkeypatch.setattr(Run, "completed", trials)
        chain = chain_of(run, supernet, task)
        assert (len(chain), chain[0], chain[-1]) == (5, supernet.smallest, supernet.largest)
        assert good in chain  # and neither of the others fits on a path with it, or is worth it
        assert better_elsewhere not in chain
        assert steps[7] not in chain

    def test_of_a_run_trained_on_one_is_that_one(self, tmp_path):
        settings = ["training.strategy=sorted", "training.options={num_members: 7}"]
        run = Run(tmp_path / "run", load_config(TINY, settings))
        task = build_task(run.config)
        supernet = build_supernet(run.config, task)
        assert len(chain_of(run, supernet, task)) == 7
        fewer = Run(run.folder, load_config(TINY, [*settings, "nest.num_members=3"]))
        whole, thin = chain_of(run, supernet, task), chain_of(fewer, supernet, task)
        assert list(thin) == [whole[0], whole[3], whole[6]]
        more = Run(run.folder, load_config(TINY, [*settings, "nest.num_members=9"]))
        with pytest.raises(RequestError, match=r"num_members=9, but .* on a chain of 7"):
            chain_of(more, supernet, task)

    def test_without_trials_grows(self, tmp_path):
        run = Run(tmp_path / "run", load_config(TINY))
        task = build_task(run.config)
        supernet = build_supernet(run.config, task)
        assert len(chain_of(run, supernet, task)) == 16


def test_fine_tuning_trains_the_members_further(nested, tmp_path):
    folder = shutil.copytree(nested, tmp_path / "run")
    before = NestedModel.load(folder / "nest").state_dict()
    settings = ("nest.num_members=4", "nest.finetune=true", "nest.epochs=1")
    model = nest(opened(folder, *settings))
    weight = "supernet.stem.conv.shared.weight"
    assert not torch.equal(model.state_dict()[weight], before[weight])
    assert json.loads((folder / "nest/manifest.json").read_text())["finetuning_epochs"] == 1
    (checkpoints,) = (folder / "supernet").glob("nested-*")
    written = content(checkpoints)
    again = nest(opened(folder, *settings))  # trains nothing again
    assert content(checkpoints) == written
    assert torch.equal(again.state_dict()[weight], model.state_dict()[weight])


class TestExport:
    def test_takes_a_member(self, nested):
        run = load_run(nested)
        for arguments, expected in (({"pick": "1"}, 1), ({"where": "num_macs <= 100%"}, None)):
            folder = export_member(run, **arguments)
            manifest = json.loads((folder / "manifest.json").read_text())
            assert expected in (None, manifest["member"])
            assert folder.name.startswith(f"nested-{manifest['member']:03d}-")
            assert manifest["targets"]["safetensors"]["largest_difference"] < 1e-4

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({}, "give --where, or --pick and a member's number from 0 to 3"),
            ({"pick": "knee"}, "give --where, or --pick and a member's number"),
            ({"pick": "4"}, "there is no member 4"),
            ({"where": "num_macs <= 1"}, "no member has num_macs <= 1"),
        ],
    )
    def test_what_cannot_be_exported_changes_nothing(self, nested, arguments, said):
        before = content(nested)
        with pytest.raises(RequestError, match=said):
            export_member(load_run(nested), **arguments)
        assert content(nested) == before


class TestRefusals:
    def test_an_untrained_run(self, tmp_path):
        run = Run(tmp_path / "run", load_config(TINY))
        with pytest.raises(RequestError, match="is not trained; run: nasbench train"):
            nest(run)
        with pytest.raises(RequestError, match="no nested sub-networks yet; run: nasbench nest"):
            load_bundle(run)
        assert not list(tmp_path.iterdir())

    def test_more_members_than_there_are(self, searched):
        before = content(searched)
        with pytest.raises(RequestError, match="num_members=400, but a chain"):
            nest(opened(searched, "nest.num_members=400"))
        assert content(searched) == before

    def test_a_bundle_that_computes_something_else_is_not_kept(self, nested, monkeypatch):
        before = content(nested / "nest")
        monkeypatch.setattr(NestedModel, "forward", lambda _self, x: x.new_zeros(len(x), 10))
        with pytest.raises(WorkError, match=r"member 0 of the bundle differs .* nothing was"):
            nest(opened(nested, "nest.num_members=3"))
        assert content(nested / "nest") == before
        assert not list(nested.glob(".*nest*"))


def test_a_ladder_is_drawn_into_given_axes():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    costs, qualities = np.array([1.0, 2.0, 30.0]), np.array([0.5, 0.4, 0.8])
    drawn = plots.plot_ladder(
        costs, qualities, cost="latency_ms", quality="top1_accuracy", tested=qualities, ax=ax
    )
    assert drawn is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("median latency [ms]", "top-1 accuracy [%]")
    ahead, behind, tested = ax.collections
    assert [len(points.get_offsets()) for points in (ahead, behind, tested)] == [2, 1, 3]
    plt.close("all")
