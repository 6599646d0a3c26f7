"""Zero-cost features: what a network says of its accuracy before it has been trained.

    features = ZeroCost(supernet, inputs, targets, fresh_seed=0)
    encoding = joined(OneHot(space), Described(space, features))
    PREDICTORS["gp"](space, encoding=encoding)

They cost a few passes of one batch for each network, thousands of times what an encoding of the
choices costs; and none ranks well everywhere (Abdelfattah et al., Zero-Cost Proxies for Lightweight
NAS, ICLR 2021). So they are features for a predictor to weigh, and no predictor takes them unasked.
"""

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.space import Architecture
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.base import Supernet

_NORMS = (nn.BatchNorm2d, nn.LayerNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_JITTER = 1e-5  # that of the published code

Loss = Callable[[Tensor, Tensor], Tensor]


def zero_cost_features(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    targets: Tensor,
    *,
    loss: Loss = F.cross_entropy,
) -> dict[str, float]:
    """Features of a plain network, which is left as it is.

    Args:
        inputs: one batch of at least two samples.
        targets: what `loss` compares the outputs with.

    Returns:
        `log_num_parameters`; `log_gradient_norm`, of the sum over parameter tensors of the loss
        gradient's norm; `log_synflow` (Tanaka et al., NeurIPS 2020); and for images
        `jacobian_covariance` (Mellor et al., ICML 2021, its first version), higher where the
        network treats the samples more differently.

    Raises:
        RequestError: for a batch of one sample, or a feature that is no finite number.
    """
    if len(inputs[0]) < 2:
        raise RequestError("zero-cost features compare samples; give a batch of at least two")
    num_parameters = torch.tensor(float(sum(p.numel() for p in network.parameters())))
    found = {
        "log_num_parameters": num_parameters.log(),
        "log_gradient_norm": _gradient_norm(network, inputs, targets, loss).log(),
        "log_synflow": _synflow(network, inputs).log(),
    }
    if inputs[0].is_floating_point():
        found["jacobian_covariance"] = _jacobian_covariance(network, inputs)
    for name, value in found.items():
        if not torch.isfinite(value):
            raise RequestError(f"the network's {name} is {float(value)}; leave this network out")
    return {name: float(value) for name, value in found.items()}


class ZeroCost:
    """Zero-cost features of the sub-networks of a supernet; each is computed once.

    Args:
        supernet: whose sub-networks are asked for.
        inputs: one batch.
        targets: of it.
        fresh_seed: give each sub-network fresh weights from this seed; None takes its share of the
            supernet's.
    """

    def __init__(
        self,
        supernet: Supernet[Any],
        inputs: tuple[Tensor, ...],
        targets: Tensor,
        *,
        fresh_seed: int | None = None,
        loss: Loss = F.cross_entropy,
    ) -> None:
        self._supernet, self._seed = supernet, fresh_seed
        self._batch, self._loss = (inputs, targets), loss
        self._remembered = lru_cache(maxsize=10_000)(self._compute)

    def __call__(self, architecture: Architecture) -> Mapping[str, float]:
        """Features by name; RequestError if the architecture is none of the supernet's."""
        return self._remembered(architecture)

    def _compute(self, architecture: Architecture) -> dict[str, float]:
        if self._seed is None:
            network = self._supernet.extract(architecture)
        else:
            network = NetworkAlone.of(self._supernet, architecture, seed=self._seed).network
        return zero_cost_features(network, *self._batch, loss=self._loss)


def _as_in_training(network: nn.Module) -> nn.Module:
    """A copy that normalizes with the statistics of its batch and leaves nothing out."""
    copied = copy.deepcopy(network).train().requires_grad_(True)
    for module in copied.modules():
        if isinstance(module, _DROPOUTS):
            module.eval()
    return copied


def _gradient_norm(
    network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor, loss: Loss
) -> Tensor:
    trained = _as_in_training(network)
    with torch.enable_grad():
        loss(trained(*inputs), targets).backward()
    norms = [p.grad.norm() for p in trained.parameters() if p.grad is not None]
    return torch.stack(norms).sum()


def _jacobian_covariance(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    trained = _as_in_training(network)
    first = inputs[0].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        output = trained(first, *inputs[1:])
        (jacobian,) = torch.autograd.grad(output.sum(), first)
    correlation_BB = torch.corrcoef(jacobian.flatten(1).double()).nan_to_num(0.0)
    eigenvalues_B = torch.linalg.eigvalsh(correlation_BB).clamp(min=0.0) + _JITTER
    return -(eigenvalues_B.log() + 1.0 / eigenvalues_B).sum()


@torch.no_grad()
def _synflow(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Sum over parameters of |parameter x gradient| of what ones become under absolute weights.

    Without normalization, which would undo what a width adds.
    """
    linear = copy.deepcopy(network).eval().double().requires_grad_(True)
    for module in list(linear.modules()):
        for name, child in module.named_children():
            if isinstance(child, _NORMS):
                setattr(module, name, nn.Identity())
    for parameter in linear.parameters():
        parameter.abs_()
    ones = tuple(
        torch.ones_like(x[:1], dtype=torch.float64) if x.is_floating_point() else x[:1]
        for x in inputs
    )
    with torch.enable_grad():
        linear(*ones).sum().backward()
    flows = [(p * p.grad).abs().sum() for p in linear.parameters() if p.grad is not None]
    return torch.stack(flows).sum()
