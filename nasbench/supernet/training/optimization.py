"""The optimizer and its learning rate, and the optimizer's state as named tensors."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from nasbench.config import TrainingConfig
from nasbench.supernet.sharing import UsedSlices

_LOWEST_SHARE = 0.05
_EXPONENTIAL_ENDS_AT = 2 / 3  # of the steps


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """The configured optimizer; normalization parameters and biases do not decay.

    A submodule that has an attribute `learning_rate_factor` trains at that share of the rate.
    """
    factors = dict.fromkeys(module.parameters(), 1.0)
    for part in module.modules():
        factor = getattr(part, "learning_rate_factor", None)
        if isinstance(factor, int | float):
            factors |= dict.fromkeys(part.parameters(), factor)
    found: dict[tuple[float, bool], list[Tensor]] = {}
    for parameter, factor in factors.items():
        found.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "learning_rate_factor": factor,
        }
        for (factor, decays), parameters in found.items()
    ]
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return {"adamw": AdamW, "adam": Adam}[config.optimizer](groups, lr=config.learning_rate)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set that of every group, as far as each follows it."""
    for group in optimizer.param_groups:
        group["lr"] = group["learning_rate_factor"] * learning_rate


def learning_rate_share(config: TrainingConfig, step: int, num_steps: int, warmup: float) -> float:
    """The share of the full learning rate at a step: a linear warm-up, then the schedule.

    Args:
        step: from 0 to `num_steps` - 1.
        warmup: steps that the warm-up takes.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / (num_steps - warmup)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return 1 - done
    if config.schedule == "exponential":
        return max(_LOWEST_SHARE, _LOWEST_SHARE ** (done / _EXPONENTIAL_ENDS_AT))
    return 1.0


@contextmanager
def untrained_kept(optimizer: Optimizer, used: UsedSlices) -> Iterator[None]:
    """Let an optimizer step in this block change nothing that the slices in use do not hold.

    The gradient of what is outside of them is zero, which an optimizer takes for a gradient: it
    decays those weights, moves them by what earlier steps left in their moments, and lets these
    fade. As parameters without a gradient are skipped, so is what this keeps.
    """
    kept: list[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]] = []
    for parameter, slices in used.items():
        if any(sizes == parameter.shape[: len(sizes)] for sizes in slices):
            continue
        outside = torch.ones_like(parameter, dtype=torch.bool)
        for sizes in slices:
            outside[tuple(map(slice, sizes))] = False
        moments = _moments(optimizer, parameter)
        before = {name: moment[outside] for name, moment in moments.items()}
        kept.append((parameter, outside, parameter.detach()[outside], before))
    yield
    with torch.no_grad():
        for parameter, outside, weights, before in kept:
            parameter[outside] = weights
            for name, moment in _moments(optimizer, parameter).items():
                moment[outside] = before.get(name, moment.new_zeros(()))


def _moments(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimizer remembers for each entry of a parameter; nothing before its first step."""
    state = optimizer.state.get(parameter, {})
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim
    }


def optimizer_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as tensors named "PARAMETER:NAME"."""
    names: dict[Tensor, str] = {p: name for name, p in module.named_parameters()}
    return {
        f"{names[parameter]}:{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimizer the state that `optimizer_tensors` returned."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition(":")
        owner = parameters[parameter]
        is_counter = tensor.ndim == 0
        optimizer.state[owner][key] = tensor if is_counter else tensor.to(owner.device)
