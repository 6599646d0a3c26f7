"""What is particular to vision transformers: their spaces, presets and tokens."""

import re

import pytest
import torch
from torch.nn import functional as F

from nasbench.cost import count_macs
from nasbench.errors import RequestError
from nasbench.supernet.families.vit import VIT

TINY = VIT.presets["tiny"]


def build_weightless(**settings):
    with torch.device("meta"):
        return VIT.build(**settings)


def changed(supernet, **choices):
    """The largest sub-network with other choices; `__` stands for the dot in a name."""
    named = {name.replace("__", "."): choice for name, choice in choices.items()}
    return supernet.space.canonical({**supernet.largest, **named})


def test_dimensions_of_the_tiny_preset():
    space = build_weightless().space
    names = [dimension.name for dimension in space]
    assert names[:4] == ["depth", "hidden_size", "layer1.num_heads", "layer1.feed_forward_width"]
    assert space["layer1.num_heads"].active_when is None
    assert space["layer3.num_heads"].active_when.choices == (3, 4)
    block = 3 * 3
    assert space.size == 3 * (block + block**2 + block**3 + block**4)


@pytest.mark.parametrize(
    ("preset", "size", "num_parameters", "num_macs"),
    [
        ("vit_b16", 12**11 + 12**12, 86_567_656, 17_563_828_224),
        ("vit_base_imagenet", 12**10 + 12**11 + 12**12, 86_567_656, 17_563_828_224),
    ],
)
def test_published_spaces_and_networks(preset, size, num_parameters, num_macs):
    supernet = build_weightless(preset=preset)
    assert supernet.space.size == size
    biases_of_keys = 12 * 768  # which ours does without
    assert supernet.count(supernet.largest) == {
        "num_parameters": num_parameters - biases_of_keys,
        "num_macs": num_macs,
    }


@pytest.mark.parametrize("preset", sorted(VIT.presets))
def test_counts_are_those_of_the_extracted_module(preset):
    supernet = build_weightless(preset=preset)
    for architecture in (supernet.largest, supernet.smallest):
        extracted = supernet.extract(architecture)
        assert supernet.count(architecture) == {
            "num_parameters": sum(p.numel() for p in extracted.parameters()),
            "num_macs": count_macs(extracted, supernet.example_inputs()),
        }


def test_the_fashion_preset_extracts_what_it_computes():
    supernet = VIT.build("fashion").eval()
    inputs = supernet.example_inputs(2)
    assert inputs[0].shape == (2, 1, 28, 28)
    for architecture in (supernet.largest, supernet.smallest):
        supernet.activate(architecture)
        torch.testing.assert_close(supernet.extract(architecture)(*inputs), supernet(*inputs))


def test_patches_are_embedded_as_a_convolution_does():
    supernet = VIT.build(in_channels=3)
    (images,) = supernet.example_inputs(2)
    seen = []
    supernet.stack.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    supernet(images)
    weight, bias = supernet.patches.shared.leading(64, 12)
    patches = F.conv2d(images, weight.view(64, 3, 2, 2), bias, stride=2)
    positions = supernet.positions.table(17, 64)
    torch.testing.assert_close(seen[0][:, 1:], patches.flatten(2).mT + positions[1:])
    class_token = supernet.class_token.table(1, 64) + positions[:1]
    torch.testing.assert_close(seen[0][:, :1], class_token.expand(2, 1, 64))


def test_depth_keeps_the_first_blocks():
    supernet = VIT.build()
    shallow = supernet.extract(changed(supernet, depth=2))
    deep = supernet.extract(supernet.largest)
    assert len(shallow.stack) == 2
    for block, same in zip(shallow.stack, deep.stack, strict=False):
        assert torch.equal(block.feed_forward[0].weight, same.feed_forward[0].weight)


def test_a_choice_of_one_block_is_of_that_block_alone():
    supernet = VIT.build()
    extracted = supernet.extract(
        changed(supernet, layer2__num_heads=2, layer3__feed_forward_width=32)
    )
    assert [block.attention.num_heads for block in extracted.stack] == [4, 2, 4, 4]
    assert [block.feed_forward[0].out_features for block in extracted.stack] == [128, 128, 32, 128]


def test_settings_replace_fields_of_the_preset():
    supernet = VIT.build(in_channels=3, image_size=12, num_classes=4)
    (images,) = supernet.example_inputs(2)
    assert images.shape == (2, 3, 12, 12)
    assert supernet(images).shape == (2, 4)
    assert supernet.fingerprint != VIT.build().fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 9}, "image_size is a multiple of the patch size 2, not 9"),
        ({"num_classes": 0}, "num_classes is a whole number from 1 up, not 0"),
        ({"preset": "vit_b6"}, "did you mean 'vit_b16'?"),
        ({"patch_size": 4}, "unknown setting of vit 'patch_size'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        VIT.build(**settings)
