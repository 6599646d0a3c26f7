"""The command line, called as a person does: bad input, a whole run, and what it leaves."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nasbench as nb
from nasbench.supernet import SUPERNETS

TINY = Path(__file__).parent / "tiny.yaml"


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    command = [sys.executable, "-m", "nasbench", "run", str(TINY), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class TestBadInput:
    """Exit code 2, one sentence, nothing written."""

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (["search.num_trial=5"], "search has no setting 'num_trial'; did you mean"),
            (["search.num_trials=many"], "search.num_trials is 'many'"),
            (["search.algorithm=lines"], "unknown search algorithm 'lines'; did you mean 'linas'"),
            (["task.name=digit"], "unknown task 'digit'; did you mean 'digits'"),
            (["supernet.family=mobilenet"], "unknown supernet family 'mobilenet'; did you mean"),
            (["supernet.preset=tinny"], "unknown preset of mobilenet_v3 'tinny'; did you mean"),
            (
                ["supernet.sharing=mixture"],
                "unknown weight sharing 'mixture'; did you mean 'mixture_",
            ),
            (["supernet.options.num_experts=2"], "unknown setting of mobilenet_v3 'num_experts'"),
            (["training.strategy=sandwhich"], "did you mean 'sandwich'"),
            (["training.batch_size=5000"], "lower training.batch_size"),
            (
                ["latency.engine=onnx"],
                "unknown inference engine 'onnx'; did you mean 'onnxruntime'",
            ),
            (["export.targets=[onx]"], "unknown export target 'onx'; did you mean 'onnx'"),
            (["search.objectives=[top1_eror]"], "did you mean 'top1_error'"),
            (["search.constraints=[latency < 3]"], "cannot read the constraint"),
            (["search.constraints=[num_macs <= 10]"], "no sub-network can have num_macs <= 10"),
            (["search.constraints=[num_macs <= 1%]"], "no sub-network can have num_macs <= 1%"),
            (["search.constraints=[num_parameters >= 1G]"], "no sub-network can have"),
            (["search.constraints=[latency <= 0 ms]"], "no sub-network can have latency_ms <= 0"),
            (["search.options.populatoin=3"], "search.options do not fit 'random'"),
            (["resources.address=127.0.0.1:1"], "no Ray cluster answers at '127.0.0.1:1'"),
            (["task.name=nowhere:task"], "no module 'nowhere'"),
        ],
    )
    def test_settings(self, nasbench, tmp_path, settings, sentence):
        arguments = [part for setting in settings for part in ("--set", setting)]
        code, out, err = nasbench("run", TINY, *arguments)
        assert sentence in err
        assert (code, out) == (2, "")
        assert err.startswith("nasbench: ")
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("command", ["run", "train", "search", "report", "export", "profile"])
    def test_a_missing_file(self, nasbench, tmp_path, command):
        code, _, err = nasbench(command, "none.yaml")
        assert code == 2
        assert "no configuration file 'none.yaml'" in err
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_no_run(self, nasbench, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
        before = content(tmp_path)
        for arguments in (["run", TINY, "--out", "photos"], ["report", "photos"]):
            code, _, err = nasbench(*arguments)
            assert code == 2
            assert "no run" in err
        assert content(tmp_path) == before

    @pytest.mark.slow
    def test_a_folder_of_a_different_run(self, nasbench, finished):
        before = content(finished)
        code, _, err = nasbench("run", TINY, "--out", finished, "--set", "seed=1")
        assert code == 2
        assert "holds a different run (it differs in seed)" in err
        assert content(finished) == before

    def test_a_folder_that_cannot_be_written(self, nasbench, tmp_path, monkeypatch):
        may = lambda _, mode: not mode & os.W_OK  # noqa: E731 - a read-only disk, for root too
        monkeypatch.setattr(os, "access", may)
        code, _, err = nasbench("run", TINY)
        assert code == 2
        assert "cannot write to" in err
        assert list(tmp_path.iterdir()) == []

    def test_a_file_where_the_folder_should_be(self, nasbench, tmp_path):
        (tmp_path / "runs").write_text("no folder")
        code, _, err = nasbench("run", TINY)
        assert code == 2
        assert "cannot write to" in err

    def test_a_package_that_is_not_installed(self, nasbench, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for setting in ("latency.engine=onnxruntime", "export.targets=[onnx]"):
            code, _, err = nasbench("run", TINY, "--set", setting)
            assert code == 2
            assert "pip install 'nasbench[onnx]'" in err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_a_damaged_checkpoint(self, nasbench, tmp_path):
        nasbench("train", TINY, "--out", "run")
        damaged = tmp_path / "run/supernet/checkpoints/step-0000012/weights.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        before = content(tmp_path)
        code, _, err = nasbench("search", "run")
        assert code == 2
        assert "step-0000012/weights.safetensors' is damaged" in err
        assert "step-0000008" in err
        assert content(tmp_path) == before

    @pytest.mark.slow
    def test_a_stage_whose_turn_has_not_come(self, nasbench):
        nasbench("train", TINY, "--out", "run")
        code, _, err = nasbench("report", "run")
        assert code == 2
        assert "run: nasbench search" in err

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--pick", "none"], "no completed trial has the architecture id 'none'"),
            (["--where", "num_macs <= 10"], "no sub-network of the front has num_macs <= 10"),
            (["--where", "latency_ms <= 3"], "no 'latency_ms' was measured"),
            (["--where", "accuracy >= 0.5", "--pick", "best"], "not both"),
        ],
    )
    def test_nothing_to_export(self, nasbench, finished, arguments, sentence):
        before = content(finished)
        code, _, err = nasbench("export", finished, *arguments)
        assert code == 2
        assert sentence in err
        assert content(finished) == before

    @pytest.mark.parametrize("command", ["search", "report"])
    def test_a_stage_of_a_run_that_was_never_trained(self, nasbench, tmp_path, command):
        code, _, err = nasbench(command, TINY)
        assert code == 2
        assert "is not trained; run: nasbench train" in err
        assert list(tmp_path.iterdir()) == []

    def test_unknown_arguments(self, nasbench):
        assert nasbench("run", TINY, "--fast")[0] == 2
        assert nasbench("runn")[0] == 2
        code, _, err = nasbench("list", "algorithm")
        assert code == 2
        assert "did you mean 'algorithms'" in err


@pytest.mark.slow
class TestRun:
    def test_leaves_everything(self, finished):
        record = json.loads((finished / "run.json").read_text())
        assert list(record["stages"]) == ["train", "search", "report", "export"]
        assert record["versions"]["torch"] == torch.__version__
        with (finished / "pareto.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 12
        ranks = [int(row["rank"]) for row in rows]
        assert ranks == sorted(ranks)
        for row in rows:
            assert (row["test_top1_accuracy [fraction]"] != "") == (row["rank"] == "1")
        assert (finished / "pareto.png").read_bytes().startswith(b"\x89PNG")
        assert [p.name for p in finished.rglob(".*")] == [], "nothing partial is left"

    def test_again_says_so_and_changes_nothing(self, finished):
        before = content(finished)
        start = time.monotonic()
        command = [sys.executable, "-m", "nasbench", "run", str(TINY), "--out", str(finished)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert time.monotonic() - start < 5
        assert "is finished" in done.stdout
        assert content(finished) == before

    def test_the_library_reads_it(self, finished):
        run = nb.load_run(finished)
        front = run.pareto_front()
        frame = run.trials_dataframe()
        assert len(frame) == 12
        assert {"top1_accuracy", "num_macs", "stage1.depth", "architecture_id"} <= set(frame)
        errors = [trial.measurements["top1_error"] for trial in front]
        assert errors == sorted(errors)
        bound = front[-1].measurements["num_macs"]
        assert run.select(f"num_macs <= {bound}") == front[-1]
        assert run.select(pick="best") == front[0]
        assert run.select() in front
        module = run.extract(front[0].architecture.id)
        assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 10)

    def test_the_export_computes_what_was_reported(self, finished):
        (folder,) = (finished / "export").iterdir()
        manifest = json.loads((folder / "manifest.json").read_text())
        trial = nb.load_run(finished).select()
        assert manifest["architecture_id"] == folder.name == trial.architecture.id
        assert manifest["measurements"] == dict(trial.measurements)
        with (finished / "pareto.csv").open(newline="") as stream:
            row = next(r for r in csv.DictReader(stream) if r["architecture_id"] == folder.name)
        reported = float(row["test_top1_accuracy [fraction]"])
        assert manifest["test"]["top1_accuracy"] == reported

    def test_a_figure_can_be_drawn_into_given_axes(self, finished):
        import matplotlib.pyplot as plt

        _, ax = plt.subplots()
        assert nb.plots.plot_pareto_front(nb.load_run(finished), ax=ax) is ax
        assert ax.get_xlabel() == "multiply-accumulates"
        assert ax.get_ylabel() == "top-1 error [%]"
        plt.close("all")

    def test_a_larger_budget_carries_on(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, tmp_path / "run")
        before = nb.load_run(finished).trials
        code, out, err = nasbench("run", TINY, "--out", "run", "--set", "search.num_trials=16")
        assert code == 0, err
        assert "train:" not in out, "the supernet is not trained again"
        trials = nb.load_run("run").trials
        assert trials[:12] == before
        assert len(trials) == 16

    def test_a_ladder_is_made_and_a_member_exported(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, tmp_path / "run")
        code, _, err = nasbench("export", "run", "--nested", "--pick", "1")
        assert (code, err.count("\n")) == (2, 1)
        assert "has no nested sub-networks yet; run: nasbench nest" in err
        code, out, err = nasbench("nest", "run", "--members", "3")
        assert code == 0, err
        assert "3 nested sub-networks of tiny" in out
        code, _, err = nasbench("export", "run", "--nested", "--where", "num_macs <= 100%")
        assert code == 0, err
        assert list((tmp_path / "run/export").glob("nested-*/manifest.json"))

    def test_another_sub_network_can_be_exported(self, nasbench, finished):
        shutil.copytree(finished, "run")
        trial = nb.load_run("run").pareto_front()[-1]
        code, _, err = nasbench("export", "run", "--pick", trial.architecture.id)
        assert code == 0, err
        assert Path("run/export", trial.architecture.id, "manifest.json").exists()

    def test_an_export_can_be_tried(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, "run")
        nasbench("export", "run", "--set", "export.targets=[pt2]")
        (export,) = Path("run/export").iterdir()
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("dark.png")
        code, out, err = nasbench("infer", export, "--input", "dark.png", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert sorted(found) == [str(digit) for digit in range(10)]
        network = nb.load_run("run").extract(export.name)
        with torch.inference_mode():
            expected = network(torch.full((1, 1, 8, 8), -1.0)).softmax(1)[0].tolist()
        assert [found[str(digit)] for digit in range(10)] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("algorithm", ["nsga2", "linas"])
    def test_one_word_changes_the_algorithm(self, nasbench, algorithm):
        code, _, err = nasbench("run", TINY, "--set", f"search.algorithm={algorithm}")
        assert code == 0, err
        assert len(nb.load_run("runs/tiny").pareto_front()) >= 1

    def test_the_same_seed_finds_the_same_in_any_order_of_workers(self, nasbench, finished):
        nasbench("run", TINY, "--out", "again")
        again, first = nb.load_run("again").trials, nb.load_run(finished).trials
        assert [t.architecture for t in again] == [t.architecture for t in first]
        for a, b in zip(again, first, strict=True):
            for name in ("top1_error", "num_macs", "num_parameters"):
                assert a.measurements[name] == b.measurements[name]

    def test_constraints_are_respected(self, nasbench):
        settings = ["--set", "search.constraints=[num_macs <= 40%, num_parameters <= 40k]"]
        code, _, err = nasbench("run", TINY, *settings)
        assert code == 0, err
        run = nb.load_run("runs/tiny")
        largest = nb.load_run("runs/tiny").constraints[0].bound
        assert all(t.measurements["num_macs"] <= largest for t in run.pareto_front())
        assert all(t.measurements["num_parameters"] <= 40_000 for t in run.pareto_front())


@pytest.mark.slow
class TestReport:
    def test_a_page_that_was_deleted_is_made_again(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, tmp_path / "run")
        page = tmp_path / "run/report.html"
        before = page.read_text()
        nasbench("predictors", "run", "--predictor", "ridge")
        code, out, err = nasbench("report", "run")
        assert code == 0, err
        assert "report: run/report.html" in out
        assert "Predictors" not in before
        assert "Predictors" in page.read_text(), "what came since is shown"

    def test_several_runs_for_machines(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, "run")
        code, out, err = nasbench("report", finished, "run", "--json", "--html", "both.html")
        assert code == 0, err
        first, second = json.loads(out)
        assert first["num_front"] == len(first["front"]) == len(nb.load_run("run").pareto_front())
        assert first["hypervolume"] == second["hypervolume"]
        assert '<h2 id="runs-heading">Runs' in (tmp_path / "both.html").read_text()
        code, out, err = nasbench("report", "run", "--csv")
        assert code == 0, err
        rows = list(csv.DictReader(out.splitlines()))
        assert [row["architecture_id"] for row in rows] == [
            trial.architecture.id for trial in nb.load_run("run").pareto_front()
        ]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--json", "--csv"], "--json or --csv, not both"),
            (["--html", "none/report.html"], "cannot write 'none/report.html'"),
            (["run2", "--out", "there"], "--out names the folder of one run"),
        ],
    )
    def test_refusals_are_sentences(self, nasbench, finished, tmp_path, arguments, sentence):
        code, _, err = nasbench("report", finished, *arguments)
        assert code == 2
        assert sentence in err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
class TestPredictors:
    def test_a_table_and_a_figure(self, nasbench, finished, tmp_path):
        shutil.copytree(finished, tmp_path / "run")
        code, out, err = nasbench("predictors", "run", "--predictor", "ridge")
        assert code == 0, err
        assert "12 trials; means over 15 held-out folds" in out
        assert "ridge" in out
        assert (tmp_path / "run/predictors/top1_error.png").read_bytes().startswith(b"\x89PNG")
        (found,) = json.loads((tmp_path / "run/predictors/quality.json").read_text())
        assert len(found["measured"]) == len(found["held_out_mean"]) == found["num_trials"] == 12

    def test_json_holds_every_metric_predictor_and_size(self, nasbench, finished):
        before = content(finished)
        arguments = ["--json", "--size", "4", "--size", "9", "--within", "stage1.depth"]
        arguments += ["--predictor", "ridge", "--predictor", "gp"]
        metrics = ["--metric", "top1_error", "--metric", "num_macs"]
        code, out, err = nasbench("predictors", finished, *arguments, *metrics)
        assert code == 0, err
        found = json.loads(out)
        assert [(each["metric"], each["predictor"]) for each in found] == [
            (metric, predictor)
            for metric in ("top1_error", "num_macs")
            for predictor in ("ridge", "gp")
        ]
        assert [at["size"] for at in found[0]["at_sizes"]] == [4, 9]
        assert -1 <= found[0]["at_sizes"][0]["mean"]["tau"] <= 1
        assert content(finished) == before

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--predictor", "rigde"], "did you mean 'ridge'"),
            (["--predictor", "transfer"], "needs another device's model"),
            (["--metric", "latency"], "unknown measured metric 'latency'"),
            (["--size", "10"], "1 to 9 can be learned from"),
            (["--within", "stage1.dept"], "did you mean 'stage1.depth'"),
        ],
    )
    def test_refusals_are_sentences(self, nasbench, finished, arguments, sentence):
        code, _, err = nasbench("predictors", finished, *arguments)
        assert code == 2
        assert sentence in err


def test_help_is_light_and_fast():
    code = (
        "import sys; sys.argv = ['nasbench', '--help']\n"
        "import nasbench.cli\n"
        "try: nasbench.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'matplotlib', 'sklearn', 'pymoo', 'plotly'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.monotonic() - start < 5


def test_profile_counts_before_training(nasbench):
    code, out, _ = nasbench("profile", TINY, "--set", "search.constraints=[num_macs <= 50%]")
    assert code == 0
    assert "largest : smallest" in out
    assert "num_macs <= 50%: can be met" in out


def test_profile_shows_what_a_mixture_adds(nasbench):
    settings = ["supernet.sharing=mixture_layerwise", "supernet.options.num_experts=3"]
    code, out, _ = nasbench("profile", TINY, *(x for s in settings for x in ("--set", s)))
    assert code == 0
    build = SUPERNETS["mobilenet_v3"].build
    plain, mixed = build(), build(sharing="mixture_layerwise", num_experts=3)
    held, sliced = (sum(p.numel() for p in s.parameters()) for s in (mixed, plain))
    assert f"training holds {held:,} parameters, {held - sliced:,} (" in out
    assert "training holds" not in nasbench("profile", TINY)[1]


def test_profile_of_a_family_lists_its_presets(nasbench):
    code, out, _ = nasbench("profile", "mobilenet_v3")
    assert code == 0
    for preset in ("tiny", "ofa_w1.0", "ofa_w1.2"):
        assert f"mobilenet_v3 {preset}" in out


def test_list_names_every_registry(nasbench):
    code, out, _ = nasbench("list")
    assert code == 0
    for name in ("mobilenet_v3", "linas", "ridge", "digits", "onnxruntime", "pt2"):
        assert name in out


@pytest.mark.slow
def test_random_numbers_are_left_alone(nasbench):
    np.random.seed(0)  # noqa: NPY002 - the global state is what must not change
    torch.manual_seed(0)
    expected = (np.random.rand(), float(torch.rand(1)))  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    nasbench("train", TINY)
    assert (np.random.rand(), float(torch.rand(1))) == expected  # noqa: NPY002


@pytest.mark.slow
class TestMending:
    """What somebody deleted is made again, and nothing else is."""

    @pytest.fixture
    def run(self, finished, tmp_path, nasbench):
        shutil.copytree(finished, tmp_path / "run")
        return Path("run")

    @pytest.mark.parametrize("lost", ["pareto.csv", "pareto.png", "report.html", "export"])
    def test_what_was_deleted_is_made_again(self, nasbench, run, lost):
        before = content(run)
        if lost == "export":
            shutil.rmtree(run / lost)
        else:
            (run / lost).unlink()
        code, out, err = nasbench("run", run)
        assert code == 0, err
        assert "train:" not in out
        assert "search:" not in out
        after = content(run)
        assert after.keys() == before.keys()
        assert after[run / "pareto.csv"] == before[run / "pareto.csv"]

    def test_the_advice_on_a_damaged_checkpoint_works(self, nasbench, run):
        weights = run / "supernet/checkpoints/step-0000012/weights.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(b"")
        (run / "pareto.csv").unlink()
        assert nasbench("run", run)[0] == 2
        shutil.rmtree(weights.parent)
        code, _, err = nasbench("run", run)
        assert code == 0, err
        assert weights.read_bytes() == good


@pytest.mark.slow
@pytest.mark.parametrize("objectives", ["[top1_error]", "[top1_error, num_macs, num_parameters]"])
def test_any_number_of_objectives(nasbench, objectives):
    code, out, err = nasbench("run", TINY, "--set", f"search.objectives={objectives}")
    assert code == 0, err
    assert "Pareto front" in out
    assert not Path("runs/tiny/pareto.png").exists()


@pytest.mark.slow
def test_a_search_without_a_feasible_trial_says_so(nasbench):
    code, _, err = nasbench("run", TINY, "--set", "search.constraints=[accuracy >= 100%]")
    assert code == 1
    assert "no completed trial of 'runs/tiny' respects the constraints" in err
