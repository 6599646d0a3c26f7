"""The optimizer and its learning rate, and the optimizer's state as named tensors."""

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from nasbench.config import TrainingConfig

_LOWEST_SHARE = 0.05
_EXPONENTIAL_ENDS_AT = 2 / 3  # of the steps


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """The configured optimizer; normalization parameters and biases do not decay."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return {"adamw": AdamW, "adam": Adam}[config.optimizer](groups, lr=config.learning_rate)


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
