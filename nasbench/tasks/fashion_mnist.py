"""Task `fashion_mnist`: 70,000 grey images of clothes, 28x28 pixels, in ten classes.

Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms (2017). Reads the four official files from the folder `fashion-mnist`.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.tasks.files import data_folder, read_bytes
from nasbench.tasks.images import Augmentation, ImageClassification, ImagesInMemory

SOURCE = "https://github.com/zalandoresearch/fashion-mnist"
_SPLIT_SEED = 20_240_607  # the splits are part of the task and never follow a run's seed
_NUM_VALIDATION = 10_000


def fashion_mnist(
    data_dir: Path | None = None,
    *,
    train_size: int | None = None,
    shift: int = 2,
    flip: bool = True,
    mixup: float = 0.0,
) -> ImageClassification:
    """50,000 training, 10,000 validation and the official 10,000 test images.

    Validation images are a fixed random part of the official training files. Inputs are float32
    of shape (1, 28, 28), scaled to [-1, 1].

    Args:
        data_dir: the folder that holds `fashion-mnist`.
        train_size: how many training images to use, the first ones of a fixed order; None is all.
        shift, flip, mixup: see `nasbench.tasks.images.Augmentation`.

    Raises:
        RequestError: for missing or damaged files.
    """
    folder = data_folder("fashion_mnist", data_dir, "fashion-mnist", SOURCE)
    pixels, labels = _read(folder, "train")
    order = torch.from_numpy(np.random.default_rng(_SPLIT_SEED).permutation(len(labels)))
    rest, validation = order[:-_NUM_VALIDATION], order[-_NUM_VALIDATION:]
    if train_size is not None and not 1 <= train_size <= len(rest):
        raise RequestError(f"train_size is 1 to {len(rest)} images, not {train_size}")
    train = rest[:train_size]
    return ImageClassification(
        "fashion_mnist",
        10,
        {
            "train": ImagesInMemory(pixels[train], labels[train]),
            "validation": ImagesInMemory(pixels[validation], labels[validation]),
            "test": ImagesInMemory(*_read(folder, "t10k")),
        },
        Augmentation(shift=shift, flip=flip, mixup=mixup),
    )


def _read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,)."""
    pixels = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1)
    if len(pixels) != len(labels):
        raise RequestError(
            f"'{folder}' has {len(pixels)} images but {len(labels)} labels of its '{part}' part; "
            f"get its files again from {SOURCE}"
        )
    return pixels[:, None], labels.long()


def _read_idx(path: Path, num_dimensions: int) -> Tensor:
    """An array of bytes in the IDX format of MNIST."""
    content = read_bytes(path, SOURCE)
    header = 4 + 4 * num_dimensions
    shape = tuple(np.frombuffer(content[4:header], ">u4").tolist())
    if content[:4] != bytes([0, 0, 8, num_dimensions]) or len(content) != header + math.prod(shape):
        raise RequestError(
            f"'{path}' is no IDX file of {num_dimensions} dimensions; get it again from {SOURCE}"
        )
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).reshape(shape)
