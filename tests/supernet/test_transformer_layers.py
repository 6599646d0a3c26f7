"""The elastic layers of transformers: active slices, the gradient's reach, extraction, counts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasbench.cost import count_macs, count_parameters
from nasbench.supernet.layers import (
    Counts,
    ElasticDropout,
    ElasticEmbedding,
    ElasticFeedForward,
    ElasticLayerNorm,
    ElasticLinear,
)


def random_tensor(*size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def disturbed(layer):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator))
    return layer


def counts_of(module, *inputs):
    return Counts(count_parameters(module), count_macs(module, inputs))


@pytest.mark.parametrize(("has_bias", "with_bias"), [(True, False), (False, True), (False, False)])
def test_linear_without_bias(has_bias, with_bias):
    layer = disturbed(ElasticLinear(5, 4, has_bias=has_bias))
    x_BTI = random_tensor(1, 6, 3)
    y_BTO = layer(x_BTI, 2, with_bias=with_bias)
    torch.testing.assert_close(y_BTO, x_BTI @ layer.shared.weight[:2, :3].T)
    plain = layer.extract(3, 2, with_bias=with_bias)
    assert plain.bias is None
    assert torch.equal(plain(x_BTI), y_BTO)
    assert layer.count(3, 2, 6, with_bias=with_bias) == counts_of(plain, x_BTI)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_layer_normalization(channels):
    layer = disturbed(ElasticLayerNorm(5, eps=1e-3))
    x_BTC = 3 + 2 * random_tensor(2, 4, channels)
    y_BTC = layer(x_BTC)
    var_BT1, mean_BT1 = torch.var_mean(x_BTC, dim=-1, correction=0, keepdim=True)
    centered = (x_BTC - mean_BT1) / (var_BT1 + 1e-3).sqrt()
    expected = centered * layer.weight[:channels] + layer.bias[:channels]
    torch.testing.assert_close(y_BTC, expected)
    y_BTC.square().sum().backward()
    assert layer.bias.grad[:channels].all()
    for parameter in layer.parameters():
        assert not parameter.grad[channels:].any()

    plain = layer.extract(channels)
    assert type(plain) is nn.LayerNorm
    assert torch.equal(plain(x_BTC), y_BTC)
    assert layer.count(channels) == counts_of(plain, x_BTC)


@pytest.mark.parametrize("channels", [2, 3])
def test_embedding(channels):
    layer = disturbed(ElasticEmbedding(4, 3))
    ids_BT = torch.tensor([[3, 1], [1, 1]])
    y_BTC = layer(ids_BT, channels)
    weight = layer.shared.weight
    assert torch.equal(y_BTC, weight[ids_BT][..., :channels])
    y_BTC.sum().backward()
    times = torch.tensor([0.0, 3, 0, 1])[:, None]
    assert torch.equal(weight.grad[:, :channels], times.expand(4, channels))
    assert not weight.grad[:, channels:].any()
    assert torch.equal(layer.table(2, channels), weight[:2, :channels])

    plain = layer.extract(channels)
    assert type(plain) is nn.Embedding
    assert torch.equal(plain(ids_BT), y_BTC)
    assert layer.count(channels) == counts_of(plain, ids_BT)


@pytest.mark.parametrize("channels", [10, 40])
def test_dropout_follows_the_active_width(channels):
    layer = ElasticDropout(0.4, 40)
    expected = 0.4 * channels / 40
    assert layer.rate_at(channels) == pytest.approx(expected)
    assert layer.extract(channels).p == pytest.approx(expected)
    x_BTC = torch.ones(100, 100, channels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y_BTC = layer(x_BTC)
    assert (y_BTC == 0).float().mean().item() == pytest.approx(expected, abs=0.005)
    assert y_BTC.mean().item() == pytest.approx(1, abs=0.01)
    assert layer.eval()(x_BTC) is x_BTC


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("channels", "inner_channels"), [(4, 6), (3, 6), (4, 2)])
def test_feed_forward(activation, with_bias, channels, inner_channels):
    layer = disturbed(ElasticFeedForward(4, 6, activation))
    x_BTC = random_tensor(1, 3, channels)
    y_BTC = layer(x_BTC, inner_channels, with_bias=with_bias)
    (expand, expand_bias), (project, project_bias) = (
        (linear.shared.weight, linear.shared.bias if with_bias else torch.zeros(6))
        for linear in (layer.expand, layer.project)
    )
    inner = x_BTC @ expand[:inner_channels, :channels].T + expand_bias[:inner_channels]
    activated = getattr(F, activation)(inner)
    expected = activated @ project[:channels, :inner_channels].T + project_bias[:channels]
    torch.testing.assert_close(y_BTC, expected)

    plain = layer.extract(channels, inner_channels, with_bias=with_bias)
    assert torch.equal(plain(x_BTC), y_BTC)
    counts = layer.count(channels, inner_channels, 3, with_bias=with_bias)
    assert counts == counts_of(plain, x_BTC)
