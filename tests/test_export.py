"""Exports: each file runs and computes the same; a bad one never replaces a good one."""

import collections
import json

import pytest
import torch
from torch import nn

from nasbench.errors import RequestError, WorkError
from nasbench.export import EXPORTERS
from nasbench.export.manifest import export_subnetwork
from nasbench.export.onnx import OnnxExporter, to_onnx_fast
from nasbench.supernet import SUPERNETS
from nasbench.supernet.plain import ResizeImages
from nasbench.testing.exporters import ExporterContract


@pytest.mark.slow
class TestExporters(ExporterContract):
    pass


@pytest.mark.onnx
@pytest.mark.parametrize("side", [12, 40])
def test_the_fast_exporter_resizes_images_as_torch_does(side, tmp_path):
    module = nn.Sequential(ResizeImages(side), nn.Conv2d(1, 3, 3)).eval()
    inputs = torch.randn(2, 1, 28, 28)
    (tmp_path / "model.onnx").write_bytes(to_onnx_fast(module, (inputs,)))
    found = OnnxExporter().load(tmp_path / "model.onnx", module)(inputs)
    torch.testing.assert_close(found, module(inputs), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def supernet():
    return SUPERNETS["mobilenet_v3"].build()


@pytest.fixture
def request_for(supernet, tmp_path):
    """The arguments of `export_subnetwork` for the smallest sub-network."""
    module = supernet.extract(supernet.smallest)
    (inputs,) = supernet.example_inputs(9)
    with torch.inference_mode():
        expected = module(inputs)
    return lambda **changes: {
        "module": module,
        "inputs": inputs,
        "expected": expected,
        "targets": ["safetensors"],
        "folder": tmp_path / "export" / "id",
        "tolerance": 1e-4,
        "description": {"architecture_id": "id"},
        **changes,
    }


def content(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_manifest_describes_what_lies_beside_it(request_for, tmp_path):
    manifest = export_subnetwork(**request_for())
    folder = tmp_path / "export" / "id"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert set(content(folder)) == {"manifest.json", *manifest["files"]}
    assert manifest["files"]["weights.safetensors"]["largest_difference"] <= 1e-6
    assert [p.name for p in folder.parent.iterdir()] == ["id"], "nothing partial is left"


def test_a_difference_fails_the_export_and_keeps_the_old_one(request_for, tmp_path):
    export_subnetwork(**request_for())
    before = content(tmp_path)
    wrong = request_for()["expected"] + 1e-3
    with pytest.raises(WorkError, match="more than the tolerance"):
        export_subnetwork(**request_for(expected=wrong))
    assert content(tmp_path) == before


def test_an_output_that_is_no_number_fails_the_export(request_for):
    with pytest.raises(WorkError, match="differs"):
        export_subnetwork(**request_for(expected=torch.full((9, 10), float("nan"))))


def test_an_unknown_target_writes_nothing(request_for, tmp_path):
    with pytest.raises(RequestError, match="unknown export target 'onx'; did you mean 'onnx'"):
        export_subnetwork(**request_for(targets=["safetensors", "onx"]))
    assert not (tmp_path / "export").exists()


@pytest.mark.onnx
@pytest.mark.slow
def test_what_is_timed_is_the_graph_that_is_shipped(supernet, tmp_path):
    """The two ONNX exporters agree, operator by operator, once ONNX Runtime has optimized them."""
    import onnx
    import onnxruntime

    module = supernet.extract(supernet.largest)
    inputs = supernet.example_inputs()
    OnnxExporter().write(module, inputs, tmp_path / "shipped.onnx")
    (tmp_path / "timed.onnx").write_bytes(to_onnx_fast(module, inputs))
    operators = {}
    for name in ("shipped", "timed"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}-optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            tmp_path / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
        )
        graph = onnx.load(tmp_path / f"{name}-optimized.onnx").graph
        operators[name] = collections.Counter(node.op_type for node in graph.node)
    heavy = {name: {k: v for k, v in found.items() if k in ("Conv", "FusedConv", "Gemm", "MatMul")}
             for name, found in operators.items()}  # fmt: skip
    assert heavy["timed"] == heavy["shipped"]
    assert sum(operators["timed"].values()) <= sum(operators["shipped"].values())


def test_every_target_is_in_the_contract():
    assert set(EXPORTERS) >= {"pt2", "onnx", "safetensors"}
