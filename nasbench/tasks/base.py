"""What every task offers: splits held as tensors, batches in a stated order, a loss, metrics.

Shape legend: N samples of a split, B samples of a batch, C classes, ... the shape of one input.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import RequestError

SplitName = Literal["train", "validation", "test"]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Split:
    """Samples of one purpose.

    Args:
        inputs: float32 of shape (N, ...).
        targets: int64 class labels of shape (N,).
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in order, in batches of at most `batch_size`."""
        yield from zip(self.inputs.split(batch_size), self.targets.split(batch_size), strict=True)

    def digest(self) -> str:
        """Hash of the samples, which says whether two runs used the same split."""
        found = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


def _no_augmentation(inputs: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    return inputs


@dataclass(frozen=True, kw_only=True)
class Task:
    """Image classification.

    Args:
        name: the task's name in `TASKS`.
        num_classes: C; labels are 0 to C - 1.
        splits: "train", "validation" and "test".
        augment: changes a training batch (B, ...), with all randomness from the generator.

    Raises:
        RequestError: for an empty split or a label outside 0 to C - 1.
    """

    name: str
    num_classes: int
    splits: dict[SplitName, Split]
    augment: Augment = field(default=_no_augmentation)

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if len(split) == 0:
                raise RequestError(f"the {name} split of task '{self.name}' is empty")
            lowest, highest = int(split.targets.min()), int(split.targets.max())
            if lowest < 0 or highest >= self.num_classes:
                raise RequestError(
                    f"labels of task '{self.name}' are 0 to {self.num_classes - 1}, but its {name} "
                    f"split has labels from {lowest} to {highest}"
                )

    @property
    def network_settings(self) -> dict[str, int]:
        """What the data decides about a network: settings of a supernet family's `build`."""
        in_channels, image_size = self.splits["train"].inputs.shape[1:3]
        return {
            "num_classes": self.num_classes,
            "in_channels": in_channels,
            "image_size": image_size,
        }

    def digests(self) -> dict[str, str]:
        """The hash of every split."""
        return {name: split.digest() for name, split in self.splits.items()}

    def training_batches(
        self, batch_size: int, *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of shuffled, augmented batches of exactly `batch_size`; a rest is left out.

        The order and the augmentation follow from (seed, epoch) alone, so an epoch is the same
        in a resumed training.

        Raises:
            RequestError: if the training split is smaller than one batch.
        """
        split = self.splits["train"]
        if len(split) < batch_size:
            raise RequestError(
                f"a batch of {batch_size} exceeds the {len(split)} training samples of task "
                f"'{self.name}'; lower training.batch_size"
            )
        generator = torch.Generator().manual_seed(_stream(seed, epoch))
        order = torch.randperm(len(split), generator=generator)
        for indices in order[: len(split) // batch_size * batch_size].split(batch_size):
            yield self.augment(split.inputs[indices], generator), split.targets[indices]

    def calibration_batches(self, num_samples: int, batch_size: int) -> list[Tensor]:
        """Inputs of the first `num_samples` training samples, for normalization statistics."""
        return list(self.splits["train"].inputs[:num_samples].split(batch_size))

    def loss(self, logits_BC: Tensor, targets_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy, in nats."""
        return F.cross_entropy(logits_BC, targets_B, label_smoothing=label_smoothing)

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, split: SplitName, batch_size: int) -> dict[str, float]:
        """Top-1 accuracy, top-1 error and cross-entropy of a model in eval mode on a split."""
        num_correct, total_loss = 0, 0.0
        samples = self.splits[split]
        for inputs, targets_B in samples.batches(batch_size):
            logits_BC = model(inputs)
            num_correct += int((logits_BC.argmax(dim=1) == targets_B).sum())
            total_loss += float(F.cross_entropy(logits_BC, targets_B, reduction="sum"))
        accuracy = num_correct / len(samples)
        return {
            "top1_accuracy": accuracy,
            "top1_error": 1.0 - accuracy,
            "cross_entropy": total_loss / len(samples),
        }


def _stream(seed: int, epoch: int) -> int:
    """An independent 63-bit seed for each (seed, epoch)."""
    text = f"{seed} {epoch}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1
