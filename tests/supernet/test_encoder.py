"""What is particular to text encoders: their spaces, presets, padding, and kinds of stacks."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.cost import count_macs, count_parameters
from nasbench.errors import RequestError
from nasbench.space import SearchSpace
from nasbench.supernet.attention import Heads
from nasbench.supernet.base import SupernetFamily
from nasbench.supernet.families.encoder import ENCODER, EncoderSupernet

TINY = ENCODER.presets["tiny"]
SMALL_STACKS = {
    "bottleneck": replace(
        TINY.stack, depths=(2,), hidden_sizes=(24, 36, 48), head_size=None, num_heads=(4,),
        feed_forward_widths=(64,), has_bottlenecks=True,
    ),
    "homogeneous": replace(
        TINY.stack, hidden_sizes=(24, 36), head_size=None, num_heads=(6, 12),
        feed_forward_widths=(), feed_forward_ratios=(2, 2.5), is_homogeneous=True,
    ),
    "dropout": replace(TINY.stack, dropout=0.5),
}  # fmt: skip
SMALL = SupernetFamily(
    name="small_encoders",
    presets={name: replace(TINY, stack=stack) for name, stack in SMALL_STACKS.items()},
    settings=(),
    supernet=EncoderSupernet,
)


def build_weightless(**settings):
    with torch.device("meta"):
        return ENCODER.build(**settings)


@pytest.fixture(params=sorted(SMALL_STACKS))
def small(request):
    """A supernet of each kind of stack that "tiny" is not, with disturbed weights."""
    supernet = SMALL.build(request.param).double().eval()
    with torch.no_grad():
        for parameter in supernet.parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            parameter.add_(0.1 * noise)
    return supernet


# -- spaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        ("tiny", 3 * sum(9**depth for depth in (1, 2, 3))),
        ("bert_base_sst2", sum(12**depth for depth in range(6, 13))),
        ("mos_bottleneck", 7**12),
        ("mos_v5_1", 55 * 2 * 5),
        ("mos_v5_2", 3 * 28 * 2 * 5),
    ],
)
def test_sizes_of_spaces(preset, size):
    assert SearchSpace(ENCODER.presets[preset].stack.dimensions()).size == size


@pytest.mark.parametrize(
    ("stack", "names"),
    [
        ("bottleneck", ["layer1.hidden_size", "layer2.hidden_size"]),
        ("homogeneous", ["depth", "hidden_size", "num_partitioned_heads", "feed_forward_ratio"]),
    ],
)
def test_names_of_dimensions(stack, names):
    assert [dimension.name for dimension in SMALL_STACKS[stack].dimensions()] == names


@pytest.mark.parametrize("preset", sorted(ENCODER.presets))
def test_counts_are_those_of_the_extracted_module(preset):
    supernet = build_weightless(preset=preset)
    for architecture in (supernet.largest, supernet.smallest):
        extracted = supernet.extract(architecture)
        assert supernet.count(architecture) == {
            "num_parameters": count_parameters(extracted),
            "num_macs": count_macs(extracted, supernet.example_inputs()),
        }


@pytest.mark.parametrize("preset", ["bert_base_sst2", "mos_v5_1", "mos_v5_2"])
def test_the_largest_subnetwork_is_bert_base(preset):
    supernet = build_weightless(preset=preset)
    block = 4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    embeddings = (30522 + 128) * 768 + 2 * 768
    head = 768**2 + 768 + 2 * (768 + 1)
    biases_of_keys = 12 * 768  # which ours does without
    counts = supernet.count(supernet.largest)
    assert counts["num_parameters"] == 12 * block + embeddings + head - biases_of_keys
    assert round(counts["num_macs"] / 1e9, 2) == 11.17  # as InstaTune reports


# -- stacks ---------------------------------------------------------------------------------------


def test_every_kind_of_stack_extracts_what_it_computes(small):
    rng = np.random.default_rng(0)
    sampled = [small.space.sample(rng) for _ in range(8)]
    inputs = small.example_inputs(4)
    for architecture in (small.largest, small.smallest, *sampled):
        small.activate(architecture)
        extracted = small.extract(architecture)
        with torch.no_grad():
            torch.testing.assert_close(extracted(*inputs), small(*inputs))
        assert small.count(architecture) == {
            "num_parameters": count_parameters(extracted),
            "num_macs": count_macs(extracted, small.example_inputs()),
        }


def test_every_choice_of_every_kind_of_stack_changes_the_output(small):
    inputs = small.example_inputs(4)
    for architecture in (small.largest, small.smallest):
        small.activate(architecture)
        output = small(*inputs)
        for neighbor in small.space.neighbors(architecture):
            small.activate(neighbor)
            assert (small(*inputs) - output).abs().max() > 1e-4


def test_heads_without_a_fixed_size_divide_the_hidden_size():
    supernet = SMALL.build("homogeneous")
    assert {block.heads for block in supernet.shape.blocks} == {Heads(12, 3)}
    supernet.activate(supernet.smallest)
    assert supernet.shape.blocks[0].heads == Heads(6, 4)
    assert supernet.shape.blocks[0].feed_forward_width == 48


def test_heads_that_cannot_divide_the_hidden_size_are_refused():
    with pytest.raises(RequestError, match="12 heads cannot share a total width of 32 equally"):
        replace(TINY.stack, head_size=None, num_heads=(12,))


def test_bottlenecks_start_as_if_they_were_not_there():
    spec = SMALL_STACKS["bottleneck"]
    supernet = SMALL.build("bottleneck").eval()
    (ids,) = supernet.example_inputs(2)
    extracted = supernet.extract(supernet.largest)
    output = extracted(ids)
    for block in extracted.stack:
        block.enter = block.leave = None
    torch.testing.assert_close(extracted(ids), output)
    narrow = supernet.extract(supernet.smallest).stack[0]
    assert (narrow.enter.in_features, narrow.enter.out_features) == (48, 24)
    assert (narrow.leave.in_features, narrow.leave.out_features) == (24, 48)
    assert max(spec.hidden_sizes) == 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed_forward_ratios": (2,)}, "either feed_forward_widths or feed_forward_ratios"),
        ({"feed_forward_widths": ()}, "either feed_forward_widths or feed_forward_ratios"),
        (
            {"is_homogeneous": True, "has_bottlenecks": True},
            "bottlenecks are for blocks that differ",
        ),
    ],
)
def test_impossible_stacks_are_refused(change, message):
    with pytest.raises(RequestError, match=message):
        replace(TINY.stack, **change)


def test_dropout_follows_the_hidden_size():
    supernet = SMALL.build("dropout")
    extracted = supernet.extract(supernet.smallest)
    rates = {m.p for m in extracted.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.5 * 32 / 64}
    inputs = supernet.example_inputs(2)
    assert torch.equal(supernet.eval()(*inputs), supernet(*inputs))
    assert not torch.equal(supernet.train()(*inputs), supernet(*inputs))


# -- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_plain", [False, True])
def test_padding_does_not_matter(is_plain):
    supernet = ENCODER.build().eval()
    network = supernet.extract(supernet.largest) if is_plain else supernet
    ids_BT = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
    logits_BC = network(ids_BT)
    torch.testing.assert_close(network(ids_BT[:1, :3]), logits_BC[:1])
    mask_BT = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other_padding = torch.where(mask_BT == 1, ids_BT, 99)
    assert torch.equal(network(ids_BT, mask_BT), logits_BC)
    torch.testing.assert_close(network(other_padding, mask_BT), logits_BC)
    assert not torch.allclose(network(other_padding), logits_BC)
    assert not torch.allclose(network(ids_BT, torch.ones_like(mask_BT)), logits_BC)


def test_example_inputs_have_padding_in_every_second_text():
    ids_BT = ENCODER.build(max_length=7).example_inputs(4)[0]
    assert ids_BT.dtype == torch.int64
    assert ids_BT.shape == (4, 7)
    assert (ids_BT != 0).sum(dim=1).tolist() == [7, 4, 7, 4]


def test_settings_replace_fields_of_the_preset():
    supernet = ENCODER.build(vocab_size=7, max_length=5, num_classes=3)
    (ids_BT,) = supernet.example_inputs(6)
    assert ids_BT.shape == (6, 5)
    assert int(ids_BT.max()) < 7
    assert supernet(ids_BT).shape == (6, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 1}, "vocab_size is a whole number from 2 up, not 1"),
        ({"max_length": 8.5}, "max_length is a whole number from 1 up, not 8.5"),
        ({"vocabulary": 9}, "unknown setting of encoder 'vocabulary'; did you mean 'vocab_size'?"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        ENCODER.build(**settings)
