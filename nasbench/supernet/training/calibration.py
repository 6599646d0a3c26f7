"""Normalization statistics of one sub-network, computed anew before it is evaluated.

A supernet's sub-networks share the buffers of their normalization layers, and the statistics of
one are wrong for another. Yu and Huang (ICCV 2019) and Once-for-all (Cai et al., ICLR 2020)
recompute them per sub-network. We differ from the latter in pooling exactly: its average of the
batches' variances leaves out how far the batches' means are apart.

Shape legend: B batch, C channels, H height, W width.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import (
    NORM_STATISTICS,
    ElasticBatchNorm2d,
    normalization_layers,
)
from nasbench.supernet.sharing import leading


class Moments:
    """Mean and population variance per channel, pooled over everything added."""

    def __init__(self) -> None:
        self.count = 0
        self.mean_C = self.var_C = torch.zeros(())

    def add(self, x_BCHW: Tensor) -> None:
        """Pool with one more batch: the parallel combination of Chan, Golub and LeVeque (1979)."""
        mean_C = x_BCHW.mean((0, 2, 3))  # two passes: six times faster than torch.var_mean
        var_C = (x_BCHW - mean_C[:, None, None]).square_().mean((0, 2, 3))
        count = x_BCHW.numel() // x_BCHW.shape[1]
        self.count += count
        share = count / self.count
        delta_C = mean_C - self.mean_C
        self.var_C = (1 - share) * self.var_C + share * (var_C + (1 - share) * delta_C**2)
        self.mean_C = self.mean_C + share * delta_C


@torch.no_grad()
def calibrate(supernet: Supernet[Any], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Give the active sub-network the normalization statistics of these inputs.

    Each layer gets the exact mean and (population) variance of what it normalizes over all
    batches together, while each batch is normalized by its own statistics on the way. Weights and
    the train or eval mode of every module stay as they are.

    Args:
        batches: inputs of `supernet.forward`, without targets; training data.

    Returns:
        The statistics that were computed, by the name of their buffer: of the layers that run, and
        of as many channels as are active.

    Raises:
        RequestError: without batches, or for a batch that is no tensor; nothing has changed then.
    """
    layers = normalization_layers(supernet)
    if not layers:
        return {}
    norms = list(layers.values())
    moments: dict[ElasticBatchNorm2d, Moments] = defaultdict(Moments)
    with _normalizing_by_batch(supernet, norms), _observing(norms, moments):
        for batch in batches:
            if not isinstance(batch, Tensor):
                raise RequestError(
                    "calibration takes tensors of inputs, without their targets, "
                    f"but a batch is a {type(batch).__name__}"
                )
            supernet(batch)
    if not moments:
        raise RequestError("calibration needs at least one batch of inputs, but there was none")
    computed = {}
    for name, norm in layers.items():
        if norm in moments:
            statistics = (moments[norm].mean_C, moments[norm].var_C)
            for kind, statistic_C in zip(NORM_STATISTICS, statistics, strict=True):
                leading(norm.get_buffer(kind), len(statistic_C)).copy_(statistic_C)
                computed[f"{name}.{kind}"] = statistic_C
    return computed


@contextmanager
def _normalizing_by_batch(
    supernet: nn.Module, norms: Iterable[ElasticBatchNorm2d]
) -> Iterator[None]:
    """Put the normalization layers alone into train mode, and every module back at the end."""
    modes = {module: module.training for module in supernet.modules()}
    supernet.eval()
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _observing(
    norms: Iterable[ElasticBatchNorm2d], moments: Mapping[ElasticBatchNorm2d, Moments]
) -> Iterator[None]:
    """Add what each layer normalizes to its moments."""

    def add(norm: ElasticBatchNorm2d, inputs: tuple[Tensor]) -> None:
        moments[norm].add(inputs[0].to(norm.running_mean.dtype))

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
