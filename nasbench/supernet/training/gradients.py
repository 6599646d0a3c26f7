"""The gradients of a step: what the sub-networks that it trains lose on a batch, differentiated.

A sub-network learns from labels, from predictions of the largest or of a teacher, and from their
features, as its assignment says. All losses are sums over targets, divided by those of the whole
batch; so the gradients of the batch's pieces add up to those of the batch.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.config import TrainingConfig
from nasbench.space import Architecture
from nasbench.supernet.attention import ElasticAttention
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import ElasticDropout
from nasbench.supernet.replicas import alone, sum_over_replicas
from nasbench.supernet.training.distillation import distillation_loss, feature_loss
from nasbench.supernet.training.strategies import Assignment, Contest, Exits
from nasbench.tasks import Batch
from nasbench.tasks.base import summed_cross_entropy


class Gradients:
    """Adds up the gradients of a supernet's weights, one piece of a step's batch at a time.

    Args:
        supernet: in training mode, on the device; which sub-network is active afterwards is open.
        scaler: multiplies losses where the precision is float16.
        teacher: what assignments call the teacher; None until there is one.

    Attributes:
        loss_of_guessing: per target, in nats, among the classes seen last; infinite before any.
    """

    def __init__(
        self,
        supernet: Supernet[Any],
        config: TrainingConfig,
        device: torch.device,
        scaler: torch.amp.GradScaler,
        teacher: nn.Module | None = None,
    ) -> None:
        self.supernet, self.config, self.device = supernet, config, device
        self.scaler, self.teacher = scaler, teacher
        self.loss_of_guessing = math.inf

    def settled(self, assignment: Assignment, batch: Batch, num_targets: int) -> Assignment:
        """The assignment with its contest decided, by the losses on the labels of this batch.

        Losses are compared to four digits, so that rounding, which depends on how a batch is
        divided, decides nothing; of equal ones the first wins.
        """
        contest = assignment.architecture
        if not isinstance(contest, Contest):
            return assignment
        set_dropout(self.supernet, is_active=False)
        losses = torch.zeros(len(contest.candidates), dtype=torch.float64, device=self.device)
        for number, candidate in enumerate(contest.candidates):
            self.supernet.activate(candidate)
            with torch.no_grad():
                logits, _ = self._forward(self.supernet, batch)
            losses[number] = summed_cross_entropy(logits, batch.targets)
        set_dropout(self.supernet, is_active=True)
        sum_over_replicas([losses])
        losses = (losses / num_targets).round(decimals=4)
        best = losses.argmin() if contest.winner == "lowest_loss" else losses.argmax()
        return replace(assignment, architecture=contest.candidates[int(best)])

    def add(
        self, assignments: Sequence[Assignment], batch: Batch, num_targets: int
    ) -> Iterator[tuple[Architecture, Tensor]]:
        """Add this piece's gradients; each sub-network, and its loss per target of the batch.

        That loss is on the labels, where it learns from them, and otherwise all of it. Each turn of
        the iterator trains one sub-network.
        """
        config, targets = self.config, batch.targets
        largest: tuple[Tensor, Tensor | None] | None = None
        teacher: tuple[Tensor, Tensor | None] | None = None
        if any(assignment.teacher for assignment in assignments):
            assert self.teacher is not None, "a phase with a teacher freezes one first"
            with torch.no_grad():
                teacher = self._forward(self.teacher, batch)
        for assignment in assignments:
            architecture = assignment.architecture
            assert not isinstance(architecture, Contest)
            if isinstance(architecture, Exits):
                yield architecture.deepest, self._add_exits(architecture, batch, num_targets)
                continue
            self.supernet.activate(architecture)
            set_dropout(self.supernet, is_active=assignment.is_regularized)
            logits, features = self._forward(self.supernet, batch)
            if largest is None:
                largest = logits.detach(), None if features is None else features.detach()
            on_labels = logits.new_zeros(())
            if assignment.labels:
                on_labels = summed_cross_entropy(logits, targets, config.label_smoothing)
            loss = assignment.labels * on_labels
            for weight, source in ((assignment.largest, largest), (assignment.teacher, teacher)):
                if weight:
                    assert source is not None, "a strategy puts the largest first"
                    loss = loss + weight * distillation_loss(
                        logits, source[0], targets, config.distillation
                    )
                    if features is not None and source[1] is not None:
                        matched = feature_loss(features, source[1], targets)
                        loss = loss + weight * config.distillation.feature_weight * matched
            self.scaler.scale(loss / num_targets).backward()
            self.loss_of_guessing = math.log(logits.shape[-1])
            yield architecture, (on_labels if assignment.labels else loss).detach() / num_targets
        set_dropout(self.supernet, is_active=True)

    def _add_exits(self, exits: Exits, batch: Batch, num_targets: int) -> Tensor:
        """Add the gradients of all depths of a sub-network; the loss of the deepest, per target."""
        self.supernet.activate(exits.deepest)
        with self._computing():
            outputs = self.supernet.forward_exits(*batch.inputs)
        loss = torch.zeros((), device=self.device)
        for weight, logits in zip(exits.weights, outputs.values(), strict=True):
            on_labels = summed_cross_entropy(logits, batch.targets, self.config.label_smoothing)
            loss = loss + weight * on_labels
            self.loss_of_guessing = math.log(logits.shape[-1])
        self.scaler.scale(loss / num_targets).backward()
        return on_labels.detach() / num_targets

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """In the configured precision, and normalizing with the other replicas or without them."""
        config = self.config
        is_mixed = config.precision != "float32"
        dtype = getattr(torch, config.precision)
        with (
            nullcontext() if config.sync_batch_norm else alone(),
            torch.autocast(self.device.type, dtype, enabled=is_mixed),
        ):
            yield

    def _forward(self, supernet: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits, and the last features where they are compared."""
        with self._computing():
            if not self.config.distillation.feature_weight:
                return supernet(*batch.inputs), None
            assert isinstance(supernet, Supernet)
            features: list[Tensor] = []
            tap = supernet.output_layer.register_forward_pre_hook(
                lambda _module, inputs: features.append(inputs[0])
            )
            logits = supernet(*batch.inputs)
            tap.remove()
            return logits, features[0]


def set_dropout(supernet: Supernet[Any], *, is_active: bool) -> None:
    """Let dropout drop, or not, while all else trains."""
    for module in supernet.modules():
        if isinstance(module, ElasticDropout | ElasticAttention):
            module.training = is_active
