"""Fine-tuning a pre-trained network as a supernet: the loss of InstaTune.

Sridhar et al., InstaTune: Instantaneous Neural Architecture Search During Fine-Tuning (2023), in
equation 1, where S is the largest sub-network, S_i the i-th of M random ones, and T a teacher:

    L = alpha [CE(S) + sum_i CE(S_i)]
        + (1 - alpha) {gamma KL(S, T) + sum_i [(1 - gamma) KL(S_i, S) + gamma KL(S_i, T)]}

with alpha 0.3 and M 1. Its two strategies are gamma 0, distillation in place, and gamma 1, a strong
teacher. What the paper leaves open, and how it is here:

    direction of KL     from the teacher to the student, whose gradient is that of the cross-entropy
                        to the teacher's probabilities; no gradient flows into the teacher
    temperature         its value is not given; `training.distillation.temperature`, by default 1
    the teacher         is "fine-tuned", of the same architecture. Here it is the largest
                        sub-network, which is fine-tuned alone for the first epochs and then frozen;
                        the supernet goes on from its weights, where the paper's starts from the
                        pre-trained ones
    which S_i           every choice of a dimension is as likely as the others
    a teacher at first  "optionally" only in the first epochs of distillation in place; not here
    dropout             only of the largest, as in BigNAS: a small sub-network has less to spare
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nasbench.errors import RequestError
from nasbench.supernet.nested.chain import Subnetworks
from nasbench.supernet.training.strategies import (
    Assignment,
    Phase,
    check_share,
    random_architectures,
)
from nasbench.tasks.options import check_whole_number


@dataclass(frozen=True)
class InstaTune:
    """The largest and random sub-networks, on the labels and a teacher's predictions.

    Args:
        alpha: the share of the labels in the loss.
        gamma: the share of the strong teacher; 0 distils in place and needs none.
        num_random: random sub-networks of a step, the paper's M.
        teacher_share: of the epochs, in which the largest is fine-tuned alone to be the strong
            teacher; they count as training, where the paper has them on top.
    """

    subnetworks: Subnetworks
    alpha: float = 0.3
    gamma: float = 0.0
    num_random: int = 1
    teacher_share: float = 0.4

    redraws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)
        check_share("gamma", self.gamma)
        check_share("teacher_share", self.teacher_share)
        check_whole_number("training.options.num_random", self.num_random, 1)
        if self.alpha == 0:
            raise RequestError("training.options.alpha is above 0: the largest learns from labels")

    def phases(self, num_epochs: int) -> list[Phase]:
        """One of all sub-networks; with a strong teacher, one of the largest alone before it.

        Raises:
            RequestError: if there is no epoch for the teacher.
        """
        if not self.gamma:
            return [Phase(name="elastic", num_epochs=num_epochs, assign=self._assign)]
        if num_epochs < 2:
            raise RequestError(
                "a strong teacher is fine-tuned first, so training.epochs is at least 2, not "
                f"{num_epochs}"
            )
        num_first = min(max(1, math.floor(self.teacher_share * num_epochs)), num_epochs - 1)
        return [
            Phase(name="teacher", num_epochs=num_first, assign=self._assign_teacher),
            Phase(
                name="elastic",
                num_epochs=num_epochs - num_first,
                assign=self._assign,
                preparations=("freeze_teacher",),
            ),
        ]

    def _assign_teacher(self, rng: np.random.Generator) -> list[Assignment]:  # noqa: ARG002
        return [Assignment(self.subnetworks.space.largest, labels=1.0)]

    def _assign(self, rng: np.random.Generator) -> list[Assignment]:
        space, distilled = self.subnetworks.space, 1 - self.alpha
        from_teacher, from_largest = distilled * self.gamma, distilled * (1 - self.gamma)
        return [
            Assignment(space.largest, labels=self.alpha, teacher=from_teacher),
            *(
                Assignment(
                    architecture,
                    labels=self.alpha,
                    largest=from_largest,
                    teacher=from_teacher,
                    is_regularized=False,
                )
                for architecture in random_architectures(space, self.num_random, rng)
            ),
        ]
