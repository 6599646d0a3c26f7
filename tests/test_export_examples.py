"""The examples of docs/exports.md, run as they stand: each runtime says what the network says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nasbench.export.manifest import Subnetwork, Tolerances, export_subnetwork
from nasbench.supernet import SUPERNETS
from nasbench.tasks.decoding import greedy_search
from nasbench.testing.supernets import disturb

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "docs" / "exports.md").read_text()
EXAMPLES = dict(re.findall(r"^### (.*?)\n[^#]*?```python\n(.*?)```", TEXT, re.S | re.M))
PACKAGES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "ExecuTorch": "executorch"}
TARGETS = {
    "ONNX Runtime": "onnx",
    "PyTorch": "pt2",
    "PyTorch, as a module that can be trained further": "safetensors",
    "OpenVINO": "openvino",
    "ExecuTorch": "executorch",
}
LANGUAGE = "A language model, token by token"


def write(folder, family, targets):
    supernet = SUPERNETS[family].build()
    disturb(supernet)
    module, inputs = supernet.extract(supernet.smallest), supernet.example_inputs(6)
    with torch.inference_mode():
        expected = module(*inputs)
    export_subnetwork(
        Subnetwork(module=module, inputs=inputs, expected=expected), targets=targets,
        folder=folder, tolerances=Tolerances(float32=1e-4, int8=0.5), description={},
    )  # fmt: skip
    return module, inputs, expected


def run(code, folder):
    """What a fresh process prints of an example."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_every_example_is_known():
    assert set(EXAMPLES) == {*TARGETS, LANGUAGE}


@pytest.mark.slow
@pytest.mark.parametrize("title", TARGETS)
def test_a_runtime_says_what_the_network_says(title, tmp_path):
    pytest.importorskip(PACKAGES.get(title, "torch"))
    _, (images,), logits = write(tmp_path / "export", "mobilenet_v3", [TARGETS[title]])
    np.save(tmp_path / "images.npy", images.numpy())
    assert run(EXAMPLES[title], tmp_path) == str(logits.argmax(1).numpy())


@pytest.mark.slow
@pytest.mark.onnx
def test_a_language_model_goes_on_as_the_network_does(tmp_path):
    pytest.importorskip("onnxruntime")
    module, _, _ = write(tmp_path / "language", "decoder", ["onnx"])
    expected = greedy_search(module, torch.tensor([[5, 6, 7]]), max_new_tokens=8)
    assert run(EXAMPLES[LANGUAGE], tmp_path) == str(expected[0].tolist())
