"""Mixtures: the two equations, what may be set, and how experts start."""

import math

import numpy as np
import pytest
import torch

from nasbench.config import TrainingConfig
from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.layers import ElasticConv2d, ElasticDepthwiseConv2d, ElasticLinear
from nasbench.supernet.mixture import MixedWeight, start_from_dense
from nasbench.supernet.routing import Router
from nasbench.supernet.training.optimization import build_optimizer, set_learning_rate
from nasbench.testing.mixtures import MixtureContract, plain_name
from nasbench.testing.supernets import (
    SupernetContract,
    calibrated_output,
    disturb,
    gradients,
    random_architectures,
)


class TestMixtureContract(MixtureContract):
    pass


class TestSeparateSupernetsContract(SupernetContract):
    families = ("resnet",)
    sharings = {"separate": {"sharing": "separate", "divided_by": "stage3.depth"}}  # noqa: RUF012
    num_random = 2


def build(family="vit", sharing="mixture_layerwise", *, moved=True, **settings):
    supernet = SUPERNETS[family].build(sharing=sharing, **settings)
    if moved:
        disturb(supernet)
    return supernet.eval()


def mixed(supernet):
    return [module for module in supernet.modules() if isinstance(module, MixedWeight)]


# -- the equations ------------------------------------------------------------------------------


def numpy_of(tensor):
    return tensor.detach().double().numpy()


def logits(router, encoding):
    """V2 ReLU(V1 a + b1) + b2."""
    inner, outer = router.inner, router.outer
    hidden = np.maximum(numpy_of(inner.weight) @ encoding + numpy_of(inner.bias), 0)
    return numpy_of(outer.weight) @ hidden + numpy_of(outer.bias)


def softmax(values):
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("num_experts", [2, 3])
def test_layerwise_is_equation_2_4(num_experts):
    supernet = build(num_experts=num_experts)
    (architecture,) = random_architectures(supernet.space, 1)
    supernet.activate(architecture)
    encoding = numpy_of(supernet.mixture.encoding.encoding_F)
    feed_forward = supernet.stack.layer1.feed_forward
    shares = softmax(logits(feed_forward.expand.shared.routing.router, encoding))
    assert len(shares) == num_experts
    for layer, sizes in ((feed_forward.expand, (48, 20)), (feed_forward.project, (20, 48))):
        experts = [numpy_of(w) for w in layer.shared.weights]
        biases = [numpy_of(b) for b in layer.shared.biases]
        outputs, inputs = sizes
        expected = sum(r * e[:outputs, :inputs] for r, e in zip(shares, experts, strict=True))
        weight, bias = layer.shared.leading(outputs, inputs)
        np.testing.assert_allclose(numpy_of(weight), expected, atol=1e-6)
        expected = sum(r * c[:outputs] for r, c in zip(shares, biases, strict=True))
        np.testing.assert_allclose(numpy_of(bias), expected, atol=1e-6)


def test_neuronwise_is_equation_2_5():
    supernet = build(sharing="mixture_neuronwise", num_experts=3)
    (architecture,) = random_architectures(supernet.space, 1)
    supernet.activate(architecture)
    encoding = numpy_of(supernet.mixture.encoding.encoding_F)
    for layer in (lambda f: (f.expand, f.project))(supernet.stack.layer2.feed_forward):
        values = logits(layer.shared.routing.router, encoding)
        weight, bias = layer.shared.leading(24, 16)
        for neuron in range(24):
            shares = softmax(values[3 * neuron : 3 * neuron + 3])
            row = sum(
                r * numpy_of(e)[neuron, :16]
                for r, e in zip(shares, layer.shared.weights, strict=True)
            )
            of_bias = sum(
                r * numpy_of(c)[neuron] for r, c in zip(shares, layer.shared.biases, strict=True)
            )
            np.testing.assert_allclose(numpy_of(weight)[neuron], row, atol=1e-6)
            np.testing.assert_allclose(numpy_of(bias)[neuron], of_bias, atol=1e-6)


def test_routing_is_in_float32_under_autocast():
    supernet = build()
    weight = mixed(supernet)[0]
    exact, _ = weight.leading(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = weight.leading(8, 8)
        shares = weight.routing.coefficients(8)
    assert shares.dtype == found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_a_pair_shares_its_coefficients_layerwise_alone():
    for sharing, count in (("mixture_layerwise", 4), ("mixture_neuronwise", 8)):
        supernet = build(sharing=sharing)
        assert len(supernet.mixture.routers) == count
        assert len({id(weight.routing.router) for weight in mixed(supernet)}) == count


def test_dropout_in_a_router_drops_the_same_for_a_pair():
    supernet = build(router_dropout=0.5).train()
    feed_forward = supernet.stack.layer1.feed_forward
    seen = []
    for layer in (feed_forward.expand, feed_forward.project):
        layer.register_forward_pre_hook(
            lambda layer, _: seen.append(layer.shared.routing.coefficients(8).detach())
        )
    for _ in range(2):
        supernet(*supernet.example_inputs(2))
    first, second, later, _ = seen
    assert torch.equal(first, second)
    assert not torch.equal(first, later)
    with torch.no_grad():
        outputs = [supernet(*supernet.example_inputs(2)) for _ in range(2)]
        assert not torch.equal(*outputs), "mixed weights were kept although dropout is random"
        supernet.eval()
        outputs = [supernet(*supernet.example_inputs(2)) for _ in range(2)]
        assert torch.equal(*outputs)


def test_the_router_counts_parameters_as_in_the_paper():
    for num_rows in (1, 48):
        router = Router(
            12, num_rows, 2, size=128, dropout=0.0, top_1=False, learning_rate_factor=1.0
        )
        held = sum(p.numel() for p in router.parameters())
        assert held == 12 * 128 + 128 + (128 + 1) * 2 * num_rows


def test_routers_train_at_a_share_of_the_learning_rate():
    supernet = build(router_learning_rate_factor=0.1)
    config = TrainingConfig(optimizer="sgd", gradient_clip_norm=None)
    optimizer = build_optimizer(supernet, config)
    set_learning_rate(optimizer, 0.02)
    before = {p: p.detach().clone() for p in supernet.parameters()}
    for parameter in supernet.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    of_routers = {p for m in supernet.modules() if isinstance(m, Router) for p in m.parameters()}
    steps = {p: (before[p] - p).detach().mean().item() for p in supernet.parameters()}
    slow = [step for p, step in steps.items() if p in of_routers]
    fast = [step for p, step in steps.items() if p not in of_routers]
    assert np.median(slow) == pytest.approx(0.1 * np.median(fast), rel=0.02)
    assert max(slow) < 0.2 * min(fast)


# -- what may be set ----------------------------------------------------------------------------


def test_layers_are_chosen_by_a_setting():
    def names(**settings):
        supernet = build(**settings)
        return {n for n, m in supernet.named_modules() if isinstance(m, MixedWeight)}

    usual = names()
    assert usual == {
        f"stack.layer{layer}.feed_forward.{which}.shared"
        for layer in range(1, 5)
        for which in ("expand", "project")
    }
    every = names(mixed_layers="all")
    assert every > usual
    assert {"patches.shared", "classifier.shared", "stack.layer1.attention.query.shared"} < every
    convolutions = names(family="mobilenet_v3")
    assert convolutions == {n for n in convolutions if ".expand." in n or ".project." in n}
    assert "stages.stage1.block1.expand.conv.shared" in convolutions
    supernet = build("mobilenet_v3", mixed_layers="all")
    for module in supernet.modules():
        if isinstance(module, ElasticLinear | ElasticConv2d | ElasticDepthwiseConv2d):
            assert isinstance(module.shared, MixedWeight)


@pytest.mark.parametrize("sharing", ["mixture_layerwise", "mixture_neuronwise"])
def test_all_layers_can_be_mixed_and_extracted(sharing):
    supernet = build("mobilenet_v3", sharing, mixed_layers="all", num_experts=3)
    for architecture in random_architectures(supernet.space, 3):
        output = calibrated_output(supernet, architecture)
        with torch.no_grad():
            extracted = supernet.extract(architecture)(*supernet.example_inputs(8))
        assert (extracted - output).abs().max() <= 1e-5 * output.abs().max()


def test_a_family_that_names_no_layers_needs_to_be_told_all():
    family = "tests.supernet.own_family:PERCEPTRON"
    with pytest.raises(RequestError, match="names no layers that a mixture usually mixes"):
        build(family)
    assert len(mixed(build(family, mixed_layers="all"))) == 4


def test_top_1_takes_one_expert_scaled_by_its_coefficient():
    dense, top = build(num_experts=3), build(num_experts=3, routing="top_1")
    top.load_state_dict(dense.state_dict())
    for one, other in zip(mixed(dense), mixed(top), strict=True):
        (all_E,), (kept_E,) = one.routing.coefficients(4), other.routing.coefficients(4)
        assert kept_E.count_nonzero() == 1
        assert kept_E.max() == all_E.max()
        best = int(all_E.argmax())
        weight, _ = other.leading(4, 4)
        torch.testing.assert_close(weight, all_E[best] * other.weights[best][:4, :4])


def test_a_constant_encoding_mixes_alike_for_all():
    for encoding in ("constant", "min_max"):
        supernet = build(encoding=encoding)
        first = mixed(supernet)[0]
        found = []
        for architecture in (supernet.largest, supernet.smallest):
            supernet.activate(architecture)
            found.append(first.leading(8, 8)[0])
        assert torch.equal(*found) == (encoding == "constant")


@pytest.mark.parametrize("encoding", ["min_max", "one_hot", "layer_means"])
def test_an_encoding_tells_architectures_apart(encoding):
    supernet = build("seq2seq", encoding=encoding)
    read = {}
    for architecture in (supernet.largest, supernet.smallest):
        supernet.activate(architecture)
        read[architecture] = supernet.mixture.encoding.encoding_F
    assert not torch.equal(*read.values())
    assert all(features.abs().max() <= 1 for features in read.values())
    if encoding == "layer_means":
        assert len(supernet.mixture.encoding.largest_F) == 10, "HAT's ten features"
        assert (read[supernet.largest] == 1).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_experts": 0}, "num_experts is a whole number from 1 up, not 0"),
        ({"num_experts": 2.0}, "num_experts is a whole number"),
        ({"router_learning_rate_factor": 0}, "router_learning_rate_factor is a number above 0"),
        ({"router_size": True}, "router_size is a whole number"),
        ({"router_dropout": 1.0}, "router_dropout is a rate"),
        ({"expert_noise": -1}, "expert_noise is a number from 0 up"),
        ({"expert_noise": math.nan}, "expert_noise is a number from 0 up"),
        ({"expert_noise": "small"}, "expert_noise is a number from 0 up, not 'small'"),
        ({"encoding": ["one_hot"]}, "unknown encoding"),
        ({"mixed_layers": "al"}, "unknown mixed_layers 'al'; did you mean 'all'"),
        ({"encoding": "onehot"}, "unknown encoding 'onehot'; did you mean 'one_hot'"),
        ({"routing": "sparse"}, "unknown routing 'sparse'.*dense"),
        ({"initialization": "copy"}, "unknown initialization 'copy'; did you mean 'copies'"),
        ({"num_expert": 2}, "unknown setting of vit 'num_expert'; did you mean 'num_experts'"),
    ],
)
def test_an_impossible_setting_is_named(settings, sentence):
    with pytest.raises(RequestError, match=sentence):
        build(**settings)


def test_settings_of_a_mixture_belong_to_mixtures():
    with pytest.raises(RequestError, match="unknown setting of vit 'num_experts'"):
        build(sharing="slice", num_experts=2)


def test_weights_of_other_mixtures_are_refused():
    assert build().fingerprint != build(num_experts=3).fingerprint
    assert build().fingerprint != build(sharing="mixture_neuronwise").fingerprint
    with pytest.raises(RequestError, match="these are no weights of the supernet"):
        build().load_weights(build(num_experts=3).state_dict())


# -- how experts start --------------------------------------------------------------------------


def test_copies_differ_by_the_noise():
    for noise in (0.0, 0.02, 0.5):
        for weight in mixed(build(moved=False, expert_noise=noise)):
            first, second = weight.weights
            difference = float((second - first).detach().std() / first.detach().std())
            assert difference == pytest.approx(noise, rel=0.1)
            assert torch.equal(*weight.biases)


def test_experts_from_scratch_are_unlike():
    for weight in mixed(build(moved=False, initialization="scratch")):
        first, second = weight.weights
        correlation = torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1]
        assert abs(correlation) < 0.1
        assert float(second.detach().std() / first.detach().std()) == pytest.approx(1, rel=0.1)


def test_experts_start_from_a_dense_network():
    dense, supernet = build(sharing="slice"), build(num_experts=3, seed=7)
    routers = {n: p.clone() for n, p in supernet.mixture.routers.named_parameters()}
    start_from_dense(supernet, dense.state_dict(), seed=0)
    for name, tensor in supernet.state_dict().items():
        if (plain := plain_name(name)) in dense.state_dict():
            assert torch.equal(tensor, dense.state_dict()[plain]), name
    for name, parameter in supernet.mixture.routers.named_parameters():
        assert torch.equal(parameter, routers[name])
    for weight in mixed(supernet):
        first, *others = weight.weights
        for other in others:
            assert 0 < (other - first).abs().max() < first.abs().max()
    for architecture in (supernet.largest, supernet.smallest):
        near, exact = (calibrated_output(s, architecture) for s in (supernet, dense))
        assert (near - exact).abs().max() < 0.05 * exact.abs().max()


def test_only_a_mixture_starts_from_the_right_dense_network():
    dense, supernet = build(sharing="slice"), build()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with pytest.raises(RequestError, match="only a mixture has experts"):
        start_from_dense(dense, dense.state_dict(), seed=0)
    state = dense.state_dict()
    name = "stack.layer1.feed_forward.expand.shared.weight"
    misshapen, incomplete = {**state, name: torch.zeros(3)}, dict(state)
    del incomplete[name]
    for wrong in (misshapen, incomplete, {**state, "no.such.weight": torch.zeros(1)}):
        with pytest.raises(RequestError, match="these are no weights of the supernet"):
            start_from_dense(supernet, wrong, seed=0)
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_coefficients_can_be_looked_at():
    for sharing, rows in (("mixture_layerwise", 1), ("mixture_neuronwise", 128)):
        supernet = build(sharing=sharing)
        active = supernet.mixture.encoding.encoding_F
        found = supernet.mixture.coefficients(supernet.smallest)
        assert torch.equal(supernet.mixture.encoding.encoding_F, active)
        shares = found["stack.layer1.feed_forward.expand"]
        assert shares.shape == (rows, 2)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(rows))
        supernet.activate(supernet.smallest)
        first = supernet.stack.layer1.feed_forward.expand.shared.routing.coefficients(rows)
        assert torch.equal(shares, first)


# -- separate supernets ---------------------------------------------------------------------------


def test_separate_supernets_share_nothing():
    supernet = build("vit", "separate", divided_by="hidden_size")
    held = sum(p.numel() for p in build("vit", "slice").parameters())
    assert sum(p.numel() for p in supernet.parameters()) == 3 * held
    reached = set()
    for hidden_size in (32, 48, 64):
        supernet.activate(
            supernet.space.canonical({**supernet.largest, "hidden_size": hidden_size})
        )
        found = gradients(supernet, supernet.example_inputs(2))
        names = {name.split(".")[1] for name, gradient in found.items() if gradient.any()}
        assert len(names) == 1
        reached |= names
    assert len(reached) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "need the dimension that the space is divided_by; possible: depth, hidden_size"),
        ({"divided_by": "dept"}, "unknown dimension to divide by 'dept'; did you mean 'depth'"),
        ({"divided_by": 3}, "unknown dimension to divide by '3'"),
        ({"divided_by": "layer2.num_heads"}, "unknown dimension to divide by"),
    ],
)
def test_only_a_dimension_that_is_always_active_divides(settings, sentence):
    with pytest.raises(RequestError, match=sentence):
        build("vit", "separate", **settings)
