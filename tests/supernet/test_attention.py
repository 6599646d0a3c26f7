"""Attention: both kinds of heads, masks, caches, extraction and counts.

Shape legend: B batch, T queries, S keys, I width of the queries' sequence, J width of the keys'
sequence, W width of all heads, D head size.
"""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nasbench.cost import count_macs
from nasbench.errors import RequestError
from nasbench.supernet.attention import ElasticAttention, FixedHeadSize, FixedTotalWidth, Heads
from nasbench.supernet.plain_attention import KeysValues, attend

WIDTH = 12
FIXED_SIZE, FIXED_WIDTH = FixedHeadSize(3), FixedTotalWidth(WIDTH)
ALL_HEADS = [FIXED_SIZE.heads(n) for n in (1, 3, 4)] + [FIXED_WIDTH.heads(n) for n in (1, 2, 6)]


def random_tensor(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.fixture
def make():
    def make_attention(**settings):
        attention = ElasticAttention(8, WIDTH, **settings).double()
        with torch.no_grad():
            for seed, parameter in enumerate(attention.parameters()):
                parameter.copy_(random_tensor(*parameter.shape, seed=seed) / 2)
        return attention

    return make_attention


def attend_to(attention, x_BTI, source_BSJ, heads, *mask):
    return attention(x_BTI, attention.project(source_BSJ, heads), heads, *mask)


def head_output(attention, x_BTI, source_BSJ, rows):
    """What one head adds to the output: plain formulas on its rows of the weights."""

    def project(linear, x):
        weight, bias = linear.shared.weight[rows, : x.shape[-1]], linear.shared.bias
        return x @ weight.T + (0 if bias is None else bias[rows])

    query, key = project(attention.query, x_BTI), project(attention.key, source_BSJ)
    scores_BTS = query @ key.transpose(1, 2) / (rows.stop - rows.start) ** 0.5
    out_ID = attention.out.shared.weight[: x_BTI.shape[-1], rows]
    return scores_BTS.softmax(-1) @ project(attention.value, source_BSJ) @ out_ID.T


# -- heads ----------------------------------------------------------------------------------------


def test_the_two_kinds_of_heads():
    assert FixedHeadSize(64).heads(6) == Heads(6, 64)
    assert FixedHeadSize(64).heads(6).width == 384
    assert FixedTotalWidth(512).heads(4) == Heads(4, 128)
    assert FixedTotalWidth(512).heads(4).width == 512


def test_heads_that_cannot_share_a_width_are_refused():
    with pytest.raises(RequestError, match="5 heads cannot share a total width of 12 equally"):
        FIXED_WIDTH.heads(5)


@pytest.mark.parametrize("heads", ALL_HEADS, ids=str)
@pytest.mark.parametrize(("query_width", "key_width"), [(8, 8), (5, 5), (5, 3)])
def test_the_output_is_the_sum_of_what_each_head_says(make, heads, query_width, key_width):
    attention = make(key_width=8)
    x_BTI, source_BSJ = random_tensor(2, 4, query_width), random_tensor(2, 6, key_width, seed=1)
    expected = attention.out.shared.bias[:query_width]
    for head in range(heads.number):
        rows = slice(head * heads.size, (head + 1) * heads.size)
        expected = expected + head_output(attention, x_BTI, source_BSJ, rows)
    torch.testing.assert_close(attend_to(attention, x_BTI, source_BSJ, heads), expected)


@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_heads_of_a_fixed_size_are_kept_as_they_are(make, num_heads):
    attention, x_BTI = make(), random_tensor(2, 4, 8)
    fewer, more = (
        attend_to(attention, x_BTI, x_BTI, FIXED_SIZE.heads(n)) for n in (num_heads, num_heads + 1)
    )
    rows = slice(3 * num_heads, 3 * num_heads + 3)
    torch.testing.assert_close(more - fewer, head_output(attention, x_BTI, x_BTI, rows))


@pytest.mark.parametrize("heads", ALL_HEADS, ids=str)
def test_gradients_reach_the_rows_of_the_active_heads(make, heads):
    attention, x_BTI = make(), random_tensor(2, 4, 5)
    attend_to(attention, x_BTI, x_BTI, heads).square().sum().backward()
    for linear in (attention.query, attention.key, attention.value):
        active = torch.zeros(WIDTH, 8, dtype=torch.bool)
        active[: heads.width, :5] = True
        assert torch.equal(linear.shared.weight.grad != 0, active)
    assert torch.equal(attention.out.shared.weight.grad.T != 0, active)


def test_a_bias_of_keys_would_change_nothing(make):
    query, keys, values = (random_tensor(2, 4, WIDTH, seed=seed) for seed in range(3))
    first = attend(query, KeysValues(keys, values), 3)
    shifted = attend(query, KeysValues(keys + random_tensor(WIDTH, seed=3), values), 3)
    torch.testing.assert_close(shifted, first)
    assert make().key.shared.bias is None


def test_biases_can_be_left_out(make):
    attention, x_BTI, heads = make(), random_tensor(2, 4, 8), FIXED_SIZE.heads(2)
    own = attention.project(x_BTI, heads, with_bias=False)
    without = attention(x_BTI, own, heads, with_bias=False)
    plain = attention.extract(8, heads, with_bias=False)
    assert {name for name, _ in plain.named_parameters() if "bias" in name} == set()
    torch.testing.assert_close(plain(x_BTI, plain.project(x_BTI)), without)
    with torch.no_grad():
        for linear in (attention.query, attention.value, attention.out):
            linear.shared.bias.zero_()
    torch.testing.assert_close(attend_to(attention, x_BTI, x_BTI, heads), without)


# -- what a query sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_causal", [False, True])
def test_tokens_behind_a_mask_do_not_matter(make, is_causal):
    attention, heads = make(is_causal=is_causal), FIXED_SIZE.heads(3)
    x_BTI = random_tensor(2, 5, 8)
    mask_BT = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    masked = attend_to(attention, x_BTI, x_BTI, heads, mask_BT)
    shortened = attend_to(attention, x_BTI[1:, :3], x_BTI[1:, :3], heads)
    torch.testing.assert_close(masked[1:, :3], shortened)
    torch.testing.assert_close(masked[:1], attend_to(attention, x_BTI, x_BTI, heads)[:1])
    changed = x_BTI.clone()
    changed[1, 3:] = 1e3
    assert torch.equal(attend_to(attention, changed, changed, heads, mask_BT)[1, :3], masked[1, :3])


def test_causal_attention_sees_no_later_token(make):
    attention, heads = make(is_causal=True), FIXED_WIDTH.heads(2)
    x_BTI = random_tensor(2, 5, 8)
    output = attend_to(attention, x_BTI, x_BTI, heads)
    for length in range(1, 5):
        shortened = x_BTI[:, :length]
        torch.testing.assert_close(
            attend_to(attention, shortened, shortened, heads), output[:, :length]
        )


def test_a_query_that_sees_nothing_gets_nothing(make):
    attention, heads = make(is_causal=True), FIXED_SIZE.heads(2)
    x_BTI = random_tensor(1, 3, 8)
    left_padded = torch.tensor([[False, True, True]])
    output = attend_to(attention, x_BTI, x_BTI, heads, left_padded)
    torch.testing.assert_close(output[0, 0], attention.out.shared.bias)


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (2, 1, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("heads", [FIXED_SIZE.heads(3), FIXED_WIDTH.heads(2)], ids=str)
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("is_plain", [False, True])
def test_a_cache_gives_what_the_whole_sequence_gives(make, chunks, heads, is_masked, is_plain):
    attention = make(is_causal=True)
    sizes = () if is_plain else (heads,)
    attention = attention.extract(8, heads) if is_plain else attention
    x_BTI = random_tensor(2, 5, 8)
    mask_BT = torch.tensor([[True] * 5, [True, False, True, True, True]]) if is_masked else None
    whole = attention(x_BTI, attention.project(x_BTI, *sizes), *sizes, mask_BT)
    past, outputs = attention.project(x_BTI[:, :0], *sizes), []
    for x in x_BTI.split(chunks, dim=1):
        past = past.extended(attention.project(x, *sizes))
        seen = None if mask_BT is None else mask_BT[:, : past.keys_BSW.shape[1]]
        outputs.append(attention(x, past, *sizes, seen))
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)


def test_extending_a_cache_leaves_it_as_it_was():
    past = KeysValues(random_tensor(1, 2, 3), random_tensor(1, 2, 3, seed=1))
    longer = past.extended(past)
    assert past.keys_BSW.shape == (1, 2, 3)
    assert torch.equal(longer.values_BSW[:, 2:], past.values_BSW)


# -- extraction and counts ------------------------------------------------------------------------


class CrossAttention(nn.Module):
    """Plain attention as a module of two inputs."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, x_BTI, source_BSJ):
        return self.attention(x_BTI, self.attention.project(source_BSJ))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("heads", ALL_HEADS, ids=str)
@pytest.mark.parametrize(("query_width", "key_width"), [(8, 10), (5, 3)])
def test_extracted_attention(make, heads, query_width, key_width, is_causal):
    attention = make(key_width=10, is_causal=is_causal)
    x_BTI, source_BSJ = random_tensor(1, 4, query_width), random_tensor(1, 6, key_width, seed=1)
    plain = CrossAttention(attention.extract(query_width, heads, key_width=key_width))
    torch.testing.assert_close(
        plain(x_BTI, source_BSJ), attend_to(attention, x_BTI, source_BSJ, heads)
    )
    counts = attention.count(query_width, heads, 4, 6, key_width=key_width)
    assert counts.num_parameters == sum(p.numel() for p in plain.parameters())
    assert counts.num_macs == count_macs(plain, (x_BTI, source_BSJ))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain(x_BTI, source_BSJ)
    assert 2 * counts.num_macs == counter.get_total_flops()


def test_attention_weights_are_dropped_while_training_alone(make):
    attention, heads, x_BTI = make(dropout=0.5), FIXED_SIZE.heads(4), random_tensor(2, 4, 8)
    plain = attention.extract(8, heads)
    for module, sizes in ((attention, (heads,)), (plain, ())):
        own = module.project(x_BTI, *sizes)
        expected = attend_to(make(), x_BTI, x_BTI, heads)
        torch.testing.assert_close(module.eval()(x_BTI, own, *sizes), expected)
        assert not torch.allclose(module.train()(x_BTI, own, *sizes), expected)
