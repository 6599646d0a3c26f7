"""The decoder family: its spaces, HW-GPT-Bench's counts, causality, positions and caching."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasbench.cost import count_macs, count_parameters
from nasbench.errors import RequestError
from nasbench.export.onnx import OnnxExporter
from nasbench.export.programs import programs_of
from nasbench.supernet.families.decoder import DECODER
from nasbench.supernet.rotary import Rotation
from nasbench.tasks.decoding import greedy_search
from nasbench.testing.supernets import disturb

MAX_DEPTH = 12  # of gpt_s


def build_weightless(**settings):
    with torch.device("meta"):
        return DECODER.build(**settings)


@pytest.fixture
def supernet():
    supernet = DECODER.build().double().eval()
    disturb(supernet)
    return supernet


@pytest.fixture(params=["smallest", "largest", "random 1", "random 2"])
def architecture(request, supernet):
    if request.param in ("smallest", "largest"):
        return getattr(supernet, request.param)
    return supernet.space.sample(np.random.default_rng(int(request.param[-1])))


@pytest.fixture(params=["active", "extracted"])
def network(request, supernet, architecture):
    supernet.activate(architecture)
    return supernet if request.param == "active" else supernet.extract(architecture)


# -- spaces and counts --------------------------------------------------------------------------


def test_dimensions_of_the_tiny_preset():
    space = DECODER.presets["tiny"].space()
    assert [d.name for d in space][:5] == [
        "hidden_size",
        "depth",
        "has_bias",
        "layer1.num_heads",
        "layer1.feed_forward_ratio",
    ]
    assert space.size == 3 * 2 * (9 + 9**2 + 9**3)


def test_gpt_s_has_the_space_of_hw_gpt_bench():
    space = DECODER.presets["gpt_s"].space()
    assert space.size == 3 * 2 * (9**10 + 9**11 + 9**12)
    assert len(space) == 3 + 2 * MAX_DEPTH


def gpt_s_architecture(hidden_size, depth, has_bias, num_heads, ratios):
    """The architecture of a row of HW-GPT-Bench's tables, where heads are 0 past the depth."""
    architecture = {"hidden_size": hidden_size, "depth": depth, "has_bias": has_bias}
    for layer in range(MAX_DEPTH):
        architecture[f"layer{layer + 1}.num_heads"] = int(num_heads[layer]) or 4
        architecture[f"layer{layer + 1}.feed_forward_ratio"] = int(ratios[layer]) or 2
    return architecture


HW_GPT_BENCH_ROWS = [  # a row, its parameters, and its MACs for 8 sequences of 1024 tokens
    (768, 10, False, "4CC44CC84C00", "224433344200", 148_591_104, 900_823_252_992),
    (384, 11, True, "8CC8CC488840", "323344434440", 64_915_968, 373_102_215_168),
]


def macs_without_attention(supernet, architecture):
    """MACs of 8 sequences, without those of scores and weighted values, as the tables have them."""
    length, blocks = supernet.spec.max_length, supernet.shape_of(architecture).blocks
    attention_macs = sum(2 * length**2 * block.heads.width for block in blocks)
    return 8 * (supernet.count(architecture)["num_macs"] - attention_macs)


@pytest.mark.parametrize("row", HW_GPT_BENCH_ROWS)
def test_gpt_s_counts_what_hw_gpt_bench_counts(row):
    hidden_size, depth, has_bias, heads, ratios, num_parameters, num_macs = row
    heads, ratios = ([int(digit, base=16) for digit in digits] for digits in (heads, ratios))
    supernet = build_weightless(preset="gpt_s")
    architecture = supernet.space.canonical(
        gpt_s_architecture(hidden_size, depth, has_bias, heads, ratios)
    )
    assert supernet.count(architecture)["num_parameters"] == num_parameters
    assert macs_without_attention(supernet, architecture) == num_macs


@pytest.mark.data
def test_gpt_s_counts_what_hw_gpt_bench_counts_in_every_kind_of_row():
    folder = os.environ.get("NASBENCH_DATA")
    path = Path(folder or "", "nas", "hwgptbench_s.npz")
    if not folder or not path.is_file():
        pytest.skip("needs nas/hwgptbench_s.npz in the folder NASBENCH_DATA")
    names = ("embed_dim", "n_layer", "bias", "n_head", "mlp_ratio", "params", "macs")
    with np.load(path) as archive:
        columns = [archive[name][::50] for name in names]
    supernet = build_weightless(preset="gpt_s")
    for embed_dim, n_layer, bias, n_head, mlp_ratio, params, macs in zip(*columns, strict=True):
        architecture = supernet.space.canonical(
            gpt_s_architecture(int(embed_dim), int(n_layer), bool(bias), n_head, mlp_ratio)
        )
        assert supernet.count(architecture)["num_parameters"] == params
        assert macs_without_attention(supernet, architecture) == macs


def test_counts_of_gpt_s():
    supernet = build_weightless(preset="gpt_s")
    sampled = supernet.space.sample(np.random.default_rng(0))
    for architecture in (supernet.smallest, supernet.largest, sampled):
        extracted = supernet.extract(architecture)
        assert supernet.count(architecture) == {
            "num_parameters": count_parameters(extracted),
            "num_macs": count_macs(extracted, supernet.example_inputs()),
        }


def test_each_dimension_changes_what_it_says():
    supernet = build_weightless()
    before = supernet.count(supernet.smallest)
    for neighbor in supernet.space.neighbors(supernet.smallest):
        changed = {n for n, count in supernet.count(neighbor).items() if count != before[n]}
        only_parameters = neighbor["has_bias"] != supernet.smallest["has_bias"]
        assert changed == ({"num_parameters"} if only_parameters else set(before)), neighbor


# -- what is computed ---------------------------------------------------------------------------


def test_a_block_is_what_its_formula_says(supernet):
    """One block, head by head and position by position."""
    architecture = {**supernet.smallest, "layer1.num_heads": 2, "has_bias": True}
    model = supernet.extract(supernet.space.canonical(architecture))
    (tokens_BT,) = supernet.example_inputs(1)
    (block,) = model.blocks
    x_TC = model.embedding.weight[tokens_BT[0]]
    normed_TC = block.attention_norm(x_TC)
    query, key, value = (
        layer(normed_TC).view(-1, 2, 8)
        for layer in (block.attention.query, block.attention.key, block.attention.value)
    )

    def turned(vector_D, position):
        features = torch.view_as_complex(torch.stack((vector_D[:2], vector_D[2:4]), dim=-1))
        angles = position * torch.tensor([1.0, 10_000**-0.5])
        features = features * torch.polar(torch.ones(2), angles).to(torch.complex128)
        return torch.cat((features.real, features.imag, vector_D[4:]))

    heads_TW = torch.zeros(len(x_TC), 16, dtype=torch.float64)
    for position in range(len(x_TC)):
        for head in range(2):
            turned_query = turned(query[position, head], position)
            scores = torch.stack(
                [turned(key[p, head], p) @ turned_query for p in range(position + 1)]
            )
            weights = (scores / 8**0.5).softmax(0)
            heads_TW[position, 8 * head : 8 * head + 8] = weights @ value[: position + 1, head]
    second = block.feed_forward_norm(x_TC)
    ff = block.feed_forward
    forwarded_TC = ff.project(F.silu(ff.gate(second)) * ff.expand(second))
    x_TC = x_TC + block.attention.out(heads_TW) + forwarded_TC
    expected_TV = model.norm(x_TC) @ model.head.weight.T
    torch.testing.assert_close(model(tokens_BT)[0], expected_TV, rtol=0, atol=1e-6)


def test_later_tokens_do_not_change_earlier_logits(supernet, network):
    (tokens_BT,) = supernet.example_inputs(2)
    before = network(tokens_BT)
    for position in (1, 7, 15):
        changed_BT = tokens_BT.clone()
        changed_BT[:, position:] = (changed_BT[:, position:] + 1) % supernet.spec.vocab_size
        after = network(changed_BT)
        torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-12)
        assert (after[:, position] - before[:, position]).abs().max() > 1e-3


def test_earlier_tokens_change_later_logits_and_so_does_their_order(supernet, network):
    (tokens_BT,) = supernet.example_inputs(1)
    last = network(tokens_BT)[:, -1]
    for order in ([1, 0, *range(2, 16)], [0, 1, 3, 2, *range(4, 16)]):
        assert (network(tokens_BT[:, order])[:, -1] - last).abs().max() > 1e-6


@pytest.mark.parametrize("steps", [[1] * 16, [5, 1, 7, 3], [15, 1]])
def test_decoding_with_a_cache_gives_the_logits_of_all_tokens_at_once(supernet, network, steps):
    (tokens_BT,) = supernet.example_inputs(3)
    cache, logits = (), []
    for new_tokens in tokens_BT.split(steps, dim=1):
        new_logits, cache = network.decode(new_tokens, cache)
        logits.append(new_logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), network(tokens_BT), rtol=0, atol=1e-10)


def test_a_cache_is_a_value(supernet):
    (tokens_BT,) = supernet.example_inputs(1)
    _, cache = supernet.decode(tokens_BT[:, :5])
    first, _ = supernet.decode(tokens_BT[:, 5:8], cache)
    supernet.decode(tokens_BT[:, 8:], cache)
    again, _ = supernet.decode(tokens_BT[:, 5:8], cache)
    assert torch.equal(first, again)


def test_greedy_search_takes_the_likeliest_token(supernet, network):
    (tokens_BT,) = supernet.example_inputs(2)
    prompt_BT = tokens_BT[:, :4]
    found = greedy_search(network, prompt_BT, max_new_tokens=5)
    for _ in range(5):
        prompt_BT = torch.cat((prompt_BT, network(prompt_BT)[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(found, prompt_BT[:, 4:])


def test_sequences_longer_than_the_examples_are_computed(supernet, network):
    assert network(torch.zeros(1, 40, dtype=torch.long)).shape == (1, 40, 64)


def test_without_bias_the_extracted_blocks_have_none(supernet):
    largest = supernet.largest
    biased = supernet.extract(largest)
    unbiased = supernet.extract(supernet.space.canonical({**largest, "has_bias": False}))
    missing = biased.state_dict().keys() - unbiased.state_dict().keys()
    assert missing == {
        name
        for name, _ in biased.blocks.named_parameters(prefix="blocks")
        if name.endswith("bias") and "norm" not in name
    }
    assert len(missing) == 3 * 7


# -- rotary positions ---------------------------------------------------------------------------


def rotated(x_BTW, first):
    rotation = Rotation.of_positions(first, x_BTW.shape[1], 4, x_BTW.device)
    return rotation.turn(x_BTW, num_heads=2)


def test_rotation_keeps_products_of_equal_distance_and_what_is_not_turned():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 16, generator=generator)

    def product(query_position, key_position):
        return (rotated(query, query_position) * rotated(key, key_position)).sum().item()

    assert product(9, 4) == pytest.approx(product(5, 0), abs=1e-4)
    assert product(9, 4) != pytest.approx(product(9, 5), abs=1e-2)
    turned = rotated(query, 3).view(2, 8)
    assert torch.equal(turned[:, 4:], query.view(2, 8)[:, 4:])
    assert torch.equal(rotated(query, 0), query)
    assert turned.norm() == pytest.approx(query.norm())


def test_rotation_of_positions_starts_anywhere():
    whole = Rotation.of_positions(0, 9, 4, torch.device("cpu"))
    part = Rotation.of_positions(5, 4, 4, torch.device("cpu"))
    for of_whole, of_part in zip(whole, part, strict=True):
        assert torch.equal(of_whole[5:], of_part)


# -- settings and export ------------------------------------------------------------------------


def test_settings_replace_fields_of_the_preset():
    supernet = DECODER.build(vocab_size=11, max_length=5)
    (tokens_BT,) = supernet.example_inputs(2)
    assert tokens_BT.shape == (2, 5)
    assert tokens_BT.max() < 11
    assert supernet(tokens_BT).shape == (2, 5, 11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is a whole number from 1 up, not 0"),
        ({"max_length": 2.5}, "max_length is a whole number from 1 up, not 2.5"),
        ({"vocab": 3}, "did you mean 'vocab_size'?"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        DECODER.build(**settings)


@pytest.mark.slow
@pytest.mark.onnx
def test_an_extracted_model_runs_in_onnxruntime(tmp_path):
    supernet = DECODER.build()
    model = supernet.extract(supernet.largest)
    exporter = OnnxExporter()
    programs = programs_of(model, supernet.example_inputs(2))
    exporter.write(model, programs, tmp_path)
    (tokens_BT,) = supernet.example_inputs(3)
    opened = {name: program.inputs for name, program in programs.items()}
    logits_BTV = exporter.load(tmp_path, opened)(tokens_BT)
    torch.testing.assert_close(logits_BTV, model(tokens_BT), rtol=0, atol=1e-4)
