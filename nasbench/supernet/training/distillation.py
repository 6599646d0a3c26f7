"""Distillation losses: a sub-network learns from another network's predictions or features.

Every loss is a sum over targets, of which those that are `IGNORED` are left out; no gradient flows
into the teacher; and all are computed in float32.

Shape legend: N targets that count (samples, or tokens of all samples), C classes, F features, ...
what comes before classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench.config import DistillationConfig
from nasbench.tasks.base import IGNORED


def distillation_loss(
    student: Tensor, teacher: Tensor, targets: Tensor, config: DistillationConfig
) -> Tensor:
    """The configured loss of logits (..., C) against a teacher's, summed over all targets."""
    student_NC = _that_count(student, targets).float() / config.temperature
    teacher_NC = _that_count(teacher.detach(), targets).float() / config.temperature
    loss = {"soft_targets": soft_cross_entropy, "alpha_divergence": adaptive_alpha_divergence}
    return config.temperature**2 * loss[config.loss](student_NC, teacher_NC)


def _that_count(values: Tensor, targets: Tensor) -> Tensor:
    """The rows (N, C) of (..., C) whose target is one."""
    rows = values.reshape(-1, values.shape[-1])
    if targets.dtype != torch.int64:  # probabilities of mixed images, none of which is padding
        return rows
    counts = targets.flatten() != IGNORED
    return rows if bool(counts.all()) else rows[counts]


def soft_cross_entropy(student_NC: Tensor, teacher_NC: Tensor) -> Tensor:
    """Cross-entropy of the student's logits to the teacher's probabilities, in nats, summed.

    Hinton et al., Distilling the Knowledge in a Neural Network (2015). Its gradient is that of
    KL(teacher || student); its value exceeds that by the teacher's entropy. With logits divided
    by a temperature T, T^2 times the loss has gradients of the same size at every temperature.
    """
    return F.cross_entropy(student_NC, teacher_NC.detach().softmax(dim=1), reduction="sum")


def alpha_divergence(student_NC: Tensor, teacher_NC: Tensor, alpha: float) -> Tensor:
    """D_alpha(teacher || student) = sum_i q_i [(p_i / q_i)^alpha - 1] / (alpha (alpha - 1)): (N,).

    Minka, Divergence Measures and Message Passing (2005); KL(p || q) in the limit alpha = 1 and
    KL(q || p) at alpha = 0. Ratios are exponentials of differences of logarithms, which stay finite
    where a probability rounds to zero.
    """
    log_p, log_q = teacher_NC.detach().log_softmax(dim=1), student_NC.log_softmax(dim=1)
    if alpha == 1:
        return (log_p.exp() * (log_p - log_q)).sum(dim=1)
    if alpha == 0:
        return (log_q.exp() * (log_q - log_p)).sum(dim=1)
    ratio_NC = (alpha * (log_p - log_q)).exp().clamp(max=RATIO_LIMIT)
    return (log_q.exp() * (ratio_NC - 1)).sum(dim=1) / (alpha * (alpha - 1))


ALPHA_MIN, ALPHA_MAX, RATIO_LIMIT = -1.0, 1.0, 5.0


def adaptive_alpha_divergence(student_NC: Tensor, teacher_NC: Tensor) -> Tensor:
    """For each target the larger of the divergences at `ALPHA_MIN` and `ALPHA_MAX`, summed.

    Wang et al., AlphaNet: Improved Training of Supernets with Alpha-Divergence (ICML 2021): a
    negative alpha punishes a student that is sure where the teacher is not, a positive one a
    student that misses what the teacher sees. (p / q)^alpha is clamped at `RATIO_LIMIT`, but for
    alpha = 1 as in the released code. What is returned has the gradient of the divergence,
    - sum_i q_i rho_i grad log q_i with rho_i = (p_i / q_i)^alpha / alpha (a constant term drops
    out); where the ratio is clamped, its gradient is that of the clamped rho held fixed.
    """
    log_q = student_NC.log_softmax(dim=1)
    with torch.no_grad():
        p_NC, q_NC = teacher_NC.softmax(dim=1), log_q.exp()
        ratio_NC = (ALPHA_MIN * (teacher_NC.log_softmax(dim=1) - log_q)).exp()
        is_upper_N = alpha_divergence(student_NC, teacher_NC, ALPHA_MAX) >= alpha_divergence(
            student_NC, teacher_NC, ALPHA_MIN
        )
        lower_NC = q_NC * ratio_NC.clamp(max=RATIO_LIMIT) / ALPHA_MIN
        weight_NC = torch.where(is_upper_N[:, None], p_NC, lower_NC)
    return -(weight_NC * log_q).sum()


def feature_loss(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of the last features, (..., F), summed over all targets.

    After Romero et al., FitNets (ICLR 2015), without their learned map: a narrower sub-network has
    the leading features, which are made by the same weights, so it is compared with those.
    """
    width = min(student.shape[-1], teacher.shape[-1])
    difference = student[..., :width].float() - teacher[..., :width].detach().float()
    squared = difference.square().mean(dim=-1)
    return squared[targets != IGNORED].sum() if targets.dtype == torch.int64 else squared.sum()
