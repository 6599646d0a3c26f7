"""Task `digits`: scikit-learn's 1,797 handwritten digits, real images of 8x8 grey pixels.

Comes with scikit-learn, so it needs no download. Alpaydin and Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository (1998), the test part of that set.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nasbench.tasks.base import SplitName
from nasbench.tasks.images import Augmentation, ImageClassification, ImagesInMemory

_SPLIT_SEED = 20_240_607  # the splits are part of the task and never follow a run's seed


def digits(
    data_dir: Path | None = None,  # noqa: ARG001 - embedded, needs no folder
    *,
    shift: int = 1,
    mixup: float = 0.0,
) -> ImageClassification:
    """1,077 training, 360 validation and 360 test images, stratified by class.

    Inputs are float32 of shape (1, 8, 8), scaled to [-1, 1].

    Args:
        shift: pixels that training images are moved at most.
        mixup: see `nasbench.tasks.images.Augmentation`.
    """
    images, labels = load_digits(return_X_y=True)
    rest, train = _stratified(np.arange(len(labels)), labels, 720)
    validation, test = _stratified(rest, labels, 360)
    pixels = torch.from_numpy(images).to(torch.uint8).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).long()
    parts: dict[SplitName, np.ndarray] = {"train": train, "validation": validation, "test": test}
    splits = {
        name: ImagesInMemory(pixels[index], targets[index], white=16)
        for name, index in parts.items()
    }
    return ImageClassification("digits", 10, splits, Augmentation(shift=shift, mixup=mixup))


def _stratified(
    indices: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """`count` of the indices, stratified by label, and all others."""
    others, chosen = train_test_split(
        indices, test_size=count, stratify=labels[indices], random_state=_SPLIT_SEED
    )
    return chosen, others
