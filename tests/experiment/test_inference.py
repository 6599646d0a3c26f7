"""What is shipped, tried on a file: the same classes as the network itself says."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nasbench.errors import RequestError
from nasbench.experiment.inference import classify
from nasbench.export.manifest import export_subnetwork
from nasbench.tasks.image_folder import read_image

FORM = {"kind": "image", "center": 1.0, "classes": ["cat", "dog", "owl"]}


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()


@pytest.fixture(scope="module")
def written(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "id"
    inputs = torch.rand(4, 1, 8, 8)
    with torch.inference_mode():
        expected = module(inputs)
    export_subnetwork(
        module, inputs=inputs, expected=expected, targets=["pt2", "safetensors"], folder=folder,
        tolerance=1e-4, description={"input_form": FORM},
    )  # fmt: skip
    return folder


@pytest.fixture
def export(written, tmp_path):
    """A copy of the export that a test may damage, with a way to change its manifest."""
    folder = tmp_path / "id"
    folder.mkdir()
    for file in written.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def change(export, **changes):
    path = export / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_it_says_what_the_network_says(module, export, image):
    found = classify(export, image)
    with torch.inference_mode():
        logits = module(read_image(image, image_size=8, channels=1))[0]
    expected = dict(zip(FORM["classes"], logits.softmax(0).tolist(), strict=True))
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == sorted(expected, key=expected.get, reverse=True)


def test_any_size_and_color_is_brought_into_form(export, tmp_path):
    Image.new("RGBA", (31, 20), (255, 0, 0, 128)).save(tmp_path / "red.png")
    assert sum(classify(export, tmp_path / "red.png").values()) == pytest.approx(1)


def test_what_is_no_export_or_no_image(export, image, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for arguments, sentence in (
        ((tmp_path / "none", image), "is no export"),
        ((export, tmp_path / "none.png"), "there is no image"),
        ((export, tmp_path / "text.png"), "cannot be read as an image"),
        ((export, image, "safetensors"), "unknown target of this export 'safetensors'"),
        ((export, image, "onnx"), "possible: pt2"),
    ):
        with pytest.raises(RequestError, match=sentence):
            classify(*arguments)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_form": None}, "does not say how a sample becomes an input"),
        ({"input_form": {**FORM, "classes": ["cat"]}}, "tells 3 classes apart, but"),
        ({"input_form": {**FORM, "kind": "sound"}}, "cannot read '.*manifest.json'"),
        ({"files": {}}, "has no file that runs by itself"),
        ({"files": {"../../secret": {"target": "pt2", "sha256": ""}}}, "cannot read '.*id/secret'"),
    ],
)
def test_a_manifest_is_not_believed(export, image, changes, sentence):
    (export.parent.parent / "secret").write_text("outside of the folder")
    change(export, **changes)
    with pytest.raises(RequestError, match=sentence):
        classify(export, image)


def test_a_file_that_was_changed_is_not_run(export, image):
    file = export / "model.pt2"
    file.write_bytes(file.read_bytes() + b"\0")
    assert (
        hashlib.sha256(file.read_bytes()).hexdigest() not in (export / "manifest.json").read_text()
    )
    with pytest.raises(RequestError, match="not the file that was verified"):
        classify(export, image)
