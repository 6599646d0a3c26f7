"""The trainer: updates a supernet's weights on the sub-networks that a strategy chooses.

A step changes what it trained and nothing else: an entry of a weight that no sub-network of the
step used neither decays nor moves by the optimizer's memory of earlier steps.

Everything random in an epoch follows from (seed, epoch) and everything random in a step from
(seed, step), so the state to save is weights, optimizer and the number of steps: training that was
killed and resumed ends with the weights of training that was not.

A step's loss is a mean over all targets of its batch. The batch is shared by replicas (processes)
and computed in pieces (accumulation), each of which adds its part of the sum; so the step is the
same, to rounding, however it is divided. Only what looks at the samples of one piece alone differs:
batch normalization (over the pieces of all replicas, where it is synchronized, but not over
accumulated ones) and dropout.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.config import TrainingConfig
from nasbench.errors import WorkError
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.replicas import num_replicas, replica, sum_over_replicas
from nasbench.supernet.sharing import UsedSlices, recorded_slices
from nasbench.supernet.threads import torch_threads
from nasbench.supernet.training.checkpoint import (
    Checkpoint,
    latest_step,
    load_latest,
    save_checkpoint,
)
from nasbench.supernet.training.checks import check_training, training_device
from nasbench.supernet.training.gradients import Gradients, set_dropout
from nasbench.supernet.training.log import TrainingLog
from nasbench.supernet.training.monitor import look, quality
from nasbench.supernet.training.optimization import (
    build_optimizer,
    learning_rate_share,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
    untrained_kept,
)
from nasbench.supernet.training.phases import Teacher, phases_of, prepare_weights
from nasbench.supernet.training.strategies import Assignment, Phase, TrainingStrategy
from nasbench.tasks import Batch, Task
from nasbench.tasks.base import prefetched

EpochRecord = Mapping[str, Any]

_LOGGED_PER_EPOCH = 50
_COLLAPSED_FROM = 0.9  # of the loss of guessing: what was below and comes back has collapsed


@dataclass(frozen=True, slots=True)
class StepReport:
    """What is told after a step.

    Args:
        step: number of finished steps, of `num_steps`.
        epoch: number of the epoch under way, from 1.
        loss: of the step's first sub-network, per target, in nats where it learns from labels.
        looks: what was last measured of the largest, the smallest and a random sub-network.
    """

    step: int
    num_steps: int
    epoch: int
    loss: float
    looks: Mapping[str, Mapping[str, float]]


def train_supernet(
    supernet: Supernet[Any],
    task: Task,
    config: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    fingerprint: str,
    log_folder: Path | None = None,
    teacher: Teacher | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> list[EpochRecord]:
    """Train, or carry on from the last checkpoint in `folder`.

    Args:
        supernet: its weights are updated in place; ends with those that are to be searched.
        task: training data and loss.
        config: strategy, optimizer and schedule.
        seed: of data order, augmentation, dropout and sub-network sampling.
        folder: where checkpoints are kept; the same for all replicas.
        fingerprint: of everything that training depends on.
        log_folder: where TensorBoard's event files are kept; None writes none.
        teacher: what the network learns from beside the labels, for strategies that freeze no
            teacher of their own; a part of what the fingerprint has to name.
        on_step: called after each step.

    Returns:
        One record per epoch: its number, its phase, the mean loss of the first sub-network of its
        steps (the largest where the strategy trains it), the learning rate at its end, and what
        was measured of the sub-networks looked at.

    Raises:
        RequestError: if strategy, family, task or device do not fit, or the last checkpoint is
            damaged or belongs to other training.
        WorkError: if a loss is not finite or training has collapsed; the last checkpoint is kept.
    """
    device = training_device(config)
    strategy = check_training(supernet, task, config, device, teacher)
    supernet.to(device)
    if teacher is not None:
        teacher.network.to(device).eval()
    if config.channels_last:
        supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    devices = [device] if device.type == "cuda" else []
    with (
        torch_threads(config.num_threads),
        torch.random.fork_rng(devices),
        _determinism(config.deterministic),
    ):
        training = _Training(
            supernet, task, config, strategy, device, seed, folder, fingerprint, teacher
        )
        training.run(log_folder, on_step)
    supernet.cpu()
    return training.history


@contextmanager
def _determinism(is_wanted: bool) -> Iterator[None]:
    """Refuse operations whose result depends on timing, for the block."""
    if is_wanted:  # what cuBLAS asks for
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(is_wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class _Training:
    """Training under way."""

    def __init__(
        self,
        supernet: Supernet[Any],
        task: Task,
        config: TrainingConfig,
        strategy: TrainingStrategy,
        device: torch.device,
        seed: int,
        folder: Path,
        fingerprint: str,
        teacher: Teacher | None = None,
    ) -> None:
        self.supernet, self.task, self.config, self.device = supernet, task, config, device
        self.seed, self.folder, self.fingerprint = seed, folder, fingerprint
        self.redraws = strategy.redraws
        self.phases = phases_of(strategy, config, teacher)
        self.steps_per_epoch = task.num_batches(config.batch_size)
        self.num_steps = config.epochs * self.steps_per_epoch
        self.step = 0
        self.history: list[EpochRecord] = []
        self.losses: list[float] = []  # of the epoch under way
        self.looks: dict[str, dict[str, float]] = {}
        self.frozen: Supernet[Any] | None = None  # a teacher that training made, and has to keep
        self.average: dict[str, Tensor] = {}
        if config.averaging_decay is not None:
            self.average = {n: p.detach().clone() for n, p in supernet.named_parameters()}
        self.optimizer = build_optimizer(supernet, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        network = None if teacher is None else teacher.network
        self.gradients = Gradients(supernet, config, device, self.scaler, network)
        self.has_largest = self.has_labels = False  # of the last step's first sub-network
        self.looks_step = self.average_start = 0

    # -- from the first step to the last -------------------------------------------------------

    def run(self, log_folder: Path | None, on_step: Callable[[StepReport], None] | None) -> None:
        """Train what is left to train."""
        self._resume()
        if self.step < self.num_steps:
            log = None
            if log_folder is not None and replica() == 0:
                log = TrainingLog(log_folder, self.step + 1)
            try:
                self._train(log, on_step)
            finally:
                if log is not None:
                    log.close()
        self.supernet.load_state_dict(self.average, strict=False)

    def _train(self, log: TrainingLog | None, on_step: Callable[[StepReport], None] | None) -> None:
        config = self.config
        log_every = max(1, self.steps_per_epoch // _LOGGED_PER_EPOCH)
        self.supernet.train()
        batches = prefetched(self._batches())
        try:
            for pieces, num_targets in batches:
                phase, learning_rate = self._begin_step()
                loss = self._update(phase, pieces, num_targets)
                self.step += 1
                self.losses.append(loss)
                scalars = {"loss": loss, "learning_rate": learning_rate}
                is_last = self.step == self.num_steps
                is_looked_at = _is_due(config.monitor_every, self.step, self.steps_per_epoch)
                if is_looked_at or (is_last and config.monitor_every):
                    self._look()
                    scalars |= {
                        f"{metric}/{name}": value
                        for name, measured in self.looks.items()
                        for metric, value in measured.items()
                    }
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch(phase, learning_rate)
                is_checkpoint = _is_due(config.checkpoint_every, self.step, self.steps_per_epoch)
                if replica() == 0 and (is_checkpoint or is_last):
                    self._save(looked=len(scalars) > 2)
                if log is not None and (self.step % log_every == 0 or len(scalars) > 2):
                    log.add(self.step, scalars)
                if on_step is not None:
                    epoch = (self.step - 1) // self.steps_per_epoch + 1
                    on_step(StepReport(self.step, self.num_steps, epoch, loss, self.looks))
        finally:
            batches.close()

    def _batches(self) -> Iterator[tuple[list[Batch], int]]:
        """This replica's pieces of every batch that is left, and the targets of the whole batch."""
        config = self.config
        num_parts = num_replicas() * config.accumulation_steps
        start = self.step
        for epoch in range(start // self.steps_per_epoch, config.epochs):
            batches = self.task.epoch(config.batch_size, seed=self.seed, epoch=epoch)
            for number in range(start % self.steps_per_epoch, self.steps_per_epoch):
                parts = range(replica(), num_parts, num_replicas())
                pieces = [batches.load(number, part, num_parts) for part in parts]
                yield pieces, batches.num_targets(number)
            start = 0

    def _resume(self) -> None:
        """Go back to the last checkpoint, where there is one."""
        checkpoint = load_latest(self.folder, self.fingerprint)
        if checkpoint is None:
            return
        self.supernet.load_weights(checkpoint.weights)
        restore_optimizer(self.optimizer, self.supernet, checkpoint.optimizer)
        for name, tensor in checkpoint.average.items():
            self.average[name].copy_(tensor)
        if checkpoint.teacher:
            self._freeze_teacher().load_weights(checkpoint.teacher)
        self.step = checkpoint.step
        self.history = list(checkpoint.history)
        self.losses = list(checkpoint.progress["losses"])
        self.looks = checkpoint.progress["looks"]
        self.looks_step = checkpoint.progress["looks_step"]
        if checkpoint.progress["scaler"]:
            self.scaler.load_state_dict(checkpoint.progress["scaler"])

    def _save(self, *, looked: bool) -> None:
        """Write a checkpoint of the last finished step."""
        teacher = {} if self.frozen is None else self.frozen.state_dict()
        checkpoint = Checkpoint(
            step=self.step,
            is_final=self.step == self.num_steps,
            fingerprint=self.fingerprint,
            weights=self.supernet.state_dict(),
            optimizer=optimizer_tensors(self.optimizer, self.supernet),
            average=self.average,
            teacher=teacher,
            history=tuple(self.history),
            progress={
                "losses": self.losses,
                "looks": self.looks,
                "looks_step": self.looks_step,
                "scaler": self.scaler.state_dict(),
            },
            quality=quality(self.task, self.looks) if looked else None,
        )
        save_checkpoint(self.folder, checkpoint, keep=self.config.keep_checkpoints)

    def _look(self) -> None:
        """Measure a few sub-networks; of the average where one is kept."""
        rng = np.random.default_rng([self.seed, self.step, 1])
        if replica() == 0:
            with self._averaged():
                self.looks = look(self.supernet, self.task, self.config, rng)
                self.looks_step = self.step

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The moving average in the place of the weights, for the block."""
        own = {n: p.detach().clone() for n, p in self.supernet.named_parameters() if self.average}
        self.supernet.load_state_dict(self.average, strict=False)
        try:
            yield
        finally:
            self.supernet.load_state_dict(own, strict=False)

    def _end_epoch(self, phase: Phase, learning_rate: float) -> None:
        """Record the epoch; stop where training has collapsed."""
        loss = float(np.mean(self.losses))
        self.losses = []
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "phase": phase.name,
                "loss": loss,
                "learning_rate": learning_rate,
                "is_on_labels": self.has_labels,
                "looks": self.looks if self.looks_step > self.step - self.steps_per_epoch else {},
            }
        )
        if not self.has_labels:  # a loss on another network's predictions has no such bound
            return
        best = min(record["loss"] for record in self.history if record["is_on_labels"])
        guessing = self.gradients.loss_of_guessing
        if best < _COLLAPSED_FROM * guessing and loss >= guessing:
            first = "the largest sub-network" if self.has_largest else "the sub-networks"
            raise WorkError(
                f"training collapsed: in epoch {len(self.history)} the mean loss of "
                f"{first} was {loss:.3g}, no better than guessing "
                f"({guessing:.3g}), after it had been {best:.3g}; {self._advice()}"
            )

    # -- one step ------------------------------------------------------------------------------

    def _begin_step(self) -> tuple[Phase, float]:
        """The phase of the step that comes, prepared if it begins; set the learning rate."""
        config, start = self.config, 0
        for phase in self.phases:
            num_steps = phase.num_epochs * self.steps_per_epoch
            if phase.preparations:  # which change weights, so that the average begins anew
                self.average_start = start
            if self.step < start + num_steps:
                break
            start += num_steps
        if self.step == start:
            self._prepare(phase, is_first=start == 0)
        share = phase.num_epochs / config.epochs
        warmup = config.warmup_epochs * self.steps_per_epoch * share if phase.has_warmup else 0
        learning_rate = (
            config.learning_rate
            * phase.learning_rate_factor
            * learning_rate_share(config, self.step - start, num_steps, warmup)
        )
        set_learning_rate(self.optimizer, learning_rate)
        return phase, learning_rate

    def _prepare(self, phase: Phase, *, is_first: bool) -> None:
        """Do what comes before a phase; each begins with a fresh optimizer."""
        if "freeze_teacher" in phase.preparations:
            self._freeze_teacher()
        prepare_weights(self.supernet, phase)
        if phase.preparations and self.average:
            self.average = {n: p.detach().clone() for n, p in self.supernet.named_parameters()}
        if not is_first:
            self.optimizer = build_optimizer(self.supernet, self.config)

    def _freeze_teacher(self) -> Supernet[Any]:
        """Keep the largest sub-network, as it is now, as the teacher.

        It normalizes by the statistics of the batch, as in Once-for-all, and drops nothing out.
        """
        frozen = copy.deepcopy(self.supernet).requires_grad_(False).train()
        frozen.activate(frozen.largest)
        set_dropout(frozen, is_active=False)
        self.gradients.teacher = self.frozen = frozen
        return frozen

    def _update(self, phase: Phase, pieces: Sequence[Batch], num_targets: int) -> float:
        """One optimizer step; the loss per target of its first sub-network.

        Raises:
            WorkError: for a loss or gradient that is not finite; no weight has changed then.
        """
        rng = np.random.default_rng([self.seed, self.step])
        of_dropout = np.random.SeedSequence([self.seed, self.step, replica()])
        torch.manual_seed(int(of_dropout.generate_state(1, np.uint64)[0]) >> 1)
        self.optimizer.zero_grad(set_to_none=True)
        assignments: list[Assignment] = []
        trained: list[Architecture] = []
        losses: list[Tensor] = []
        is_first: list[bool] = []
        with recorded_slices() as used:
            for piece in pieces:
                batch = piece.to(self.device, channels_last=self.config.channels_last)
                if not assignments or self.redraws:
                    assignments = [
                        self.gradients.settled(a, batch, num_targets) for a in phase.assign(rng)
                    ]
                for position, (architecture, loss) in enumerate(
                    self.gradients.add(assignments, batch, num_targets)
                ):
                    trained.append(architecture)
                    losses.append(loss)
                    is_first.append(position == 0)
        self.has_largest = trained[0] == self.supernet.largest
        self.has_labels = assignments[0].labels > 0
        found = torch.stack(losses).double()
        gradients = [p.grad for p in self.supernet.parameters() if p.grad is not None]
        sum_over_replicas([*gradients, found])
        for architecture, value in zip(trained, found.tolist(), strict=True):
            if not math.isfinite(value):
                raise WorkError(self._not_finite(f"loss of {self._named(architecture)}"))
        self._apply(used)
        return float(found[torch.tensor(is_first)].sum())

    def _apply(self, used: UsedSlices) -> None:
        """Clip the gradients, update the weights that were used, and the average of all."""
        config = self.config
        parameters = list(self.supernet.parameters())
        self.scaler.unscale_(self.optimizer)
        if config.gradient_clip_value is not None:
            nn.utils.clip_grad_value_(parameters, config.gradient_clip_value)
        norm = nn.utils.clip_grad_norm_(parameters, config.gradient_clip_norm or math.inf)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            raise WorkError(self._not_finite("gradient"))
        with untrained_kept(self.optimizer, used):
            self.scaler.step(self.optimizer)  # leaves a step out where float16 overflowed
        self.scaler.update()
        if config.averaging_decay is not None:
            age = self.step - self.average_start  # what it starts with is soon forgotten
            decay = min(config.averaging_decay, (1 + age) / (10 + age))
            current = [parameter.detach() for parameter in parameters]
            torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    # -- what is said when training fails --------------------------------------------------------

    def _named(self, architecture: Architecture) -> str:
        space = self.supernet.space
        if architecture in (space.largest, space.smallest):
            size = "largest" if architecture == space.largest else "smallest"
            return f"the {size} sub-network"
        return f"sub-network {architecture.id} ({architecture.to_json()})"

    def _not_finite(self, what: str) -> str:
        learning_rate = self.optimizer.param_groups[0]["lr"]
        return (
            f"the {what} was not finite in epoch {self.step // self.steps_per_epoch + 1} at "
            f"learning rate {learning_rate:.2g}; {self._advice()}"
        )

    def _advice(self) -> str:
        kept = latest_step(self.folder)
        return (
            f"the checkpoint after step {kept} is kept" if kept else "there is no checkpoint yet"
        ) + ", so lower training.learning_rate and train in another output folder"


def _is_due(every: float, step: int, steps_per_epoch: int) -> bool:
    """Whether a multiple of `every` epochs has been reached with this step; never for 0."""
    interval = every * steps_per_epoch
    return interval > 0 and step // interval > (step - 1) // interval
