"""Files that were exported, by us or by anybody, as something that an engine can time."""

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.export import EXPORTERS
from nasbench.export.programs import programs_of
from nasbench.export.pt2 import Pt2Exporter
from nasbench.export.weights import SafetensorsExporter
from nasbench.hardware import ENGINES, LatencyProtocol, measure_latency
from nasbench.hardware.files import open_exported, with_sequence_length
from nasbench.supernet import SUPERNETS

QUICK = LatencyProtocol(num_warmup=1, num_repeats=2)
SUPERNET = SUPERNETS["mobilenet_v3"].build()
MODULE = SUPERNET.extract(SUPERNET.smallest)


def run(exported, engine, batch_size=1):
    artifact = exported.artifact(ENGINES[engine](), batch_size, None)
    return measure_latency(ENGINES[engine](), artifact, QUICK)


@pytest.fixture
def export(tmp_path):
    """A folder with weights and a manifest, as an export has them."""
    folder = tmp_path / "export"
    folder.mkdir()
    SafetensorsExporter().write(MODULE, {}, folder)
    manifest = {
        "architecture_id": SUPERNET.smallest.id,
        "architecture": SUPERNET.smallest.to_json(),
        "supernet": SUPERNET.settings,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_weights_are_put_into_the_network_of_the_manifest(export):
    for path in (export, export / "weights.safetensors"):
        exported = open_exported(path)
        assert exported.manifest["architecture_id"] == SUPERNET.smallest.id
        module, (inputs,) = exported.artifact(ENGINES["eager"](), 3, None)
        assert len(inputs) == 3
        torch.testing.assert_close(module(inputs), MODULE(inputs))


def test_weights_of_another_network_are_refused(export):
    manifest = json.loads((export / "manifest.json").read_text())
    manifest["architecture"] = SUPERNET.largest.to_json()
    (export / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RequestError, match="do not fit its network"):
        run(open_exported(export), "eager")
    (export / "manifest.json").unlink()
    with pytest.raises(RequestError, match=r"beside no manifest.json"):
        run(open_exported(export), "eager")


def test_a_strangers_manifest_imports_nothing(export, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('boom')")
    monkeypatch.syspath_prepend(tmp_path)
    manifest = json.loads((export / "manifest.json").read_text())
    manifest["supernet"]["family"] = "evil:Family"
    (export / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RequestError, match="unknown supernet family 'evil:Family'"):
        run(open_exported(export), "eager")


def test_an_engine_gets_the_file_of_a_folder_that_it_runs(export):
    (export / "model.onnx").write_bytes(b"")
    assert open_exported(export).path.name == "model.onnx"
    for engine in ("eager", "torch_compile"):
        assert open_exported(export, ENGINES[engine]()).path.name == "weights.safetensors"


def test_a_program_runs_in_pytorch_at_any_batch_size(tmp_path):
    path = tmp_path / "model.pt2"
    Pt2Exporter().write_program(programs_of(MODULE, SUPERNET.example_inputs())["model"], path)
    exported = open_exported(path)
    assert exported.usual_engine == "eager"
    module, (inputs,) = exported.artifact(ENGINES["eager"](), 5, None)
    torch.testing.assert_close(module(inputs), MODULE(inputs))
    with pytest.raises(RequestError, match=r"engine 'onnxruntime' does not run 'model.pt2'"):
        run(exported, "onnxruntime")


def test_a_program_of_one_batch_size_says_which(tmp_path):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 2), (torch.zeros(3, 4),)), path)
    assert run(open_exported(path), "eager", batch_size=3).median_ms > 0
    with pytest.raises(RequestError, match="does not take batches of 2; give --batch-size 3"):
        run(open_exported(path), "eager", batch_size=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "file"), [("openvino", "model.xml"), ("executorch", "model.pte")]
)
def test_other_runtimes_read_what_was_written_for_them(target, file, tmp_path):
    pytest.importorskip(target)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    programs = programs_of(network, (torch.rand(2, 1, 8, 8),))
    EXPORTERS[target]().write(network, programs, tmp_path)
    exported = open_exported(tmp_path / file)
    assert exported.usual_engine == target
    assert run(exported, target, batch_size=3).median_ms > 0
    if target == "executorch":
        with pytest.raises(RequestError, match=r"it was lowered for at most \(8, 1, 8, 8\)"):
            run(exported, target, batch_size=9)
    (tmp_path / file).write_bytes(b"nothing")
    with pytest.raises(RequestError, match="cannot read"):
        run(exported, target)


class Bomb:
    """What a stranger would hide in a file."""

    def __reduce__(self):
        return print, ("boom",)


@pytest.mark.parametrize("place", ["sample_inputs", "constants", "weights"])
def test_a_program_that_would_run_code_is_not_read(tmp_path, place, capsys):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 2), (torch.zeros(3, 4),)), path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    (root,) = {name.partition("/")[0] for name in content}
    torch.save(Bomb(), tmp_path / "bomb")
    bomb = (tmp_path / "bomb").read_bytes()
    if place == "sample_inputs":
        content[f"{root}/data/sample_inputs/model.pt"] = bomb
    elif place == "constants":
        content[f"{root}/data/constants/custom_obj_0"] = bomb
    else:
        name = f"{root}/data/weights/model_weights_config.json"
        config = json.loads(content[name])
        config["config"]["weight"]["use_pickle"] = True
        content[name] = json.dumps(config).encode()
        content[f"{root}/data/weights/weight_0"] = bomb
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(RequestError, match="as a pickle, which can run code"):
        run(open_exported(path), "eager", batch_size=3)
    with pytest.raises(RequestError, match="as a pickle, which can run code"):
        Pt2Exporter().open_program(path, ())
    assert "boom" not in capsys.readouterr().out


@pytest.mark.onnx
class TestOnnx:
    def write(self, path, shape, dtype="FLOAT"):
        from onnx import TensorProto, helper, save

        x = helper.make_tensor_value_info("x", getattr(TensorProto, dtype), shape)
        y = helper.make_tensor_value_info("y", getattr(TensorProto, dtype), shape)
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
        opset = [helper.make_opsetid("", 18)]
        save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)

    def inputs(self, path, batch_size=1, sequence_length=None):
        exported = open_exported(path)
        _, (inputs,) = exported.artifact(ENGINES["onnxruntime"](), batch_size, sequence_length)
        return inputs

    def test_open_sizes_are_the_batch_and_the_sequence(self, tmp_path):
        self.write(tmp_path / "m.onnx", ["batch", "tokens", 8])
        inputs = self.inputs(tmp_path / "m.onnx", 3, 7)
        assert (inputs.shape, inputs.dtype) == ((3, 7, 8), np.float32)
        with pytest.raises(RequestError, match="leaves the size 'tokens' of its input 'x' open"):
            self.inputs(tmp_path / "m.onnx", 3)

    def test_whole_numbers_are_ones(self, tmp_path):
        self.write(tmp_path / "m.onnx", ["batch", 4], "INT64")
        np.testing.assert_array_equal(self.inputs(tmp_path / "m.onnx", 2), np.ones((2, 4)))

    def test_a_closed_batch_is_named(self, tmp_path):
        self.write(tmp_path / "m.onnx", [2, 4])
        assert self.inputs(tmp_path / "m.onnx", 2).shape == (2, 4)
        with pytest.raises(RequestError, match="takes batches of 2 only, not of 1; give --batch-"):
            self.inputs(tmp_path / "m.onnx")

    def test_other_files_are_refused(self, tmp_path):
        self.write(tmp_path / "m.onnx", [1, 4], "STRING")
        with pytest.raises(RequestError, match=r"of type tensor\(string\), which cannot be made"):
            self.inputs(tmp_path / "m.onnx")
        (tmp_path / "m.onnx").write_bytes(b"no network")
        with pytest.raises(RequestError, match="ONNX Runtime cannot read"):
            self.inputs(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.onnx", "there is no file"),
        ("cat.jpg", "is no network that can be measured; possible: .onnx"),
        ("empty", "holds nothing to measure"),
        ("broken.pt2", "is no archive of torch.export"),
    ],
)
def test_what_is_no_exported_file_is_one_sentence(tmp_path, name, sentence):
    (tmp_path / "cat.jpg").write_bytes(b"meow")
    (tmp_path / "broken.pt2").write_bytes(b"meow")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=sentence):
        run(open_exported(tmp_path / name), "eager")


def test_token_ids_are_cut_or_continued():
    tokens = torch.tensor([[5, 6, 7]])
    (short,), (long,) = (with_sequence_length((tokens,), length) for length in (2, 5))
    assert short.tolist() == [[5, 6]]
    assert long.tolist() == [[5, 6, 7, 5, 6]]
    with pytest.raises(RequestError, match="only networks that read token ids"):
        with_sequence_length((torch.zeros(1, 1, 8, 8),), 4)
