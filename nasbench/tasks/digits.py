"""Task `digits`: scikit-learn's 1,797 handwritten digits, real images of 8x8 grey pixels.

Comes with scikit-learn, so it needs no download. Alpaydin and Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository (1998), the test part of that set.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from nasbench.tasks.base import Split, SplitName, Task

_SPLIT_SEED = 20_240_607  # the splits are part of the task and never follow a run's seed
_MAX_SHIFT = 1


def digits(data_dir: Path | None = None) -> Task:  # noqa: ARG001 - embedded, needs no folder
    """1,077 training, 360 validation and 360 test images, stratified by class.

    Inputs are float32 of shape (1, 8, 8), scaled to [-1, 1]. Training images are shifted by up to
    one pixel.
    """
    images, labels = load_digits(return_X_y=True)
    rest, train = _stratified(np.arange(len(labels)), labels, 720)
    validation, test = _stratified(rest, labels, 360)
    inputs = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 8.0 - 1.0
    targets = torch.from_numpy(labels).long()
    parts: dict[SplitName, np.ndarray] = {"train": train, "validation": validation, "test": test}
    splits = {name: Split(inputs[index], targets[index]) for name, index in parts.items()}
    return Task(name="digits", num_classes=10, splits=splits, augment=shift)


def _stratified(
    indices: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """`count` of the indices, stratified by label, and all others."""
    others, chosen = train_test_split(
        indices, test_size=count, stratify=labels[indices], random_state=_SPLIT_SEED
    )
    return chosen, others


def shift(inputs_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by up to one pixel in each direction; what enters is background."""
    height, width = inputs_BCHW.shape[2:]
    padded = F.pad(inputs_BCHW, [_MAX_SHIFT] * 4, value=-1.0)
    num_images = len(inputs_BCHW)
    offsets = torch.randint(0, 2 * _MAX_SHIFT + 1, (2, num_images, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, None, :]
    images = torch.arange(num_images)[:, None, None, None]
    channels = torch.arange(inputs_BCHW.shape[1])[None, :, None, None]
    return padded[images, channels, rows, columns]
