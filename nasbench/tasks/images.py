"""Image classification: images in memory or in files, and their augmentation.

Shape legend: N images of a split, B images of a batch, R random numbers of an image, C channels,
H height, W width, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.tasks.base import Batch, Split, SplitName, Task, digest_of, tensor_of
from nasbench.tasks.classification import METRICS, evaluate_classifier
from nasbench.tasks.options import check_flag, check_whole_number


class LabeledImages(Split, Protocol):
    """Images of one purpose, with their labels."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""

    @property
    def num_draws(self) -> int:
        """Random numbers that choose the part of an image that training sees; 0 if it sees all."""

    def images(self, indices_B: Tensor, draws_BR: Tensor | None = None) -> Tensor:
        """Float32 (B, C, H, W), scaled to about [-1, 1]; with draws, random parts of them."""


@dataclass(frozen=True, slots=True)
class ImagesInMemory:
    """Images kept as bytes, a quarter of what floats would take.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
        white: the pixel value that becomes 1; 0 becomes -1.
    """

    pixels: Tensor
    labels: Tensor
    white: int = 255

    num_draws: ClassVar[int] = 0

    def __len__(self) -> int:
        return len(self.labels)

    def images(
        self,
        indices_B: Tensor,
        draws_BR: Tensor | None = None,  # noqa: ARG002 - all of an image is seen
    ) -> Tensor:
        """Float32 (B, C, H, W) in [-1, 1]."""
        return self.pixels[indices_B].float().mul_(2.0 / self.white).sub_(1.0)

    def digest(self) -> str:
        """Hash of pixels and labels."""
        return digest_of(self.pixels, self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrays, which the processes of a machine can share: a tensor would be copied."""
        return _of_arrays, (self.pixels.numpy(), self.labels.numpy(), self.white)


def _of_arrays(pixels: np.ndarray, labels: np.ndarray, white: int) -> ImagesInMemory:
    return ImagesInMemory(tensor_of(pixels), tensor_of(labels), white)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training images are changed, each by its own random numbers.

    Args:
        shift: the farthest that an image is moved, in pixels, in either direction (a random crop
            of the padded image); what enters is `background`.
        flip: whether half of the images are mirrored.
        mixup: the parameter of mixup (Zhang et al., ICLR 2018): an image and its label are blended
            with those of another training image at Beta(mixup, mixup); 0 leaves it out.
        background: the value of what enters.
    """

    shift: int = 0
    flip: bool = False
    mixup: float = 0.0
    background: float = -1.0

    NUM_DRAWS = 5  # row, column, side, how much of which other image

    def __post_init__(self) -> None:
        check_whole_number("shift", self.shift, 0, most=1000)
        check_flag("flip", self.flip)
        is_number = isinstance(self.mixup, int | float) and not isinstance(self.mixup, bool)
        if not is_number or not 0 <= self.mixup < math.inf:
            raise RequestError(f"mixup is a number from 0 up, not {self.mixup!r}")

    def moved(self, images_BCHW: Tensor, draws_BR: Tensor) -> Tensor:
        """The images shifted and mirrored."""
        if self.flip:
            is_mirrored_B = draws_BR[:, 2] < 0.5
            images_BCHW = torch.where(
                is_mirrored_B[:, None, None, None], images_BCHW.flip(3), images_BCHW
            )
        if self.shift == 0:
            return images_BCHW
        height, width = images_BCHW.shape[2:]
        padded = F.pad(images_BCHW, [self.shift] * 4, value=self.background)
        offsets_B2 = (draws_BR[:, :2] * (2 * self.shift + 1)).long()
        rows = (offsets_B2[:, :1] + torch.arange(height))[:, None, :, None]
        columns = (offsets_B2[:, 1:] + torch.arange(width))[:, None, None, :]
        images = torch.arange(len(padded))[:, None, None, None]
        channels = torch.arange(padded.shape[1])[None, :, None, None]
        return padded[images, channels, rows, columns]

    def shares(self, draws_BR: Tensor) -> Tensor:
        """How much of each image stays in the mixture: float32 (B,), the larger part."""
        share_B = torch.from_numpy(betaincinv(self.mixup, self.mixup, draws_BR[:, 3].numpy()))
        return share_B.maximum(1 - share_B).float()


class ImageClassification(Task):
    """Images, each of one class.

    Args:
        name: the task's name in `TASKS`.
        num_classes: K; labels are 0 to K - 1.
        splits: "train", "validation" and "test".
        augmentation: of training images; none by default.
        center: the share of an image's shorter side that evaluation sees, in its middle.
        classes: their names, in the order of the labels; their numbers by default.

    Raises:
        RequestError: for an empty split or a label outside 0 to K - 1.
    """

    metrics = METRICS

    def __init__(
        self,
        name: str,
        num_classes: int,
        splits: Mapping[SplitName, LabeledImages],
        augmentation: Augmentation | None = None,
        *,
        center: float = 1.0,
        classes: Sequence[str] = (),
    ) -> None:
        self.name, self.num_classes, self.augmentation = name, num_classes, augmentation
        names = list(classes) or [str(number) for number in range(num_classes)]
        self.input_form = {"kind": "image", "center": center, "classes": names}
        self.labeled = dict(splits)
        if augmentation is not None:
            self.num_draws = augmentation.NUM_DRAWS + splits["train"].num_draws
        super().__init__(splits)
        self.check_labels({name: split.labels for name, split in splits.items()}, num_classes)

    @property
    def network_settings(self) -> dict[str, int]:
        """Classes, and the channels and side of the square images."""
        in_channels, image_size = self.labeled["train"].images(torch.zeros(1).long()).shape[1:3]
        return {
            "num_classes": self.num_classes,
            "in_channels": in_channels,
            "image_size": image_size,
        }

    def load(self, split: SplitName, indices_B: Tensor, draws_BR: Tensor | None = None) -> Batch:
        """Images (B, C, H, W) and labels (B,), or probabilities (B, K) where images are mixed."""
        samples, augmentation = self.labeled[split], self.augmentation
        labels_B = samples.labels[indices_B]
        if draws_BR is None or augmentation is None:
            return Batch((samples.images(indices_B),), labels_B)
        part_draws_BR = draws_BR[:, augmentation.NUM_DRAWS :]
        images_BCHW = augmentation.moved(samples.images(indices_B, part_draws_BR), draws_BR)
        if augmentation.mixup == 0:
            return Batch((images_BCHW,), labels_B)
        others_B = (draws_BR[:, 4] * len(samples)).long()
        share_B = augmentation.shares(draws_BR)
        others_BCHW = augmentation.moved(samples.images(others_B, part_draws_BR), draws_BR)
        mixed_BCHW = torch.lerp(others_BCHW, images_BCHW, share_B[:, None, None, None])
        mixed_BK = torch.lerp(
            F.one_hot(samples.labels[others_B], self.num_classes).float(),
            F.one_hot(labels_B, self.num_classes).float(),
            share_B[:, None],
        )
        return Batch((mixed_BCHW,), mixed_BK)

    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        batch_size: int,
        *,
        num_samples: int | None = None,
    ) -> dict[str, float]:
        """Top-1 accuracy, top-1 error and cross-entropy (nats)."""
        return evaluate_classifier(self, model, split, batch_size, num_samples)
