"""The trainer: updates a supernet's weights on the sub-networks that a strategy chooses.

Everything random in an epoch follows from (seed, epoch) and everything random in a step from
(seed, step), so the state to save is weights, optimizer and the epoch: training that was killed and
resumed ends with the weights of training that was not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nasbench.config import TrainingConfig
from nasbench.errors import WorkError
from nasbench.supernet.base import Supernet
from nasbench.supernet.threads import torch_threads
from nasbench.supernet.training.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    load_latest,
    save_checkpoint,
)
from nasbench.supernet.training.distillation import soft_cross_entropy
from nasbench.supernet.training.strategies import STRATEGIES, Assignment
from nasbench.tasks import Task

EpochRecord = Mapping[str, Any]


def train_supernet(
    supernet: Supernet[Any],
    task: Task,
    config: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    fingerprint: str,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train, or carry on from the last checkpoint in `folder`.

    Args:
        supernet: its weights are updated in place.
        task: training data and loss.
        config: strategy, optimizer and schedule.
        seed: of data order, augmentation and sub-network sampling.
        folder: where checkpoints are kept.
        fingerprint: of everything that training depends on.
        on_epoch: called with the record of each finished epoch.

    Returns:
        One record per epoch: its number, the mean loss on the labels of the largest sub-network
        (nats) and the learning rate at its end.

    Raises:
        WorkError: if a loss is not finite; the last checkpoint is kept.
        RequestError: if the last checkpoint is damaged or belongs to other training.
    """
    with torch_threads(config.num_threads):
        training = _Training(supernet, task, config, seed, folder, fingerprint)
        training.resume()
        while len(training.history) < config.epochs:
            record = training.epoch()
            if on_epoch is not None:
                on_epoch(record)
    return training.history


class _Training:
    """Training under way: the optimizer and the record of finished epochs."""

    def __init__(
        self,
        supernet: Supernet[Any],
        task: Task,
        config: TrainingConfig,
        seed: int,
        folder: Path,
        fingerprint: str,
    ) -> None:
        self.supernet, self.task, self.config = supernet, task, config
        self.seed, self.folder, self.fingerprint = seed, folder, fingerprint
        self.strategy = STRATEGIES[config.strategy](supernet.space, config.num_random)
        self.optimizer = _optimizer(supernet, config)
        self.history: list[EpochRecord] = []

    def resume(self) -> None:
        """Go back to the last checkpoint, where there is one."""
        checkpoint = load_latest(self.folder, self.fingerprint)
        if checkpoint is not None:
            self.supernet.load_weights(checkpoint.weights)
            _restore_optimizer(self.optimizer, self.supernet, checkpoint.optimizer)
            self.history = list(checkpoint.history)

    def epoch(self) -> EpochRecord:
        """Train one epoch, and save it if a checkpoint is due."""
        config, epoch = self.config, len(self.history)
        steps_per_epoch = len(self.task.splits["train"]) // config.batch_size
        batches = self.task.training_batches(config.batch_size, seed=self.seed, epoch=epoch)
        losses = []
        self.supernet.train()
        for step, (inputs, targets_B) in enumerate(batches, start=epoch * steps_per_epoch):
            learning_rate = _learning_rate(config, step, steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            rng = np.random.default_rng([self.seed, step])
            loss = self.step(self.strategy.assignments(rng), inputs, targets_B)
            if not math.isfinite(loss):
                raise WorkError(self._not_finite(learning_rate))
            losses.append(loss)
        mean_loss = float(np.mean(losses))
        record = {"epoch": epoch + 1, "loss": mean_loss, "learning_rate": learning_rate}
        self.history.append(record)
        if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
            self.save()
        return record

    def save(self) -> None:
        """Write a checkpoint of the last finished epoch."""
        checkpoint = Checkpoint(
            epoch=len(self.history),
            fingerprint=self.fingerprint,
            weights=self.supernet.state_dict(),
            optimizer=_optimizer_tensors(self.optimizer, self.supernet),
            history=tuple(self.history),
        )
        save_checkpoint(self.folder, checkpoint)

    def step(self, assignments: Sequence[Assignment], inputs: Tensor, targets_B: Tensor) -> float:
        """One optimizer step over all assignments; the loss of the first one.

        The gradient is the sum of those of the single sub-networks. A loss that is not finite, or
        NaN for a gradient that is not, is returned before any weight is updated.
        """
        self.optimizer.zero_grad(set_to_none=True)
        first_loss = math.nan
        teacher_BC: Tensor | None = None
        for position, assignment in enumerate(assignments):
            self.supernet.activate(assignment.architecture)
            logits_BC = self.supernet(inputs)
            if assignment.target == "largest":
                assert teacher_BC is not None, "a strategy puts the largest first"
                loss = soft_cross_entropy(logits_BC, teacher_BC)
            else:
                loss = self.task.loss(logits_BC, targets_B, self.config.label_smoothing)
            if position == 0:
                first_loss, teacher_BC = float(loss.detach()), logits_BC.detach()
            if not torch.isfinite(loss):
                return float(loss.detach())
            (assignment.weight * loss).backward()
        limit = self.config.gradient_clip_norm
        norm = nn.utils.clip_grad_norm_(self.supernet.parameters(), limit)
        if not torch.isfinite(norm):
            return math.nan
        self.optimizer.step()
        return first_loss

    def _not_finite(self, learning_rate: float) -> str:
        saved = [
            r["epoch"] for r in self.history if checkpoint_folder(self.folder, r["epoch"]).exists()
        ]
        kept = (
            f"the checkpoint of epoch {saved[-1]} is kept"
            if saved
            else "there is no checkpoint yet"
        )
        return (
            f"the loss was not finite in epoch {len(self.history) + 1} at learning rate "
            f"{learning_rate:.2g}; {kept}, so lower training.learning_rate and train in another "
            "output folder"
        )


def _learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _optimizer(supernet: Supernet[Any], config: TrainingConfig) -> Optimizer:
    """AdamW; normalization parameters and biases do not decay."""
    matrices = [p for p in supernet.parameters() if p.ndim > 1]
    vectors = [p for p in supernet.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate)


def _optimizer_tensors(optimizer: Optimizer, supernet: Supernet[Any]) -> dict[str, Tensor]:
    """The optimizer's state as tensors named "PARAMETER:NAME"."""
    names: dict[Tensor, str] = {p: name for name, p in supernet.named_parameters()}
    return {
        f"{names[parameter]}:{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _restore_optimizer(
    optimizer: Optimizer, supernet: Supernet[Any], tensors: Mapping[str, Tensor]
) -> None:
    parameters = dict(supernet.named_parameters())
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition(":")
        optimizer.state[parameters[parameter]][key] = tensor
