"""The commands that take a clock: what they print, and what they refuse."""

import json
import shutil
from pathlib import Path

import pytest

from nasbench.export.programs import programs_of
from nasbench.export.pt2 import Pt2Exporter
from nasbench.supernet import SUPERNETS
from tests.experiment.simulated import SIMULATED, SLOW

TINY = Path(__file__).parent / "tiny.yaml"
FEW = ("--repeats", 6, "--engine", SIMULATED)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    supernet = SUPERNETS["mobilenet_v3"].build()
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    module = supernet.extract(supernet.smallest)
    program = programs_of(module, supernet.example_inputs())["model"]
    Pt2Exporter().write_program(program, path)
    return path


@pytest.fixture
def model(exported, tmp_path):
    shutil.copy(exported, tmp_path)
    return exported.name


class TestMeasure:
    def test_a_table_with_conditions(self, nasbench, model):
        code, out, err = nasbench("measure", model, "--repeats", 20)
        assert code == 0, err
        assert "model.pt2" in out
        assert "median [ms]" in out
        assert "engine eager (torch " in out
        assert "batch of 1, 1 thread(s)" in out

    def test_json_with_every_pass(self, nasbench, model, tmp_path):
        code, out, _ = nasbench("measure", model, "--repeats", 40, "--batch-size", 2, "--json")
        assert code == 0
        (found,) = json.loads(out)
        assert found["model"] == "model.pt2"
        assert found["latency"]["conditions"]["batch_size"] == 2
        assert sum(map(len, found["latency"]["rounds_ms"])) == found["latency"]["num_timed"] <= 40
        for name in ("peak_memory_bytes", "energy_mj"):
            assert (found[name] is None) == (name in found["absent"])
        assert [each.name for each in tmp_path.iterdir()] == ["model.pt2"]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["none.onnx"], "there is no file 'none.onnx'"),
            (["model.pt2", "--engine", "onnx"], "did you mean 'onnxruntime'"),
            (["model.pt2", "--engine", "onnxruntime"], "does not run 'model.pt2'; eager does"),
            (["model.pt2", "--threads", "0"], "num_threads is 1 or more, not 0"),
            (["model.pt2", "--precision", "2"], "0.02 stands for 2 %"),
            (["model.pt2", "--sequence-length", "4"], "only networks that read token ids"),
        ],
    )
    def test_refusals_are_sentences(self, nasbench, model, arguments, sentence):
        code, out, err = nasbench("measure", *arguments)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1


class TestDevice:
    def test_a_table_and_two_predictors_of_one_run(self, nasbench, tmp_path):
        resnet = ("--set", "supernet.family=resnet", "--out", "run")
        code, out, err = nasbench("lut", "build", TINY, "--device", "a", *FEW, *resnet)
        assert code == 0, err
        assert "latency predicted from 10 networks" in out
        assert "latency.predictor=run/devices/a/lookup_table.json" in out
        arguments = ("--samples", 6, "--test", 4, *FEW)
        code, out, err = nasbench("device", "fit", TINY, *resnet, "--device", "a", *arguments)
        assert code == 0, err
        assert "4 others" in out
        arguments = ("--samples", 4, "--test", 4, "--repeats", 6, "--engine", SLOW)
        arguments += ("--device", "b", "--from", "a")
        code, _, err = nasbench("device", "fit", TINY, *resnet, *arguments)
        assert code == 0, err
        content = json.loads((tmp_path / "run/devices/b/predictor.json").read_text())
        assert content["predictor_name"] == "transfer"
        assert content["prior"]["device"] == "a"
        assert [each.name for each in (tmp_path / "run").iterdir()] == ["devices"]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["lut", "build", TINY, "--device", "../x"], "is no name for a device"),
            (["device", "fit", "none", "--device", "x"], "no configuration file 'none'"),
            (["device", "fit", TINY, "--device", "x", "--from", "y"], "nothing is known of a devi"),
            (["device", "fit", TINY, "--device", "x", "--predictor", "gpp"], "did you mean 'gp'"),
            (["device", "fit", TINY, "--device", "x", "--engine", "egar"], "did you mean 'eager'"),
            (["device", "fit", TINY, "--device", "x", "--address", "127.0.0.1:1"], "no Ray cluste"),
            (["device", "import", TINY, "none.json", "--device", "x"], "cannot read 'none.json'"),
            (["device", "prepare", TINY, "--to", "x"], "engine 'eager' runs no files"),
        ],
    )
    def test_refusals_are_sentences_and_leave_nothing(
        self, nasbench, tmp_path, arguments, sentence
    ):
        code, _, err = nasbench(*arguments)
        assert code == 2
        assert sentence in err
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
