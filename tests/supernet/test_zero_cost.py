"""Zero-cost features: what the formulas say of networks where that is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.predictors.encoding import Described, OneHot, joined
from nasbench.supernet import SUPERNETS
from nasbench.supernet.zero_cost import ZeroCost, zero_cost_features

INPUTS, TARGETS = (torch.randn(6, 4),), torch.arange(6) % 3


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*(layer() for layer in layers))


def test_synflow_counts_what_flows_through_each_layer():
    plain = network(lambda: nn.Linear(4, 5, bias=False), lambda: nn.Linear(5, 3, bias=False))
    flow = (plain[1].weight.abs() @ plain[0].weight.abs()).sum().item()
    found = zero_cost_features(plain, INPUTS, TARGETS)["log_synflow"]
    assert found == pytest.approx(math.log(2 * flow))
    normalized = nn.Sequential(plain[0], nn.LayerNorm(5), plain[1])
    again = zero_cost_features(normalized, INPUTS, TARGETS)["log_synflow"]
    assert again == pytest.approx(found)


def test_the_gradient_norm_is_that_of_the_loss():
    plain = network(lambda: nn.Linear(4, 3, bias=False))
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(plain(*INPUTS), TARGETS), plain[0].weight
    )[0].norm()
    found = zero_cost_features(plain, INPUTS, TARGETS)["log_gradient_norm"]
    assert found == pytest.approx(math.log(expected))


def test_samples_that_a_network_treats_alike_have_a_low_jacobian_covariance():
    inputs = (torch.randn(6, 40),)
    linear = network(lambda: nn.Linear(40, 3))
    kinked = network(lambda: nn.Linear(40, 64), nn.ReLU, lambda: nn.Linear(64, 3))
    low, high = (
        zero_cost_features(each, inputs, TARGETS)["jacobian_covariance"]
        for each in (linear, kinked)
    )
    assert low < -1e5
    assert high > -100


def test_parameters_are_counted():
    found = zero_cost_features(network(lambda: nn.Linear(4, 3)), INPUTS, TARGETS)
    assert found["log_num_parameters"] == pytest.approx(math.log(15))


def test_one_sample_is_refused():
    with pytest.raises(RequestError, match="give a batch of at least two"):
        zero_cost_features(network(lambda: nn.Linear(4, 3)), (torch.zeros(1, 4),), TARGETS[:1])


@pytest.fixture(scope="module")
def supernet():
    return SUPERNETS["mobilenet_v3"].build()


@pytest.fixture(params=[None, 0], ids=["inherited", "fresh"])
def features(request, supernet):
    inputs = supernet.example_inputs(8)
    return ZeroCost(supernet, inputs, torch.arange(8), fresh_seed=request.param)


def test_a_sub_network_is_described_and_nothing_is_changed(features, supernet):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    random = torch.get_rng_state()
    small, large = features(supernet.smallest), features(supernet.largest)
    assert set(small) == set(large)
    assert large["log_num_parameters"] > small["log_num_parameters"]
    assert large["log_synflow"] > small["log_synflow"]
    assert features(supernet.smallest) is small, "computed once"
    assert all(torch.equal(t, before[name]) for name, t in supernet.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_predictor_takes_them_as_features(features, supernet):
    genomes = supernet.space.sample_genomes(24, np.random.default_rng(0))
    described = Described(supernet.space, features)
    values = described(genomes)[:, 0]  # a metric that the choices do not show
    predictor = PREDICTORS["ridge"](supernet.space, encoding=described)
    predicted = predictor.fit(genomes[:16], values[:16]).predict(genomes[16:]).mean
    assert np.corrcoef(predicted, values[16:])[0, 1] > 0.9
    both = joined(OneHot(supernet.space), described)(genomes)
    assert both.shape[1] == supernet.space.num_choices.sum() + 4
    assert np.abs(both).max() < 10


def test_tokens_have_no_jacobian():
    supernet = SUPERNETS["encoder"].build()
    found = ZeroCost(supernet, supernet.example_inputs(4), torch.zeros(4, dtype=torch.int64))
    described = found(supernet.smallest)
    assert set(described) == {"log_num_parameters", "log_gradient_norm", "log_synflow"}
