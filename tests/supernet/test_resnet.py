"""What is particular to the ResNet family: its spaces, its shortcuts and its presets."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.families.resnet import RESNET, BlockShape, BottleneckStage
from nasbench.supernet.plain import FitChannels, Residual, fit_channels
from nasbench.testing.supernets import disturb

CIFAR = {20: (1, 2, 3), 32: (1, 3, 5), 44: (1, 3, 5, 7), 56: (1, 3, 5, 7, 9)}
ALL_CIFAR = {**CIFAR, 110: (*range(1, 18, 2), 18)}


def build_weightless(**settings):
    with torch.device("meta"):
        return RESNET.build(**settings)


def of_kind(module, kind):
    return [child for child in module.modules() if isinstance(child, kind)]


# -- spaces ---------------------------------------------------------------------------------------


def test_dimensions_of_basic_stages():
    space = RESNET.presets["tiny"].space()
    assert [d.name for d in space][:7] == [
        "stem.width",
        "stage1.depth",
        "stage1.block1.inner_width",
        "stage1.block1.width",
        "stage1.block2.inner_width",
        "stage1.block2.width",
        "stage2.depth",
    ]
    assert space["stage1.block2.width"].active_when.choices == (2,)
    assert space.size == 3 * (9 + 81) ** 3


def test_dimensions_of_bottleneck_stages():
    space = RESNET.presets["ofa_resnet50"].space()
    assert [d.name for d in space][:7] == [
        "stem.depth",
        "stem.inner_width",
        "stem.width",
        "stage1.depth",
        "stage1.width",
        "stage1.block1.expansion_ratio",
        "stage1.block2.expansion_ratio",
    ]
    names = [d.name.rsplit(".", 1)[-1] for d in space]
    assert (names.count("depth"), names.count("expansion_ratio")) == (5, 18)
    assert names.count("width") + names.count("inner_width") == 6


def test_once_for_all_has_its_space():
    space = RESNET.presets["ofa_resnet50"].space()
    short, long = 3**2 + 3**3 + 3**4, 3**4 + 3**5 + 3**6
    assert space.size == 2 * 2 * 3**5 * short**3 * long
    assert space["stage1.width"].choices == (168, 208, 256)
    assert space["stage4.width"].choices == (1328, 1640, 2048)


def test_the_space_of_the_fashion_preset():
    assert RESNET.presets["fashion"].space().size == 2 * (2 * (3 + 9 + 27)) ** 3


@pytest.mark.parametrize(("num_layers", "depths"), ALL_CIFAR.items())
def test_cifar_presets_have_the_space_of_tas(num_layers, depths):
    space = RESNET.presets[f"cifar_resnet{num_layers}"].space()
    assert space["stage2.depth"].choices == depths
    assert space["stem.width"].choices == (4, 6, 8, 9, 11, 12, 14, 16)
    assert space["stage3.block1.width"].choices == (19, 25, 32, 38, 44, 51, 57, 64)
    assert space.size == 8 * sum(64**depth for depth in depths) ** 3


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_layers", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_the_largest_cifar_networks_are_those_of_the_paper(num_layers, millions):
    supernet = build_weightless(preset=f"cifar_resnet{num_layers}")
    counts = supernet.count(supernet.largest)
    assert counts["num_parameters"] / 1e6 == pytest.approx(millions, rel=0.02)
    layers = of_kind(supernet.extract(supernet.largest), nn.Conv2d | nn.Linear)
    assert len(layers) == num_layers


def test_once_for_all_contains_resnet_50():
    """The published network, with three convolutions for a stem (ResNet-D, He et al., 2019)."""
    supernet = build_weightless(preset="ofa_resnet50")
    ratios = {d.name: 0.25 for d in supernet.space if d.name.endswith("expansion_ratio")}
    depths = {f"stage{number}.depth": depth for number, depth in enumerate((3, 4, 6, 3), 1)}
    architecture = {**supernet.largest, **ratios, **depths}
    assert supernet.count(architecture)["num_parameters"] == 25_576_264
    assert supernet.count(architecture)["num_macs"] / 1e9 == pytest.approx(4.35, rel=0.01)


def test_the_largest_of_once_for_all_is_deeper_and_wider_inside_than_resnet_50():
    supernet = build_weightless(preset="ofa_resnet50")
    assert len(of_kind(supernet.extract(supernet.largest), Residual)) == 1 + 4 + 4 + 6 + 4
    largest, smallest = (supernet.count(a) for a in (supernet.largest, supernet.smallest))
    assert largest["num_parameters"] / 1e6 == pytest.approx(48.1, abs=0.1)
    assert largest["num_macs"] > 7 * smallest["num_macs"]


def test_the_tiny_preset_is_worth_searching():
    supernet = build_weightless()
    largest, smallest = (supernet.count(a) for a in (supernet.largest, supernet.smallest))
    assert supernet.space.size > 1_000_000
    assert largest["num_macs"] > 8 * smallest["num_macs"]


# -- blocks and shortcuts -------------------------------------------------------------------------


def test_channels_are_fitted_by_dropping_the_last_or_appending_zeros():
    x_BCHW = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    assert fit_channels(x_BCHW, 3, 1) is x_BCHW
    assert torch.equal(fit_channels(x_BCHW, 2, 1), x_BCHW[:, :2])
    wider = fit_channels(x_BCHW, 5, 2)
    assert wider.shape == (2, 5, 2, 2)
    assert torch.equal(wider[:, :3], x_BCHW[:, :, ::2, ::2])
    assert not wider[:, 3:].any()


@pytest.mark.parametrize(("width", "stride"), [(6, 1), (10, 1), (16, 1), (6, 2)])
def test_a_basic_block_whose_body_gives_nothing_is_its_shortcut(width, stride):
    supernet = RESNET.build().eval()
    block = supernet.stages["stage2" if stride == 2 else "stage1"]["block1"]
    nn.init.zeros_(block.convs[-1].norm.weight)
    x_BCHW = torch.rand(2, 10, 8, 8)
    shape = BlockShape(10, (6, width))
    expected = fit_channels(x_BCHW, width, stride)
    torch.testing.assert_close(block(x_BCHW, shape), expected)
    torch.testing.assert_close(block.extract(shape).eval()(x_BCHW), expected)


def test_shortcuts_of_basic_stages_hold_no_parameters():
    supernet = RESNET.build()
    extracted = supernet.extract(supernet.largest)
    shortcuts = [residual.shortcut for residual in of_kind(extracted, Residual)]
    assert [type(s) for s in shortcuts] == [type(None)] * 2 + [FitChannels, type(None)] * 2


def test_bottleneck_stages_project_in_their_first_block_alone():
    supernet = build_weightless(preset="ofa_resnet50")
    plain = dict(supernet.extract(supernet.smallest).named_children())
    for stage in range(1, 5):
        (first,) = of_kind(plain[f"stage{stage}_block1"], Residual)
        (second,) = of_kind(plain[f"stage{stage}_block2"], Residual)
        assert second.shortcut is None
        assert len(of_kind(first.shortcut, nn.Conv2d)) == 1
        assert len(of_kind(first.shortcut, nn.AvgPool2d)) == (stage > 1)


def test_only_the_middle_convolution_of_the_stem_can_be_left_out():
    supernet = build_weightless(preset="ofa_resnet50")
    shallow = supernet.space.canonical({**supernet.largest, "stem.depth": 2})
    assert supernet.shape_of(supernet.largest).stem == (32, 32, 64)
    assert supernet.shape_of(shallow).stem == (32, 64)
    stems = [supernet.extract(a).stem for a in (supernet.largest, shallow)]
    assert [len(of_kind(stem, nn.Conv2d)) for stem in stems] == [3, 2]


def test_depth_keeps_the_first_blocks_of_a_stage():
    supernet = RESNET.build()
    shallow = supernet.space.canonical({**supernet.largest, "stage2.depth": 1})
    names = [name for name, _ in supernet.extract(shallow).named_children()]
    assert [name for name in names if name.startswith("stage2")] == ["stage2_block1"]


@pytest.mark.parametrize("preset", ["ofa_resnet50", "cifar_resnet20", "cifar_resnet110"])
def test_large_presets_extract_what_they_compute(preset):
    # 37 leaves odd sides behind every stride, where rounding up and down would differ
    supernet = RESNET.build(preset, image_size=37, num_classes=5).double().eval()
    disturb(supernet)
    inputs = supernet.example_inputs(1)
    sampled = supernet.space.sample(np.random.default_rng(0))
    for architecture in (supernet.smallest, sampled):
        supernet.activate(architecture)
        with torch.no_grad():
            extracted = supernet.extract(architecture)(*inputs)
            torch.testing.assert_close(supernet(*inputs), extracted, rtol=1e-9, atol=1e-10)


# -- settings -------------------------------------------------------------------------------------


def test_settings_replace_fields_of_the_preset():
    supernet = RESNET.build(in_channels=3, image_size=12, num_classes=4)
    (images,) = supernet.example_inputs(2)
    assert images.shape == (2, 3, 12, 12)
    assert supernet(images).shape == (2, 4)
    assert supernet.fingerprint != RESNET.build().fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tinny"}, "unknown preset of resnet 'tinny'; did you mean 'tiny'?"),
        ({"num_classes": 0}, "num_classes is a whole number from 1 up, not 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        SUPERNETS["resnet"].build(**settings)


def test_expansion_ratios_that_round_to_one_width_are_refused():
    (stage, *_) = RESNET.presets["fashion"].stages
    assert isinstance(stage, BottleneckStage)
    with pytest.raises(RequestError, match=r"stage1: .* inner widths \(8, 8\) .* 48 channels"):
        replace(stage, expansion_ratios=(0.125, 0.15))
