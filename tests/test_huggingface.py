"""Going back: sub-networks as folders that `transformers` loads, where they are expressible."""

import re

import pytest
import torch

from nasbench.errors import RequestError, WorkError
from nasbench.export.huggingface import save_huggingface
from nasbench.supernet import SUPERNETS
from nasbench.supernet.convert import convert
from nasbench.supernet.convert.layouts import layout_of
from nasbench.testing.supernets import disturb
from tests.pretrained import KINDS, make_model, outputs_of

transformers = pytest.importorskip("transformers", reason="needs the extra huggingface")

ELASTIC = {
    "depth": [1, 2, 3],
    "hidden_size": [8, 16],
    "layer*.num_heads": [2, 4],
    "layer*.feed_forward_width": [16, 32],
}


def alike(supernet, **sizes):
    """The member whose blocks all have these sizes."""
    return supernet.space.canonical(
        {name: sizes.get(name.rpartition(".")[2], of) for name, of in supernet.largest.items()}
    )


def load(kind, folder):
    return getattr(transformers, layout_of(kind).model_class).from_pretrained(folder).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"depth": 2, "feed_forward_width": 16}, {"hidden_size": 8, "num_heads": 2}],
    ids=["largest", "shallow", "narrow"],
)
def test_transformers_loads_what_the_subnetwork_computes(kind, sizes, tmp_path):
    supernet = convert(make_model(kind), elastic=ELASTIC)
    disturb(supernet)
    saved = save_huggingface(supernet, alike(supernet, **sizes), tmp_path / "saved")
    assert saved.kind == "huggingface"
    assert layout_of(kind).model_class in saved.reason
    model = load(kind, tmp_path / "saved")
    with torch.inference_mode():
        ours = supernet(*supernet.example_inputs(6))
    torch.testing.assert_close(outputs_of(model, supernet), ours, rtol=1e-4, atol=1e-5)
    again = convert(tmp_path / "saved").eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(*supernet.example_inputs(6)), ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "changes", "why"),
    [
        ({"num_heads": 2}, {}, "its blocks have 2 heads of 4 features, and those of a BertFor"),
        ({}, {"layer2.num_heads": 2}, "its blocks have different numbers of heads (4, 2, 4), and"),
        ({}, {"layer3.feed_forward_width": 16}, "different feed-forward widths (32, 32, 16)"),
    ],
)
def test_what_is_not_expressible_is_a_program_with_the_reason(sizes, changes, why, tmp_path):
    supernet = convert(make_model("bert"), elastic=ELASTIC)
    architecture = {**alike(supernet, **sizes), **changes}
    saved = save_huggingface(supernet, architecture, tmp_path / "saved")
    assert saved.kind == "pt2"
    assert why in saved.reason
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["model.pt2"]


def test_what_was_trained_from_scratch_can_go_too(tmp_path):
    supernet = SUPERNETS["encoder"].build(seed=3)
    assert save_huggingface(supernet, supernet.largest, tmp_path / "saved").kind == "huggingface"
    assert transformers.AutoConfig.from_pretrained(tmp_path / "saved").model_type == "bert"


def test_the_tokenizer_goes_with_the_network(tmp_path):
    make_model("bert").save_pretrained(tmp_path / "from")
    (tmp_path / "from" / "tokenizer.json").write_text("{}")
    supernet = convert(tmp_path / "from")
    save_huggingface(supernet, supernet.largest, tmp_path / "to")
    assert (tmp_path / "to" / "tokenizer.json").read_text() == "{}"


def test_nothing_is_overwritten_and_nothing_wrong_is_left(tmp_path, monkeypatch):
    supernet = convert(make_model("bert"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(RequestError, match=re.escape("mine' holds something; name a new folder")):
        save_huggingface(supernet, supernet.largest, tmp_path / "mine")
    monkeypatch.setattr("nasbench.export.huggingface._computed_by_transformers", lambda *_: 1e3)
    with pytest.raises(WorkError, match="differs from the supernet's active sub-network"):
        save_huggingface(supernet, supernet.largest, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    other = SUPERNETS["resnet"].build()
    with pytest.raises(RequestError, match="a sub-network of the family 'resnet' is no Hugging"):
        save_huggingface(other, other.largest, tmp_path / "new")
