"""Exports: each file runs and computes the same; a bad one never replaces a good one."""

import collections
import json

import pytest
import torch
from torch import nn

from nasbench.errors import RequestError, WorkError
from nasbench.export.manifest import Subnetwork, Tolerances, export_subnetwork
from nasbench.export.onnx import OnnxExporter, to_onnx_fast
from nasbench.export.programs import programs_of
from nasbench.supernet import SUPERNETS
from nasbench.supernet.plain import ResizeImages
from nasbench.testing.exporters import ExporterContract


@pytest.mark.slow
class TestExporters(ExporterContract):
    pass


@pytest.mark.onnx
@pytest.mark.parametrize("side", [12, 40])
def test_the_fast_exporter_resizes_images_as_torch_does(side, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    module = nn.Sequential(ResizeImages(side), nn.Conv2d(1, 3, 3)).eval()
    inputs = torch.randn(2, 1, 28, 28)
    (tmp_path / "model.onnx").write_bytes(to_onnx_fast(module, (inputs,)))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    name = session.get_inputs()[0].name
    found = torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])
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

    def arguments(expected=expected, **changes):
        return {
            "subnetwork": Subnetwork(module=module, inputs=(inputs,), expected=expected),
            "targets": ["safetensors"],
            "folder": tmp_path / "export" / "id",
            "tolerances": Tolerances(float32=1e-4, int8=0.5),
            "description": {"architecture_id": "id"},
            **changes,
        }

    return arguments


def content(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_manifest_describes_what_lies_beside_it(request_for, tmp_path):
    manifest = export_subnetwork(**request_for())
    folder = tmp_path / "export" / "id"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert set(content(folder)) == {"manifest.json", *manifest["files"]}
    assert manifest["targets"]["safetensors"]["largest_difference"] <= 1e-6
    assert [p.name for p in folder.parent.iterdir()] == ["id"], "nothing partial is left"


def test_a_difference_fails_the_export_and_keeps_the_old_one(request_for, tmp_path):
    export_subnetwork(**request_for())
    before = content(tmp_path)
    wrong = request_for()["subnetwork"].expected + 1e-3
    sentence = "'safetensors' wrote differs .* largest difference is 0.001, more than the tolerance"
    with pytest.raises(WorkError, match=sentence):
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
    OnnxExporter().write_program(programs_of(module, inputs)["model"], tmp_path / "shipped.onnx")
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
