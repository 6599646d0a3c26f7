"""Each layer: its active slice, the gradient's reach, its extraction and its counts."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasbench.supernet.layers import (
    Counts,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticConvNorm,
    ElasticDepthwiseConv2d,
    ElasticLinear,
    ElasticSqueezeExcitation,
    round_channels,
)
from nasbench.supernet.sharing import LeadingSlices, leading


def random_tensor(*size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def disturbed(layer):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return layer


def reached(parameter):
    """Where the gradient is not zero."""
    return torch.zeros_like(parameter) != 0 if parameter.grad is None else parameter.grad != 0


def box(parameter, *slices):
    """True in the slices, False elsewhere."""
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    mask[slices] = True
    return mask


def test_leading_gives_a_view_or_the_tensor_itself():
    tensor = torch.arange(6.0).view(2, 3)
    assert leading(tensor, 2) is tensor
    assert leading(tensor, 2, 3) is tensor
    assert leading(tensor, 2, 2).tolist() == [[0, 1], [3, 4]]
    assert leading(tensor, 1).data_ptr() == tensor.data_ptr()


def test_leading_refuses_more_than_there_is():
    with pytest.raises(RuntimeError, match=r"the leading \(2, 4\) exceeds what there is, \(2, 3\)"):
        leading(torch.zeros(2, 3), 2, 4)


def test_remembered_slices_see_new_values_and_new_tensors():
    slices, first, second = LeadingSlices(), torch.zeros(3), torch.ones(3)
    with torch.no_grad():
        (view,) = slices((2,), first)
        assert slices((2,), first)[0] is view
        first.fill_(5)
        assert slices((2,), first)[0].tolist() == [5, 5]
        assert slices((2,), second)[0].tolist() == [1, 1]
        assert slices((1,), second)[0].tolist() == [1]
        assert len(slices((1,), second, first)) == 2


def test_slices_are_not_remembered_with_gradients():
    slices, weight = LeadingSlices(), torch.zeros(3, requires_grad=True)
    with torch.no_grad():
        slices((2,), weight)
    for _ in range(2):
        slices((2,), weight)[0].sum().backward()
    assert weight.grad.tolist() == [2, 2, 0]


def test_a_copy_of_a_layer_remembers_nothing():
    layer = ElasticLinear(5, 4)
    x_BI = random_tensor(7, 3)
    with torch.no_grad():
        unused = pickle.dumps(layer)
        before = layer(x_BI, 2)
        assert pickle.dumps(layer) == unused
        copied = copy.deepcopy(layer)
        copied.shared.weight.zero_()
        assert torch.equal(copied(x_BI, 2), torch.zeros(7, 2))
        assert torch.equal(layer(x_BI, 2), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_layer_that_moved_forgets_its_slices(dtype):
    layer, x_BI = ElasticLinear(5, 4), random_tensor(7, 3)
    with torch.no_grad():
        layer(x_BI, 2)
        assert layer.to(dtype)(x_BI.to(dtype), 2).dtype == dtype


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(1, 8), (12, 16), (16, 16), (18, 24), (19.2, 24), (28.8, 32), (134.4, 136)],
)
def test_channels_round_to_multiples_of_eight_and_never_far_below(channels, rounded):
    assert round_channels(channels) == rounded


@pytest.mark.parametrize("in_features", [3, 5])
@pytest.mark.parametrize("out_features", [1, 4])
def test_linear(in_features, out_features):
    layer = disturbed(ElasticLinear(5, 4))
    x_BI = random_tensor(7, in_features)
    y_BO = layer(x_BI, out_features)
    weight, bias = layer.shared.weight, layer.shared.bias
    torch.testing.assert_close(
        y_BO, x_BI @ weight[:out_features, :in_features].T + bias[:out_features]
    )
    y_BO.square().sum().backward()
    assert torch.equal(reached(weight), box(weight, slice(out_features), slice(in_features)))
    assert torch.equal(reached(bias), box(bias, slice(out_features)))

    plain = layer.extract(in_features, out_features)
    assert type(plain) is nn.Linear
    torch.testing.assert_close(plain(x_BI), y_BO)
    assert layer.count(in_features, out_features) == counts_of(plain, in_features * out_features)


def counts_of(module, num_macs):
    return Counts(sum(p.numel() for p in module.parameters()), num_macs)


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(2, 6), (4, 6), (4, 3), (2, 3)])
def test_convolution(kernel_size, stride, in_channels, out_channels):
    layer = ElasticConv2d(4, 6, kernel_size, stride=stride)
    x_BIHW = random_tensor(2, in_channels, 5, 5)
    y_BOHW = layer(x_BIHW, out_channels)
    weight = layer.shared.weight
    expected = F.conv2d(
        x_BIHW, weight[:out_channels, :in_channels], stride=stride, padding=kernel_size // 2
    )
    torch.testing.assert_close(y_BOHW, expected)
    y_BOHW.square().sum().backward()
    assert torch.equal(reached(weight), box(weight, slice(out_channels), slice(in_channels)))

    plain = layer.extract(in_channels, out_channels)
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain(x_BIHW), y_BOHW)
    pixels = y_BOHW[0, 0].numel()
    num_macs = in_channels * out_channels * kernel_size**2 * pixels
    assert layer.count(in_channels, out_channels, pixels) == counts_of(plain, num_macs)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 5])
def test_depthwise_convolution(kernel_size, stride, channels):
    layer = disturbed(ElasticDepthwiseConv2d(5, (3, 5, 7), stride=stride))
    x_BCHW = random_tensor(2, channels, 8, 8)
    y_BCHW = layer(x_BCHW, kernel_size)
    y_BCHW.square().sum().backward()
    side = max(kernel_size, 5)  # 3 is made of 5, which is made of the center of 7
    center = slice(1, 6) if side == 5 else slice(None)
    weight = layer.shared.weight
    assert torch.equal(reached(weight), box(weight, slice(channels), slice(None), center, center))
    transform_to_5, transform_to_3 = layer.transforms
    assert bool(reached(transform_to_5).any()) == (kernel_size < 7)
    assert bool(reached(transform_to_3).any()) == (kernel_size < 5)

    plain = layer.extract(channels, kernel_size)
    assert type(plain) is nn.Conv2d
    assert plain.kernel_size == (kernel_size, kernel_size)
    torch.testing.assert_close(plain(x_BCHW), y_BCHW)
    pixels = y_BCHW[0, 0].numel()
    num_macs = channels * kernel_size**2 * pixels
    assert layer.count(channels, kernel_size, pixels) == counts_of(plain, num_macs)


def test_a_new_depthwise_convolution_has_the_centers_of_its_largest_kernel():
    layer = ElasticDepthwiseConv2d(5, (3, 5, 7))
    largest = layer.shared.weight
    assert torch.equal(layer.extract(5, 7).weight, largest)
    assert torch.equal(layer.extract(5, 5).weight, largest[..., 1:6, 1:6])
    assert torch.equal(layer.extract(4, 3).weight, largest[:4, :, 2:5, 2:5])


def test_kernels_follow_the_chain_of_transforms():
    layer = disturbed(ElasticDepthwiseConv2d(5, (3, 5, 7)))
    to_5, to_3 = (torch.eye(len(change)) + change for change in layer.transforms)
    kernel_5 = (layer.shared.weight[..., 1:6, 1:6].reshape(5, 25) @ to_5).view(5, 1, 5, 5)
    kernel_3 = (kernel_5[..., 1:4, 1:4].reshape(5, 9) @ to_3).view(5, 1, 3, 3)
    torch.testing.assert_close(layer.extract(5, 5).weight, kernel_5)
    torch.testing.assert_close(layer.extract(5, 3).weight, kernel_3)


def test_one_kernel_size_needs_no_transform():
    layer = ElasticDepthwiseConv2d(4, (3,))
    assert len(layer.transforms) == 0
    assert layer(torch.zeros(1, 4, 6, 6), 3).shape == (1, 4, 6, 6)


@pytest.mark.parametrize("channels", [2, 5])
def test_batch_normalization_in_training_uses_the_batch_alone(channels):
    layer = disturbed(ElasticBatchNorm2d(5)).train()
    before = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    x_BCHW = 3 + 2 * random_tensor(4, channels, 3, 3)
    y_BCHW = layer(x_BCHW)
    var_C, mean_C = torch.var_mean(x_BCHW, dim=(0, 2, 3), correction=0)
    centered = (x_BCHW - mean_C[:, None, None]) / (var_C + layer.eps).sqrt()[:, None, None]
    weight, bias = layer.weight, layer.bias
    scaled = centered * weight[:channels, None, None] + bias[:channels, None, None]
    torch.testing.assert_close(y_BCHW, scaled)
    for name, tensor in layer.named_buffers():
        assert torch.equal(tensor, before[name])
    (y_BCHW * random_tensor(*y_BCHW.shape)).sum().backward()
    assert torch.equal(reached(weight), box(weight, slice(channels)))
    assert torch.equal(reached(bias), box(bias, slice(channels)))


@pytest.mark.parametrize("channels", [2, 5])
def test_batch_normalization_in_evaluation_uses_its_leading_statistics(channels):
    layer = disturbed(ElasticBatchNorm2d(5)).eval()
    x_BCHW = random_tensor(1, channels, 3, 3)
    plain = layer.extract(channels).eval()
    assert type(plain) is nn.BatchNorm2d
    assert torch.equal(plain.running_mean, layer.running_mean[:channels])
    assert torch.equal(plain.running_var, layer.running_var[:channels])
    torch.testing.assert_close(plain(x_BCHW), layer(x_BCHW))
    assert layer.count(channels) == counts_of(plain, 0)


def test_an_extracted_normalization_can_be_trained_on():
    plain = ElasticBatchNorm2d(5).extract(3).train()
    plain(random_tensor(4, 3, 2, 2))
    assert plain.num_batches_tracked == 1


@pytest.mark.parametrize("activation", ["relu", "hard_swish", None])
@pytest.mark.parametrize("is_depthwise", [True, False])
def test_convolution_with_normalization(is_depthwise, activation):
    if is_depthwise:
        conv, size, num_macs = ElasticDepthwiseConv2d(4, (3, 5)), 5, 3 * 25 * 16
    else:
        conv, size, num_macs = ElasticConv2d(4, 4), 2, 3 * 2 * 16
    layer = disturbed(ElasticConvNorm(conv, 4, activation)).eval()
    x_BIHW = random_tensor(2, 3, 4, 4)
    plain = layer.extract(3, size).eval()
    torch.testing.assert_close(plain(x_BIHW), layer(x_BIHW, size))
    assert len(plain) == (2 if activation is None else 3)
    assert layer.count(3, size, 16) == counts_of(plain, num_macs)


@pytest.mark.parametrize("channels", [16, 32, 64])
def test_squeeze_and_excitation(channels):
    layer = disturbed(ElasticSqueezeExcitation(64))
    x_BCHW = random_tensor(2, channels, 3, 3)
    plain = layer.extract(channels)
    torch.testing.assert_close(plain(x_BCHW), layer(x_BCHW))
    assert plain.squeeze.out_features == round_channels(channels / 4)
    num_macs = 2 * channels * round_channels(channels / 4)
    assert layer.count(channels) == counts_of(plain, num_macs)
