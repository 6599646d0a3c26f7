"""What every task offers: splits, batches in a stated order, a loss, and metrics.

A task hands out samples by index, so that who trains decides which process loads what: a step of a
thousand samples is the same step on one worker or on eight, in one piece or in four. All
randomness of a sample's augmentation comes from numbers in [0, 1) that belong to the sample and the
epoch, whoever loads it.

Shape legend: N samples of a split, B samples of a batch, R random numbers of a sample, C classes,
... the shape of one input or target.
"""

import hashlib
import math
import queue
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import RequestError

SplitName = Literal["train", "validation", "test"]
IGNORED = -100
"""A target of this value is none: padding, of which nothing is to be predicted."""

T = TypeVar("T")


class Batch(NamedTuple):
    """Some samples of a split.

    Args:
        inputs: what the network's `forward` takes, each with the samples first.
        targets: int64 class indices of shape (B, ...), or `IGNORED`; or float probabilities
            (B, C), where images are mixed.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def to(self, device: torch.device, *, channels_last: bool = False) -> "Batch":
        """The same batch on a device, images with channels last in memory where that is asked for.

        On the CPU they always are, as depthwise gradients take a quarter of the time so, and what
        a network is given decides how it computes all that follows.
        """
        inputs = tuple(tensor.to(device, non_blocking=True) for tensor in self.inputs)
        if channels_last or device.type == "cpu":
            inputs = tuple(
                x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs
            )
        return Batch(inputs, self.targets.to(device, non_blocking=True))


class Split(Protocol):
    """Samples of one purpose."""

    def __len__(self) -> int:
        """How many samples there are."""

    def digest(self) -> str:
        """Hash of the samples, which says whether two runs used the same split."""


class Task(ABC):
    """Data, its splits, and what is measured of a network on them.

    Attributes:
        name: the task's name in `TASKS`.
        metrics: what `evaluate` measures; the first is what people ask for.
        num_draws: R, the random numbers that augment one training sample.
        input_form: how a sample that a person has becomes an input, which an export keeps;
            None where only the task's own data can be read.

    Args:
        splits: "train", "validation" and "test"; disjoint.

    Raises:
        RequestError: for an empty split.
    """

    name: str
    metrics: tuple[str, ...]
    num_draws: int = 0
    input_form: Mapping[str, Any] | None = None

    def __init__(self, splits: Mapping[SplitName, Split]) -> None:
        self.splits = dict(splits)
        for name, split in self.splits.items():
            if len(split) == 0:
                raise RequestError(f"the {name} split of task '{self.name}' is empty")

    # -- what a task says ---------------------------------------------------------------------

    def attachments(self) -> dict[str, str]:
        """Name of a file -> its text: what `input_form` needs beside it."""
        return {}

    @property
    @abstractmethod
    def network_settings(self) -> dict[str, int]:
        """What the data decides about a network: settings of a supernet family's `build`."""

    @abstractmethod
    def load(self, split: SplitName, indices_B: Tensor, draws_BR: Tensor | None = None) -> Batch:
        """The samples of these indices, int64 (B,); with draws in [0, 1) they are augmented."""

    @abstractmethod
    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        batch_size: int,
        *,
        num_samples: int | None = None,
    ) -> dict[str, float]:
        """All of `metrics` of a model in eval mode on a split, or on its first `num_samples`."""

    def conditions(self) -> dict[str, str]:
        """How a metric is measured, by its name, where that has to be said beside its values."""
        return {}

    def num_targets(self, indices_B: Tensor) -> int:
        """How many targets these training samples have together; one each by default."""
        return len(indices_B)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """One epoch of training: the indices of each batch, all of exactly `batch_size`."""
        order = torch.randperm(len(self.splits["train"]), generator=generator)
        return list(order[: self.num_batches(batch_size) * batch_size].split(batch_size))

    def in_order(
        self, split: SplitName, batch_size: int, num_samples: int | None = None
    ) -> list[Tensor]:
        """Indices of batches of at most `batch_size` that cover the first `num_samples` once."""
        count = len(self.splits[split])
        return list(torch.arange(min(count, num_samples or count)).split(batch_size))

    # -- what every task does -----------------------------------------------------------------

    def digests(self) -> dict[str, str]:
        """The hash of every split."""
        return {name: split.digest() for name, split in self.splits.items()}

    def num_batches(self, batch_size: int) -> int:
        """Batches in an epoch; a rest smaller than one is left out.

        Raises:
            RequestError: if the training split is smaller than one batch.
        """
        count = len(self.splits["train"])
        if count < batch_size:
            raise RequestError(
                f"a batch of {batch_size} exceeds the {count} training samples of task "
                f"'{self.name}'; lower training.batch_size"
            )
        return count // batch_size

    def epoch(self, batch_size: int, *, seed: int, epoch: int) -> "Epoch":
        """One shuffled epoch, which follows from (seed, epoch) alone."""
        generator = torch.Generator().manual_seed(_stream(seed, epoch))
        batches = self.shuffled(batch_size, generator)
        draws_NR = torch.rand(
            len(self.splits["train"]), self.num_draws, dtype=torch.float64, generator=generator
        )
        return Epoch(self, batches, draws_NR)

    def example_inputs(self, count: int) -> tuple[Tensor, ...]:
        """The inputs of the first training samples."""
        return self.load("train", torch.arange(count)).inputs

    def calibration_batches(self, num_samples: int, batch_size: int) -> list[Tensor]:
        """First inputs of the first training samples, for normalization statistics."""
        num_samples = min(num_samples, len(self.splits["train"]))
        parts = torch.arange(num_samples).split(batch_size)
        return [self.load("train", indices_B).inputs[0] for indices_B in parts]

    def check_labels(self, targets: Mapping[SplitName, Tensor], num_classes: int) -> None:
        """RequestError unless all labels are 0 to `num_classes` - 1."""
        for name, targets_N in targets.items():
            lowest, highest = int(targets_N.min()), int(targets_N.max())
            if lowest < 0 or highest >= num_classes:
                raise RequestError(
                    f"labels of task '{self.name}' are 0 to {num_classes - 1}, but its {name} "
                    f"split has labels from {lowest} to {highest}"
                )


class Epoch:
    """The batches of one epoch, each of which can be loaded in parts."""

    def __init__(self, task: Task, batches: list[Tensor], draws_NR: Tensor) -> None:
        self._task, self._batches, self._draws_NR = task, batches, draws_NR

    def __len__(self) -> int:
        return len(self._batches)

    def num_targets(self, batch: int) -> int:
        """Targets of a whole batch."""
        return self._task.num_targets(self._batches[batch])

    def load(self, batch: int, part: int = 0, num_parts: int = 1) -> Batch:
        """One of `num_parts` equal parts of a batch, augmented."""
        indices_B = self._batches[batch].chunk(num_parts)[part]
        return self._task.load("train", indices_B, self._draws_NR[indices_B])


def summed_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over all targets that are not `IGNORED`, in float32.

    Args:
        logits: (..., C).
        targets: class indices (...), or probabilities (..., C).
        label_smoothing: the share of a target's probability that goes to all classes alike.
    """
    num_classes = logits.shape[-1]
    return F.cross_entropy(
        logits.float().reshape(-1, num_classes),
        targets.flatten() if targets.dtype == torch.int64 else targets.reshape(-1, num_classes),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def mean_cross_entropy(
    task: Task,
    model: nn.Module,
    split: SplitName,
    batch_size: int,
    num_samples: int | None = None,
) -> float:
    """Cross-entropy per target of a model in eval mode, in nats."""
    total, count = 0.0, 0
    for batch, logits in predictions(task, model, split, batch_size, num_samples):
        total += float(summed_cross_entropy(logits, batch.targets))
        count += int((batch.targets != IGNORED).sum())
    return total / count


@torch.inference_mode()
def predictions(
    task: Task,
    model: nn.Module,
    split: SplitName,
    batch_size: int,
    num_samples: int | None = None,
) -> Iterator[tuple[Batch, Tensor]]:
    """Every batch of a split, or of its first samples, with what the model says of it.

    Both are on the model's device.
    """
    device = device_of(model)
    for indices_B in task.in_order(split, batch_size, num_samples):
        batch = task.load(split, indices_B).to(device)
        with torch.inference_mode():  # a generator's own mode ends where it yields
            logits = model(*batch.inputs)
        yield batch, logits


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters lie; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def perplexity(cross_entropy: float) -> float:
    """The exponential of a cross-entropy in nats; infinite where that overflows."""
    return math.exp(cross_entropy) if cross_entropy < 700 else math.inf


def digest_of(*tensors: Tensor) -> str:
    """A hash of the tensors' bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()[:16]


def tensor_of(array: np.ndarray) -> Tensor:
    """The array as a tensor over the same memory, which may be shared between processes and then is
    read-only: write nothing to it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def prefetched(items: Iterator[T], depth: int = 2) -> Generator[T]:
    """The same items, prepared by a thread while earlier ones are used.

    Args:
        depth: how many are kept ready.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(is_item: bool, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((is_item, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def prepare() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
        except BaseException as error:  # raised again where the items are used
            put(False, error)
        else:
            put(False, None)

    thread = threading.Thread(target=prepare, name="loader", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


def _stream(seed: int, epoch: int) -> int:
    """An independent 63-bit seed for each (seed, epoch)."""
    text = f"{seed} {epoch}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1
