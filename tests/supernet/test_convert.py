"""Pre-trained networks become supernets of the same function, elastic where patterns say so."""

import json
import re
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.supernet.convert import convert
from nasbench.supernet.convert.choices import Sizes, default_choices, stack_choices
from nasbench.supernet.training.strategies import build_strategy
from nasbench.testing.supernets import SupernetContract
from tests.pretrained import KINDS, make_model, outputs_of, write_bert

UNEVEN = {
    "depth": [1, 2, 3],
    "hidden_size": [8, 16],
    "layer[23].num_heads": [1, 2, 4],
    "layer*.feed_forward_width": [16, 32],
    "layer1.feed_forward_width": [8, 16, 32],
}


def build_uneven(**settings):
    return convert(write_bert(), **{"elastic": UNEVEN, "num_classes": 2, **settings})


class TestContractOfConvertedSupernets(SupernetContract):
    families = ("encoder",)

    def pytest_generate_tests(self, metafunc):
        if "build" in metafunc.fixturenames:
            builds = {"uneven": build_uneven, "in_order": partial(build_uneven, order="weights")}
            marks = {"uneven": (), "in_order": pytest.mark.slow}
            metafunc.parametrize(
                "build", [pytest.param(b, id=n, marks=marks[n]) for n, b in builds.items()]
            )


@pytest.fixture(params=KINDS)
def model(request):
    return make_model(request.param)


@torch.inference_mode()
def output(supernet):
    return supernet.eval()(*supernet.example_inputs(6))


class TestLargestSubnetwork:
    def test_computes_what_the_model_does(self, model):
        supernet = convert(model)
        torch.testing.assert_close(output(supernet), outputs_of(model, supernet))

    def test_computes_what_the_folder_does(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        supernet = build_supernet(convert(tmp_path).settings)
        torch.testing.assert_close(output(supernet), outputs_of(model, supernet))

    @pytest.mark.parametrize("has_batches", [False, True])
    def test_computes_the_same_in_the_order_of_importance(self, model, has_batches):
        plain = convert(model)
        batches = [plain.example_inputs(4)] if has_batches else []
        ordered = convert(model, order="weights", batches=batches)
        torch.testing.assert_close(output(ordered), output(plain))
        for supernet in (plain, ordered):
            supernet.activate(supernet.smallest)
        assert (output(ordered) - output(plain)).abs().max() > 1e-4

    def test_has_the_last_states_and_the_pooled_ones_of_a_body_without_a_head(self):
        model = make_model("bert").bert
        supernet = convert(model, num_classes=2).eval()
        (ids_BT,) = supernet.example_inputs(4)
        seen = {}
        supernet.pooler.register_forward_pre_hook(lambda _, given: seen.update(first=given[0]))
        supernet.classifier.register_forward_pre_hook(lambda _, given: seen.update(last=given[0]))
        supernet(ids_BT)
        theirs = model(ids_BT, attention_mask=(ids_BT != 0).long())
        torch.testing.assert_close(seen["first"], theirs.last_hidden_state[:, 0])
        torch.testing.assert_close(seen["last"], theirs.pooler_output)


def test_importance_by_activations_counts_what_channels_carry():
    supernet = build_uneven()
    block = supernet.stack.layer1
    with torch.no_grad():
        block.feed_forward.expand.shared.weight[5:] = 0
        block.feed_forward.expand.shared.bias[5:] = 0
        block.feed_forward.project.shared.weight[:, 5:] *= 10
    supernet.sort_channels()  # by weights alone, those that carry nothing seem to matter most
    assert (block.feed_forward.expand.shared.weight[-5:] != 0).all()
    supernet.sort_channels(batches=[supernet.example_inputs(4)])
    assert (block.feed_forward.expand.shared.weight[:5] != 0).all()
    assert supernet.architecture == supernet.largest


def test_importance_by_activations_needs_linear_readers():
    supernet = SUPERNETS["mobilenet_v3"].build()
    with pytest.raises(RequestError, match="names no linear layer for each group"):
        supernet.sort_channels(batches=[supernet.example_inputs(2)])


class TestClassifier:
    def test_is_the_networks_own_where_it_has_as_many_classes(self):
        own, theirs = convert(write_bert()), load_file(write_bert() / "model.safetensors")
        assert torch.equal(own.classifier.shared.weight, theirs["classifier.weight"])

    def test_is_fresh_for_other_classes(self):
        other = convert(write_bert(), num_classes=5)
        assert other.spec.num_classes == 5
        assert other.classifier.shared.weight.shape == (5, 16)
        same, another = (convert(write_bert(), num_classes=5, seed=s) for s in (0, 1))
        assert torch.equal(same.classifier.shared.weight, other.classifier.shared.weight)
        assert not torch.equal(another.classifier.shared.weight, other.classifier.shared.weight)


class TestPatterns:
    SIZES = Sizes(depth=12, hidden_size=768, num_heads=12, feed_forward_width=3072)

    def test_defaults_are_instatunes_space_of_bert(self):
        assert default_choices(self.SIZES) == {
            "depth": (6, 7, 8, 9, 10, 11, 12),
            "layer*.num_heads": (6, 8, 10, 12),
            "layer*.feed_forward_width": (1024, 2048, 3072),
        }

    def test_the_last_one_decides_and_what_none_meets_is_static(self):
        space = build_uneven().space
        choices = {dimension.name: dimension.choices for dimension in space}
        assert choices == {
            "depth": (1, 2, 3),
            "hidden_size": (8, 16),
            "layer1.feed_forward_width": (8, 16, 32),
            "layer2.num_heads": (1, 2, 4),
            "layer2.feed_forward_width": (16, 32),
            "layer3.num_heads": (1, 2, 4),
            "layer3.feed_forward_width": (16, 32),
        }
        supernet = build_uneven()
        supernet.activate(supernet.smallest)
        (block,) = supernet.shape.blocks
        assert (block.heads.number, block.feed_forward_width) == (4, 8)

    @pytest.mark.parametrize(
        ("elastic", "said"),
        [
            ({"layer*.heads": [6, 12]}, "no dimension is named like 'layer*.heads'; did you mean"),
            ({"depth": [6, 11]}, "the choices of depth are whole numbers from 1 to the network's"),
            ({"depth": [0, 12]}, "own 12, and that is one of them; not [0, 12]"),
            ({"hidden_size": [384.0, 768]}, "the choices of hidden_size are whole numbers"),
            ({"depth": [12]}, "nothing is elastic"),
            ({}, "nothing is elastic"),
        ],
    )
    def test_what_cannot_be_is_refused(self, elastic, said):
        with pytest.raises(RequestError, match=re.escape(said)):
            stack_choices(self.SIZES, elastic)


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        return shutil.copytree(write_bert(), tmp_path / "bert")

    def change(self, folder, **settings):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **settings}))

    def test_may_be_sharded(self, folder):
        whole = convert(folder)
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        files = {name: f"part{number % 2}.safetensors" for number, name in enumerate(weights)}
        for file in set(files.values()):
            save_file({n: w for n, w in weights.items() if files[n] == file}, folder / file)
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": files}))
        torch.testing.assert_close(output(convert(folder)), output(whole), rtol=0, atol=0)
        index.write_text(json.dumps({"weight_map": {"w": "../part0.safetensors"}}))
        with pytest.raises(RequestError, match="names no files beside it"):
            convert(folder)

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_without_a_file_is_refused(self, folder, file):
        (folder / file).unlink()
        (folder / "pytorch_model.bin").write_bytes(b"never read")
        said = {"config.json": "has no config.json", "model.safetensors": "which is pickled and"}
        with pytest.raises(RequestError, match=said[file]):
            convert(folder)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (
                {"model_type": "bart"},
                "unknown model_type in config.json 'bart'; did you mean 'bert",
            ),
            ({"hidden_act": "mish"}, "unknown activation 'mish'"),
            ({"position_embedding_type": "relative_key"}, "only encoders with absolute positions"),
            ({"num_attention_heads": 3}, "3 heads cannot share a hidden size of 16 equally"),
            ({"num_hidden_layers": 4}, "the pre-trained weights lack 'encoder.layer.3"),
            ({"num_hidden_layers": 2}, "the pre-trained weights have 'bert.encoder.layer.2."),
            ({"intermediate_size": 48}, r"have the shape (32, 16), and config.json says (48, 16)"),
            ({"vocab_size": None}, "config.json lacks the setting 'vocab_size'"),
        ],
    )
    def test_of_another_network_is_refused(self, folder, settings, said):
        self.change(folder, **settings)
        with pytest.raises(RequestError, match=re.escape(said)):
            convert(folder)

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"max_length": 15}, "up to 15 tokens, and the pre-trained network reads 14"),
            (
                {"vocab_size": 25},
                "a vocabulary of 25 tokens, and the pre-trained network one of 24",
            ),
            ({"padding_id": 1}, "token for padding is 1, and the pre-trained network's is 0"),
            ({"image_size": 8}, "a bert has no setting 'image_size'; possible: vocab_size"),
            ({"order": "magnitude"}, "order is original or weights, not 'magnitude'"),
            ({"batches": [()]}, "batches are for an order by importance"),
        ],
    )
    def test_that_does_not_fit_what_is_asked_is_refused(self, folder, asked, said):
        with pytest.raises(RequestError, match=re.escape(said)):
            convert(folder, **asked)

    def test_that_is_damaged_is_refused(self, folder):
        (folder / "model.safetensors").write_bytes(b"\0" * 16)
        with pytest.raises(RequestError, match="cannot read"):
            convert(folder)
        (folder / "config.json").write_text("[")
        with pytest.raises(RequestError, match="is no JSON object"):
            convert(folder)
        with pytest.raises(RequestError, match="there is no folder"):
            convert(folder / "nowhere")
        with pytest.raises(RequestError, match="a model object of transformers or a folder"):
            convert(torch.nn.Linear(2, 2))

    def test_whose_weights_changed_does_not_build_from_settings(self, folder):
        supernet = convert(folder)
        weights = load_file(folder / "model.safetensors")
        weights["classifier.bias"] += 1
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(RequestError, match="are not those that were converted"):
            build_supernet(supernet.settings)
        again = build_supernet(supernet.settings, with_pretrained=False)
        again.load_weights(supernet.state_dict())
        torch.testing.assert_close(output(again), output(supernet), rtol=0, atol=0)


def test_an_order_that_batches_decided_is_not_built_from_settings():
    batches = [build_uneven().example_inputs(2)]
    ordered = build_uneven(order="weights", batches=batches)
    with pytest.raises(RequestError, match="was ordered by batches, so its settings do not bring"):
        build_supernet(ordered.settings)


def test_a_supernet_of_a_model_object_is_not_built_from_its_settings():
    with pytest.raises(RequestError, match="was converted from a model object"):
        build_supernet(convert(make_model("bert")).settings)


@pytest.mark.parametrize(
    ("spec", "said"),
    [({}, "stack: Field required"), ({"stack": {"depths": "many"}}, "stack.depths")],
)
def test_plain_values_that_are_no_spec_are_refused(spec, said):
    with pytest.raises(RequestError, match=f"no spec of the family 'encoder': {said}"):
        build_supernet({"family": "encoder", "preset": "mine", "spec": spec})


def test_gpt2_widens_fourfold_where_its_configuration_says_nothing():
    supernet = convert(make_model("gpt2", n_inner=None))
    assert supernet.shape.blocks[0].feed_forward_width == 64
    assert supernet.spec.stack.activation == "gelu_tanh"


def test_variants_of_gpt2_that_scale_otherwise_are_refused(tmp_path):
    make_model("gpt2", scale_attn_by_inverse_layer_idx=True).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="only GPT-2 with scale_attn_by_inverse_layer_idx False"):
        convert(tmp_path)


def test_instatune_trains_a_converted_supernet():
    supernet = build_uneven()
    for phase in build_strategy("instatune", supernet, {"gamma": 1.0}).phases(4):
        assert phase.num_epochs >= 1
