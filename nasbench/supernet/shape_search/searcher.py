"""The search: a step of the weights on one half of the training data, a step of the logits on the
other, in turn.

First-order, as in DARTS (Liu et al., ICLR 2019) and TAS: the step of the logits takes the weights
as they are. Everything random in an epoch follows from (seed, epoch) and everything random in a
step from (seed, step), so a search that was killed and resumed finds the shape of one that was not.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from nasbench.config import ShapeSearchConfig, TrainingConfig
from nasbench.errors import RequestError, WorkError
from nasbench.space import Architecture, Choice
from nasbench.supernet.shape_search.cost import ExpectedCost, Regime, cost_loss, cost_regime
from nasbench.supernet.shape_search.network import TransformableNetwork
from nasbench.supernet.sharing import recorded_slices
from nasbench.supernet.threads import torch_threads
from nasbench.supernet.training.checkpoint import Checkpoint, load_latest, save_checkpoint
from nasbench.supernet.training.checks import training_device
from nasbench.supernet.training.optimization import (
    build_optimizer,
    learning_rate_share,
    optimizer_tensors,
    restore_optimizer,
    untrained_kept,
)
from nasbench.tasks import Batch, Task
from nasbench.tasks.base import prefetched, summed_cross_entropy

_BETAS = (0.5, 0.999)  # of the logits' Adam, in the paper's code


@dataclass(frozen=True, slots=True)
class ShapeRecord:
    """What an epoch came to.

    Args:
        epoch: from 1.
        architecture: the last shape in it that was the likeliest and met the target, grown to the
            target; where none did, the likeliest at its end.
        cost: its share of the unpruned network's.
        expected_cost: that of the distribution.
        loss: of the shape by the mixed weights, in nats per target, on samples that weights never
            learn from.
        weight_loss: mean of the epoch's weight steps, in nats per target.
        temperature: at the epoch's end.
    """

    epoch: int
    architecture: Mapping[str, Choice]
    cost: float
    expected_cost: float
    loss: float
    weight_loss: float
    temperature: float


@dataclass(frozen=True, slots=True)
class FoundShape:
    """What a search found.

    Args:
        architecture: the shape.
        cost: its share of the unpruned network's.
        history: what each epoch came to.
    """

    architecture: Architecture
    cost: float
    history: tuple[ShapeRecord, ...]


def search_shape(
    network: TransformableNetwork,
    task: Task,
    training: TrainingConfig,
    config: ShapeSearchConfig,
    cost: ExpectedCost,
    *,
    target: float,
    seed: int,
    folder: Path,
    fingerprint: str,
    on_epoch: Callable[[ShapeRecord], None] | None = None,
) -> FoundShape:
    """Learn a shape, or carry on from the last checkpoint in `folder`.

    Of each epoch the last shape is kept that was the likeliest and whose cost was at most the
    target, and no more than the tolerance below it; it is grown to the target by the logits. Of
    those shapes the one of the lowest loss on samples of the second half is found. Where there is
    none, training was too short to get there, and it is the one that came nearest.

    Args:
        network: fresh.
        task: of whose training data one half trains weights and the other logits.
        training: optimizer, batch size and schedule of the weights.
        config: the rest.
        cost: of shapes.
        target: the cost wanted, as a share of the largest shape's.
        seed: of the halves, data order, augmentation and what is drawn of the distribution.
        folder: where checkpoints are kept.
        fingerprint: of everything that the search depends on.
        on_epoch: called after each epoch.

    Raises:
        RequestError: if half of the training data is smaller than a batch, the device is missing,
            or the last checkpoint is damaged or belongs to another search.
        WorkError: if a loss is not finite; the last checkpoint is kept.
    """
    device = training_device(training)
    network.to(device)
    devices = [device] if device.type == "cuda" else []
    with torch_threads(training.num_threads), torch.random.fork_rng(devices):
        search = _Search(
            network, task, training, config, cost, target, seed, folder, fingerprint, device
        )
        search.run(on_epoch)
    return chosen_shape(search.history, target, config.tolerance, network.supernet.space.canonical)


def chosen_shape(
    history: Sequence[ShapeRecord],
    target: float,
    tolerance: float,
    canonical: Callable[[Mapping[str, Choice]], Architecture],
) -> FoundShape:
    """The best of the epochs' shapes that meet the target, or the one that came nearest."""
    fitting = [r for r in history if cost_regime(r.cost, target, tolerance) == "none"]
    if fitting:
        best = min(fitting, key=lambda record: record.loss)
    else:
        best = min(history, key=lambda r: max(r.cost - target, target - tolerance - r.cost))
    return FoundShape(canonical(best.architecture), best.cost, tuple(history))


class _Search:
    """A search under way."""

    def __init__(
        self,
        network: TransformableNetwork,
        task: Task,
        training: TrainingConfig,
        config: ShapeSearchConfig,
        cost: ExpectedCost,
        target: float,
        seed: int,
        folder: Path,
        fingerprint: str,
        device: torch.device,
    ) -> None:
        self.network, self.task, self.training, self.config = network, task, training, config
        self.cost, self.target, self.seed, self.device = cost, target, seed, device
        self.folder, self.fingerprint = folder, fingerprint
        self.largest_cost = cost.largest()
        order = torch.from_numpy(
            np.random.default_rng(seed).permutation(len(task.splits["train"]))
        ).long()
        self.halves = order.chunk(2)
        self.steps_per_epoch = len(self.halves[-1]) // training.batch_size
        if self.steps_per_epoch == 0:
            raise RequestError(
                f"a batch of {training.batch_size} exceeds half of the {len(order)} training "
                f"samples of task '{task.name}'; lower training.batch_size"
            )
        self.num_steps = config.epochs * self.steps_per_epoch
        self.history: list[ShapeRecord] = []
        self.weights = build_optimizer(network.supernet, training)
        self.logits = Adam(
            network.distribution.parameters(),
            lr=config.logits_learning_rate,
            betas=_BETAS,
            weight_decay=config.logits_weight_decay,
        )

    def run(self, on_epoch: Callable[[ShapeRecord], None] | None) -> None:
        """Do the epochs that are left."""
        self._resume()
        for epoch in range(len(self.history), self.config.epochs):
            self._train_epoch(epoch)
            self._save()
            if on_epoch is not None:
                on_epoch(self.history[-1])

    # -- state ---------------------------------------------------------------------------------

    def _resume(self) -> None:
        checkpoint = load_latest(self.folder, self.fingerprint)
        if checkpoint is None:
            return
        self.network.load_state_dict(dict(checkpoint.weights))
        for optimizer, prefix in self._optimizers():
            own = {n: t for n, t in checkpoint.optimizer.items() if n.startswith(prefix)}
            restore_optimizer(optimizer, self.network, own)
        self.history = [ShapeRecord(**record) for record in checkpoint.history]

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for optimizer, _ in self._optimizers():
            tensors |= optimizer_tensors(optimizer, self.network)
        checkpoint = Checkpoint(
            step=len(self.history) * self.steps_per_epoch,
            is_final=len(self.history) == self.config.epochs,
            fingerprint=self.fingerprint,
            weights=self.network.state_dict(),
            optimizer=tensors,
            history=tuple(asdict(record) for record in self.history),
        )
        save_checkpoint(self.folder, checkpoint)

    def _optimizers(self) -> tuple[tuple[torch.optim.Optimizer, str], ...]:
        return (self.weights, "supernet."), (self.logits, "distribution.")

    # -- data ----------------------------------------------------------------------------------

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, Batch]]:
        """Pairs of a batch of the first half and one of the second, augmented alike."""
        rng = np.random.default_rng([self.seed, epoch, 0])
        shuffled = [half[torch.from_numpy(rng.permutation(len(half)))] for half in self.halves]
        size, num_draws = self.training.batch_size, self.task.num_draws
        for step in range(self.steps_per_epoch):
            first, second = (
                self.task.load(
                    "train",
                    half[step * size : (step + 1) * size],
                    torch.from_numpy(rng.random((size, num_draws))),
                )
                for half in shuffled
            )
            yield first, second

    # -- one epoch -----------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> None:
        losses: list[float] = []
        shape: Architecture | None = None
        batches = prefetched(self._batches(epoch))
        try:
            for number, (first, second) in enumerate(batches):
                step = epoch * self.steps_per_epoch + number
                rng = np.random.default_rng([self.seed, step, 1])
                torch.manual_seed(int(rng.integers(2**63)))
                generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
                temperature = self._temperature(step)
                losses.append(self._update_weights(first, step, temperature, generator))
                self._update_logits(second, temperature, generator)
                likeliest = self.network.distribution.argmax()
                if self._regime(likeliest) == "none":
                    shape = likeliest
        finally:
            batches.close()
        shape = shape or likeliest
        if self._regime(shape) == "none":
            shape = self.network.distribution.grown(
                shape, lambda larger: self._share(larger) <= self.target
            )
        with torch.no_grad():
            expected = float(self.cost(self.network.distribution.probabilities()))
        self.history.append(
            ShapeRecord(
                epoch=epoch + 1,
                architecture=dict(shape),
                cost=self._share(shape),
                expected_cost=expected / self.largest_cost,
                loss=self._loss_of(shape),
                weight_loss=float(np.mean(losses)),
                temperature=temperature,
            )
        )

    def _temperature(self, step: int) -> float:
        """From the largest to the smallest, linearly."""
        done = step / max(1, self.num_steps - 1)
        config = self.config
        return config.max_temperature + done * (config.min_temperature - config.max_temperature)

    def _update_weights(
        self, batch: Batch, step: int, temperature: float, generator: torch.Generator
    ) -> float:
        """One step of the weights; their loss per target."""
        config = self.training
        warmup = config.warmup_epochs / config.epochs * self.num_steps
        for group in self.weights.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(
                config, step, self.num_steps, warmup
            )
        with torch.no_grad():
            self.network.select(self.network.distribution.draw(temperature, generator))
        self.weights.zero_grad(set_to_none=True)
        with recorded_slices() as used:
            loss = self._loss(batch, config.label_smoothing)
        loss.backward()
        parameters = self.network.weight_parameters
        if config.gradient_clip_value is not None:
            nn.utils.clip_grad_value_(parameters, config.gradient_clip_value)
        norm = nn.utils.clip_grad_norm_(parameters, config.gradient_clip_norm or math.inf)
        self._check_finite(float(loss.detach()) + float(norm))
        with untrained_kept(self.weights, used):
            self.weights.step()
        return float(loss.detach())

    def _update_logits(self, batch: Batch, temperature: float, generator: torch.Generator) -> None:
        """One step of the logits, which leaves the weights as they are."""
        distribution = self.network.distribution
        parameters = self.network.weight_parameters
        for parameter in parameters:
            parameter.requires_grad_(False)
        regime = self._regime(distribution.argmax())
        self.network.select(distribution.draw(temperature, generator))
        loss = self._loss(batch)
        expected = self.cost(distribution.probabilities()) / self.largest_cost
        loss = loss + self.config.cost_weight * cost_loss(expected, regime).to(loss)
        self._check_finite(float(loss.detach()))
        self.logits.zero_grad(set_to_none=True)
        loss.backward()
        self.logits.step()
        for parameter in parameters:
            parameter.requires_grad_(True)

    def _share(self, shape: Architecture) -> float:
        """The cost of a shape, as a share of the largest's."""
        return self.cost.of(shape) / self.largest_cost

    def _regime(self, shape: Architecture) -> Regime:
        return cost_regime(self._share(shape), self.target, self.config.tolerance)

    def _loss(self, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy per target of what is selected."""
        batch = batch.to(self.device)
        dtype = getattr(torch, self.training.precision)
        is_mixed = self.training.precision != "float32"
        with torch.autocast(self.device.type, dtype, enabled=is_mixed):
            logits = self.network(*batch.inputs)
        return summed_cross_entropy(logits, batch.targets, label_smoothing) / len(batch.targets)

    @torch.no_grad()
    def _loss_of(self, shape: Architecture) -> float:
        """Cross-entropy per target of a shape, on the first samples of the second half."""
        self.network.select(self.network.distribution.one_hot(shape))
        indices = self.halves[1][: self.config.selection_samples]
        size = self.training.batch_size
        batches = [part for part in indices.split(size) if len(part) == size] or [indices]
        losses = [float(self._loss(self.task.load("train", part))) for part in batches]
        return float(np.mean(losses))

    def _check_finite(self, value: float) -> None:
        if not math.isfinite(value):
            raise WorkError(
                f"the loss of the shape search for {self.target:.0%} was not finite in epoch "
                f"{len(self.history) + 1}; the last checkpoint is kept, so lower "
                "training.learning_rate or raise shape_search.min_temperature and search in "
                "another output folder"
            )
