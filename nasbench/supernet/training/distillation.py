"""Distillation losses: a sub-network learns from another network's predictions.

Shape legend: B samples, C classes.
"""

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Mean cross-entropy of the student's logits to the teacher's probabilities, in nats.

    Hinton et al., Distilling the Knowledge in a Neural Network (2015), at temperature 1. Its
    gradient is that of KL(teacher || student). No gradient flows into the teacher.
    """
    return F.cross_entropy(student_BC, teacher_BC.detach().softmax(dim=1))
