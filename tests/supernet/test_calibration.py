"""Statistics after calibration against those computed directly from what each layer was given."""

import pytest
import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS, calibrate
from nasbench.supernet.layers import ElasticBatchNorm2d


@pytest.fixture
def supernet():
    supernet = SUPERNETS["mobilenet_v3"].build(seed=3)
    supernet.activate(supernet.space.canonical({**supernet.largest, "stage2.width": 16}))
    return supernet


def batches(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [
        shift + torch.randn(size, 1, 8, 8, generator=generator) for shift, size in enumerate(sizes)
    ]


def normalized_inputs(supernet, images):
    """What each normalization layer of the active sub-network gets in train mode."""
    seen = {}
    hooks = [
        module.register_forward_pre_hook(lambda norm, inputs: seen.update({norm: inputs[0]}))
        for module in supernet.modules()
        if isinstance(module, ElasticBatchNorm2d)
    ]
    with torch.no_grad():
        supernet.train()(images)
    for hook in hooks:
        hook.remove()
    return seen


def test_one_batch_gives_its_mean_and_variance_at_every_layer(supernet):
    (images,) = batches(16)
    calibrate(supernet, [images])
    seen = normalized_inputs(supernet, images)
    assert len(seen) == 26
    for norm, x_BCHW in seen.items():
        var_C, mean_C = torch.var_mean(x_BCHW, dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_mean[: len(mean_C)], mean_C)
        torch.testing.assert_close(norm.running_var[: len(var_C)], var_C)


def test_several_batches_of_unequal_size_give_the_statistics_of_all_of_them(supernet):
    supernet.double()
    images = [batch.double() for batch in batches(16, 5, 30)]
    calibrate(supernet, images)
    seen = [normalized_inputs(supernet, batch) for batch in images]
    for norm in seen[0]:
        x_CN = torch.cat([inputs[norm].transpose(0, 1).flatten(1) for inputs in seen], dim=1)
        channels = len(x_CN)
        torch.testing.assert_close(norm.running_mean[:channels], x_CN.mean(1))
        torch.testing.assert_close(norm.running_var[:channels], x_CN.var(1, correction=0))


def test_evaluating_the_calibration_batch_gives_what_training_computes_on_it(supernet):
    (images,) = batches(16)
    calibrate(supernet, [images])
    with torch.no_grad():
        torch.testing.assert_close(supernet.eval()(images), supernet.train()(images))


def test_only_the_leading_entries_of_active_layers_change(supernet):
    buffers = {name: tensor.clone() for name, tensor in supernet.named_buffers()}
    supernet.activate(supernet.smallest)
    calibrate(supernet, batches(16))
    changed = {
        name: tensor != buffers[name]
        for name, tensor in supernet.named_buffers()
        if not torch.equal(tensor, buffers[name])
    }
    assert not any("block2" in name for name in changed)
    mean = changed["stages.stage3.block1.project.norm.running_mean"]
    assert mean.tolist() == [True] * 8 + [False] * 32


def test_weights_modes_and_gradients_stay(supernet):
    weights = {name: p.clone() for name, p in supernet.named_parameters()}
    supernet.train()
    supernet.stem.eval()
    modes = [module.training for module in supernet.modules()]
    calibrate(supernet, batches(4, 4))
    assert [module.training for module in supernet.modules()] == modes
    for name, parameter in supernet.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None
    assert not any(module._forward_pre_hooks for module in supernet.modules())


def test_calibrating_again_forgets_the_first_time(supernet):
    first, second = batches(16, 16)
    calibrate(supernet, [first])
    calibrate(supernet, [second])
    again = {name: tensor.clone() for name, tensor in supernet.named_buffers()}
    fresh = SUPERNETS["mobilenet_v3"].build(seed=3)
    fresh.activate(supernet.architecture)
    calibrate(fresh, [second])
    for name, tensor in fresh.named_buffers():
        assert torch.equal(tensor, again[name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "at least one batch"),
        ([(torch.zeros(4, 1, 8, 8), torch.zeros(4))], "without their targets.* is a tuple"),
        ([torch.zeros(4, 1, 8, 8), [torch.zeros(4, 1, 8, 8)]], "is a list"),
    ],
)
def test_what_are_no_batches_is_refused(supernet, wrong, message):
    buffers = {name: tensor.clone() for name, tensor in supernet.named_buffers()}
    supernet.train()
    with pytest.raises(RequestError, match=message):
        calibrate(supernet, wrong)
    for name, tensor in supernet.named_buffers():
        assert torch.equal(tensor, buffers[name])
    assert all(module.training for module in supernet.modules())


def test_a_network_without_batch_normalization_needs_nothing():
    network = nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    calibrate(network, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
