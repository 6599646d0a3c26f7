"""The processes that train one supernet together, each on its part of every batch.

They are torch.distributed's, where that was initialized, and otherwise this process alone. All have
the same weights and train the same sub-networks, so after the gradients are summed every one makes
the same step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_is_alone = ContextVar("is_alone", default=False)


def num_replicas() -> int:
    """How many there are."""
    if not dist.is_available() or not dist.is_initialized() or _is_alone.get():
        return 1
    return dist.get_world_size()


def replica() -> int:
    """Which one this is, from 0."""
    return dist.get_rank() if num_replicas() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """In the block this process computes by itself: the others do not take part."""
    token = _is_alone.set(True)
    try:
        yield
    finally:
        _is_alone.reset(token)


def sum_over_replicas(tensors: Sequence[Tensor]) -> None:
    """Add up each tensor over all replicas, in place; one exchange for each type of number."""
    if num_replicas() == 1:
        return
    for dtype in {tensor.dtype: None for tensor in tensors}:  # in the same order everywhere
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in same])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in same])
        for tensor, part in zip(same, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


class JointBatchNorm(torch.autograd.Function):
    """Batch normalization by the statistics of the whole batch, of which each replica has a part.

    Ioffe and Szegedy, Batch Normalization (ICML 2015), over all replicas. Forward exchanges mean
    and variance, pooled exactly; backward the two sums of its gradient.

    Shape legend: B samples of a replica, C channels, H height, W width, R replicas.
    """

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float) -> Tensor:
        """Normalize; every replica has the same number of samples."""
        x = x_BCHW.float()
        mean_C = x.mean((0, 2, 3))  # two passes: six times faster than torch.var_mean
        var_C = (x - mean_C[:, None, None]).square_().mean((0, 2, 3))
        moments_R2C = [
            torch.empty(2, len(mean_C), device=x_BCHW.device) for _ in range(num_replicas())
        ]
        dist.all_gather(moments_R2C, torch.stack((mean_C, var_C)).to(moments_R2C[0]))
        means_RC, vars_RC = torch.stack(moments_R2C).unbind(1)
        mean_C = means_RC.mean(0)
        var_C = (vars_RC + (means_RC - mean_C) ** 2).mean(0)
        inverse_std_C = (var_C + eps).rsqrt()
        ctx.save_for_backward(x_BCHW, weight_C, mean_C, inverse_std_C)
        ctx.eps = eps
        return torch.batch_norm(x_BCHW, weight_C, bias_C, mean_C, var_C, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of torch's own, corrected from the part's sums to the whole batch's."""
        (grad_BCHW,) = gradients
        x_BCHW, weight_C, mean_C, inverse_std_C = ctx.saved_tensors
        own_BCHW, weight_grad_C, bias_grad_C = torch.ops.aten.native_batch_norm_backward(
            grad_BCHW,
            x_BCHW,
            weight_C,
            None,
            None,
            mean_C,
            inverse_std_C,
            True,
            ctx.eps,
            [True, True, True],
        )
        count = x_BCHW.numel() // x_BCHW.shape[1]
        whole_2C = torch.stack((weight_grad_C, bias_grad_C))
        dist.all_reduce(whole_2C)
        own_2C = torch.stack((weight_grad_C, bias_grad_C)) / count
        missing_2C = own_2C - whole_2C / (count * num_replicas())
        scale_C = weight_C * inverse_std_C
        slope_C = scale_C * inverse_std_C * missing_2C[0]
        offset_C = scale_C * missing_2C[1] - slope_C * mean_C
        shape = (1, -1, 1, 1)
        whole_BCHW = torch.addcmul(own_BCHW + offset_C.view(shape), x_BCHW, slope_C.view(shape))
        return whole_BCHW, weight_grad_C, bias_grad_C, None
