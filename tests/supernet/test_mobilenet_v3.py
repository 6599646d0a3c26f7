"""What is particular to the MobileNetV3 family: its spaces, its blocks and its presets."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.families.mobilenet_v3 import MOBILENET_V3
from nasbench.supernet.plain import Residual, SqueezeExcitation, resize_images

TINY = MOBILENET_V3.presets["tiny"]


def build_weightless(**settings):
    with torch.device("meta"):
        return MOBILENET_V3.build(**settings)


def test_the_package_and_its_names_come_without_torch():
    code = (
        "import sys; from nasbench.supernet import SUPERNETS; assert 'mobilenet_v3' in SUPERNETS;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dimensions_of_the_tiny_preset():
    space = TINY.space()
    assert [d.name for d in space][:6] == [
        "stage1.depth",
        "stage1.width",
        "stage1.block1.kernel_size",
        "stage1.block1.expansion_ratio",
        "stage1.block2.kernel_size",
        "stage1.block2.expansion_ratio",
    ]
    assert space["stage1.block1.kernel_size"].active_when is None
    assert space["stage2.block3.kernel_size"].active_when.choices == (3,)
    block = 3 * 3  # kernel sizes times expansion ratios
    assert space.size == (3 * (block + block**2)) * (3 * (block + block**2 + block**3)) ** 2


def test_the_tiny_preset_is_worth_searching():
    supernet = build_weightless()
    largest, smallest = (supernet.count(a) for a in (supernet.largest, supernet.smallest))
    assert supernet.space.size > 1_000_000
    assert largest["num_macs"] > 8 * smallest["num_macs"]


@pytest.mark.parametrize(
    ("preset", "widths"),
    [("ofa_w1.0", (24, 40, 80, 112, 160)), ("ofa_w1.2", (32, 48, 96, 136, 192))],
)
def test_once_for_all_presets_have_its_space(preset, widths):
    spec = MOBILENET_V3.presets[preset]
    assert spec.space().size == 25 * 7371**5, "25 resolutions, and what the paper counts"
    assert len(spec.space()) == 1 + 5 * (1 + 2 * 4)
    assert spec.space()["resolution"].choices == tuple(range(128, 225, 4))
    assert tuple(stage.widths for stage in spec.stages[1:]) == tuple((w,) for w in widths)


def test_attentive_nas_has_its_space():
    space = MOBILENET_V3.presets["attentive_nas"].space()
    stages = (2 * 2 * 2) * (2 * 3 * 2 * 3) * (2 * 4 * 2 * 3) ** 2
    stages *= (3 * 6 * 2 * 3) * (4 * 6 * 2) * (2 * 2 * 2)
    assert space.size == 4 * 2 * stages * 2 == 440_301_256_704
    assert space["resolution"].choices == (192, 224, 256, 288)
    assert space["stage5.kernel_size"].choices == (3, 5)  # one for all blocks of the stage
    assert space["stage5.expansion_ratio"].choices == (4, 5, 6)
    assert not [d.name for d in space if "block" in d.name]


def test_the_smallest_of_attentive_nas_is_a0_but_for_its_projections():
    supernet = build_weightless(preset="attentive_nas")
    smallest = supernet.shape_of(supernet.smallest)
    widths = [smallest.stem_width, *(stage[-1].out_channels for stage in smallest.stages)]
    sides = [96, 48, 24, 12, 12, 6, 6]  # of each stage's output, at resolution 192
    projections = sum(
        before * after * side**2
        for (before, after), side in zip(pairwise(widths), sides, strict=True)
        if before != after
    )
    num_macs = supernet.count(supernet.smallest)["num_macs"]
    assert (num_macs + projections) / 1e6 == pytest.approx(203, abs=0.5)


def test_blocks_of_a_uniform_stage_are_alike():
    supernet = build_weightless(preset="attentive_nas")
    architecture = supernet.space.canonical({**supernet.largest, "stage5.kernel_size": 3})
    blocks = supernet.shape_of(architecture).stages[4]
    assert len(blocks) == 8
    assert {block.kernel_size for block in blocks} == {3}
    assert {block.inner_channels / block.in_channels for block in blocks} == {6}


def test_the_space_of_the_fashion_preset():
    size = MOBILENET_V3.presets["fashion"].space().size
    assert size == 3 * (2 * (9 + 81)) * (2 * (9 + 81 + 729)) * (2 * (6 + 36 + 216))
    assert size == 456_412_320


@pytest.mark.parametrize("preset", ["ofa_w1.0", "ofa_w1.2", "attentive_nas"])
def test_counts_of_large_presets(preset):
    supernet = build_weightless(preset=preset)
    sampled = supernet.space.sample(np.random.default_rng(0))
    for architecture in (supernet.largest, supernet.smallest, sampled):
        extracted = supernet.extract(architecture)
        with FlopCounterMode(display=False) as counter:
            extracted(*supernet.example_inputs())
        assert supernet.count(architecture) == {
            "num_parameters": sum(p.numel() for p in extracted.parameters()),
            "num_macs": counter.get_total_flops() // 2,
        }


@pytest.mark.parametrize("preset", ["ofa_w1.0", "attentive_nas"])
def test_large_presets_extract_what_they_compute(preset):
    supernet = MOBILENET_V3.build(preset, image_size=64, num_classes=5).double().eval()
    inputs = supernet.example_inputs(2)
    for architecture in (supernet.largest, supernet.smallest):
        supernet.activate(architecture)
        with torch.no_grad():
            extracted = supernet.extract(architecture)(*inputs)
            torch.testing.assert_close(supernet(*inputs), extracted, rtol=1e-9, atol=1e-10)


def test_blocks_that_keep_their_width_are_residual():
    supernet = build_weightless(preset="ofa_w1.0")
    plain = dict(supernet.extract(supernet.smallest).named_children())
    residual = [name for name, module in plain.items() if isinstance(module, Residual)]
    assert residual == ["stage0_block1", *(f"stage{stage}_block2" for stage in range(1, 6))]
    gated = {
        name.split("_")[0]
        for name, module in plain.items()
        if any(isinstance(child, SqueezeExcitation) for child in module.modules())
    }
    assert gated == {"stage2", "stage4", "stage5"}


def test_depth_keeps_the_first_blocks_of_a_stage():
    supernet = MOBILENET_V3.build()
    shallow = supernet.space.canonical({**supernet.largest, "stage2.depth": 1})
    names = [name for name, _ in supernet.extract(shallow).named_children()]
    assert [name for name in names if name.startswith("stage2")] == ["stage2_block1"]


def test_the_first_block_of_a_stage_takes_the_width_of_the_stage_before():
    supernet = build_weightless()
    narrow = supernet.space.canonical({**supernet.largest, "stage1.width": 8})
    shape = supernet.shape_of(narrow).stages[1][0]
    assert (shape.in_channels, shape.inner_channels, shape.out_channels) == (8, 24, 24)


def test_settings_replace_fields_of_the_preset():
    supernet = MOBILENET_V3.build(in_channels=3, image_size=12, num_classes=4)
    (images,) = supernet.example_inputs(2)
    assert images.shape == (2, 3, 12, 12)
    assert supernet(images).shape == (2, 4)
    assert supernet.fingerprint != MOBILENET_V3.build().fingerprint


def test_without_an_elastic_resolution_images_are_taken_as_they_come():
    assert MOBILENET_V3.build()(torch.zeros(2, 1, 10, 14)).shape == (2, 10)


def test_resolution_changes_macs_and_no_parameters():
    supernet = build_weightless(preset="fashion")
    counts = [supernet.count({**supernet.largest, "resolution": side}) for side in (20, 24, 28)]
    assert len({count["num_parameters"] for count in counts}) == 1
    assert counts[0]["num_macs"] < counts[1]["num_macs"] < counts[2]["num_macs"]


def test_images_of_another_size_are_resized_on_the_way_in():
    supernet = MOBILENET_V3.build("fashion").eval()
    small = {**supernet.smallest, "resolution": 20}
    (images,) = supernet.example_inputs(2)
    assert images.shape[-1] == 28
    supernet.activate(small)
    with torch.no_grad():
        shrunk = F.interpolate(images, (20, 20), mode="bilinear", antialias=True)
        torch.testing.assert_close(supernet(images), supernet(shrunk))
        torch.testing.assert_close(supernet.extract(small)(images), supernet(shrunk))
        supernet.activate({**small, "resolution": 24})
        assert not torch.allclose(supernet(images), supernet.extract(small)(images), atol=1e-4)


def test_images_of_the_active_resolution_are_left_alone():
    x_BCHW = torch.zeros(1, 1, 20, 20)
    assert resize_images(x_BCHW, 20) is x_BCHW
    assert resize_images(x_BCHW, 24).shape == (1, 1, 24, 24)


@pytest.mark.parametrize(
    ("image_size", "resolutions"), [(224, range(128, 225, 4)), (150, range(128, 149, 4))]
)
def test_no_resolution_enlarges_images(image_size, resolutions):
    space = build_weightless(preset="ofa_w1.0", image_size=image_size).space
    assert space["resolution"].choices == tuple(resolutions)


@pytest.mark.parametrize("image_size", [96, 128])
def test_small_images_leave_no_choice_of_resolution(image_size):
    supernet = build_weightless(preset="ofa_w1.0", image_size=image_size)
    assert supernet.space.size == 7371**5
    assert supernet.shape.resolution is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tinny"}, "unknown preset of mobilenet_v3 'tinny'; did you mean 'tiny'?"),
        ({"num_clases": 10}, "did you mean 'num_classes'?"),
        ({"sharing": "slices"}, "unknown weight sharing 'slices'; did you mean 'slice'?"),
        ({"num_classes": 0}, "num_classes is a whole number from 1 up, not 0"),
        ({"image_size": 8.0}, "image_size is a whole number from 1 up, not 8.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        SUPERNETS["mobilenet_v3"].build(**settings)


def test_expansion_ratios_that_round_to_one_width_are_refused():
    stage = replace(TINY.stages[0], expansion_ratios=(1.5, 2))
    with pytest.raises(RequestError, match=r"stage1: .* inner widths \(16, 16\) .* 8 channels"):
        replace(TINY, stages=(stage, *TINY.stages[1:]))
