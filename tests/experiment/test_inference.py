"""What is shipped, tried on a file: the same classes as the network itself says."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nasbench.errors import RequestError
from nasbench.experiment.inference import infer
from nasbench.export.manifest import Subnetwork, Tolerances, export_subnetwork
from nasbench.supernet import SUPERNETS
from nasbench.tasks.decoding import beam_search, greedy_search
from nasbench.tasks.image_folder import read_image
from nasbench.testing.supernets import disturb

FORM = {"kind": "image", "center": 1.0, "classes": ["cat", "dog", "owl"]}


def write(folder, module, inputs, expected, targets, form, attachments=None):
    export_subnetwork(
        Subnetwork(module=module, inputs=inputs, expected=expected), targets=targets,
        folder=folder, tolerances=Tolerances(float32=1e-4, int8=0.5),
        description={"input_form": form}, attachments=attachments,
    )  # fmt: skip


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
    write(folder, module, (inputs,), expected, ["pt2", "safetensors"], FORM)
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
    found = infer(export, str(image))
    with torch.inference_mode():
        logits = module(read_image(image, image_size=8, channels=1))[0]
    expected = dict(zip(FORM["classes"], logits.softmax(0).tolist(), strict=True))
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == sorted(expected, key=expected.get, reverse=True)


def test_any_size_and_color_is_brought_into_form(export, tmp_path):
    Image.new("RGBA", (31, 20), (255, 0, 0, 128)).save(tmp_path / "red.png")
    assert sum(infer(export, str(tmp_path / "red.png")).values()) == pytest.approx(1)


def test_what_is_no_export_or_no_image(export, image, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for arguments, sentence in (
        ((tmp_path / "none", image), "is no export"),
        ((export, tmp_path / "none.png"), "there is no image"),
        ((export, tmp_path / "text.png"), "cannot be read as an image"),
        ((export, image, "onnx"), "unknown target of this export 'onnx'; .* pt2, safetensors"),
    ):
        with pytest.raises(RequestError, match=sentence):
            infer(arguments[0], str(arguments[1]), *arguments[2:])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_form": None}, "does not say how a sample becomes an input"),
        ({"input_form": {**FORM, "classes": ["cat"]}}, "tells 3 classes apart, but"),
        ({"input_form": {**FORM, "kind": "sound"}}, "cannot read '.*manifest.json'"),
        ({"files": {}}, "holds no network"),
        (
            {"files": {"a": {"target": "evil:Exporter", "sha256": ""}}},
            "unknown export target 'evil:Exporter'",
        ),
        ({"files": {"../../secret": {"target": "pt2", "sha256": ""}}}, "cannot read '.*id/secret'"),
    ],
)
def test_a_manifest_is_not_believed(export, image, changes, sentence):
    (export.parent.parent / "secret").write_text("outside of the folder")
    change(export, **changes)
    with pytest.raises(RequestError, match=sentence):
        infer(export, str(image))


def test_a_file_that_was_changed_is_not_run(export, image):
    file = export / "model.pt2"
    file.write_bytes(file.read_bytes() + b"\0")
    assert (
        hashlib.sha256(file.read_bytes()).hexdigest() not in (export / "manifest.json").read_text()
    )
    with pytest.raises(RequestError, match="not the file that was verified"):
        infer(export, str(image))


class TestText:
    """Networks that read text, with a tokenizer of their own beside them."""

    SENTENCES = ("a good film", "a bad film", "the film is good and the film is bad")

    @pytest.fixture
    def text(self):
        return pytest.importorskip("nasbench.tasks.text")

    def network(self, family, tokenizer, **settings):
        supernet = SUPERNETS[family].build(vocab_size=tokenizer.get_vocab_size(), **settings)
        disturb(supernet)
        return supernet.extract(supernet.smallest), supernet.example_inputs(2)

    def write(self, folder, network, inputs, form, tokenizer, target):
        with torch.inference_mode():
            expected = network(*inputs)
        attachments = {"tokenizer.json": tokenizer.to_str()}
        write(folder, network, inputs, expected, [target], form, attachments)

    def test_a_classifier_names_its_classes(self, text, tmp_path):
        tokenizer = text.train_word_pieces(self.SENTENCES, 80)
        network, inputs = self.network("encoder", tokenizer)
        form = {"kind": "text", "max_length": 16, "classes": ["bad", "good"]}
        self.write(tmp_path / "id", network, inputs, form, tokenizer, "safetensors")
        found = infer(tmp_path / "id", "a good film")
        ids = torch.tensor([tokenizer.encode("a good film").ids])
        with torch.inference_mode():
            expected = network(ids)[0].softmax(0).tolist()
        assert found == pytest.approx(dict(zip(("bad", "good"), expected, strict=True)), rel=1e-5)
        assert sum(infer(tmp_path / "id", 20 * "a good film ").values()) == pytest.approx(1)

    @pytest.mark.parametrize("target", ["safetensors", pytest.param("pt2", marks=pytest.mark.slow)])
    def test_a_language_model_goes_on(self, text, target, tmp_path):
        tokenizer = text.train_byte_pairs(self.SENTENCES, 270)
        network, inputs = self.network("decoder", tokenizer)
        self.write(tmp_path / "id", network, inputs, {"kind": "prompt"}, tokenizer, target)
        prompt = torch.tensor([tokenizer.encode("the film").ids])
        expected = greedy_search(network, prompt, max_new_tokens=5)[0].tolist()
        found = infer(tmp_path / "id", "the film", max_new_tokens=5)
        assert found == tokenizer.decode(expected)
        with pytest.raises(RequestError, match="the text is empty"):
            infer(tmp_path / "id", "")

    @pytest.mark.parametrize("target", ["safetensors", pytest.param("pt2", marks=pytest.mark.slow)])
    def test_a_translator_translates(self, text, target, tmp_path):
        tokenizer = text.train_byte_pairs(self.SENTENCES, 270, ("<pad>", "<s>", "</s>"))
        network, inputs = self.network("seq2seq", tokenizer, padding_id=0)
        form = {"kind": "sentence", "begin_id": 1, "end_id": 2, "max_length": 6, "beam_size": 2}
        self.write(tmp_path / "id", network, inputs, form, tokenizer, target)
        source = torch.tensor([[*tokenizer.encode("a good film").ids, 2]])
        expected = beam_search(
            network, torch.tensor([[1]]), network.encode(source), max_new_tokens=6, end_id=2,
            beam_size=2,
        )  # fmt: skip
        found = infer(tmp_path / "id", "a good film")
        assert found == tokenizer.decode(expected.tokens_BN[0].tolist())

    def test_without_its_tokenizer(self, text, tmp_path):
        tokenizer = text.train_byte_pairs(self.SENTENCES, 270)
        network, inputs = self.network("decoder", tokenizer)
        self.write(tmp_path / "id", network, inputs, {"kind": "prompt"}, tokenizer, "safetensors")
        (tmp_path / "id" / "tokenizer.json").write_text("{}")
        with pytest.raises(RequestError, match="not the file that was verified"):
            infer(tmp_path / "id", "the film")
