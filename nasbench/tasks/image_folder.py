"""Task `image_folder`: images of your own, or ImageNet, one folder per class.

    FOLDER/train/CLASS/NAME.jpg
    FOLDER/validation/CLASS/NAME.jpg     or FOLDER/val
    FOLDER/test/CLASS/NAME.jpg

Files are read when they are needed, and never all at once.

Shape legend: N images of a split, B images of a batch, R random numbers of an image, C channels,
H height, W width.
"""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasbench.errors import RequestError, WorkError, closest
from nasbench.tasks.base import SplitName
from nasbench.tasks.files import data_folder
from nasbench.tasks.images import Augmentation, ImageClassification
from nasbench.tasks.options import check_share, check_whole_number

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_SOURCE = "your own images, as FOLDER/train/CLASS/NAME.png, FOLDER/validation and FOLDER/test"
_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "val"),
    "test": ("test",),
}
_MODES = {1: "L", 3: "RGB"}

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a part of an image, in its pixels."""


def image_folder(
    data_dir: Path | None = None,
    *,
    folder: str,
    image_size: int,
    channels: int = 3,
    min_area: float = 0.25,
    center: float = 1.0,
    flip: bool = True,
    mixup: float = 0.0,
    num_threads: int = 4,
) -> ImageClassification:
    """Images of a folder, as squares of one size, scaled to [-1, 1].

    Classes are the folders of `train`, in alphabetical order. Files and folders whose names start
    with a dot are passed over. A split's digest is of its files' names and sizes: to read all of
    ImageNet would take minutes at every start, and a changed image has nearly always another size.

    Args:
        data_dir: the folder that holds `folder`.
        folder: where the images are.
        image_size: the side of the squares.
        channels: 3, or 1 for grey.
        min_area: training sees a random part of each image, of at least this share of its area
            (ImageNet's usual is 0.08) and a side ratio of up to 4:3.
        center: evaluation sees the square in the middle of each image, of this share of its
            shorter side (ImageNet's usual is 0.875, 224 of 256).
        flip, mixup: see `nasbench.tasks.images.Augmentation`.
        num_threads: how many files are decoded at once.

    Raises:
        RequestError: for a folder of another structure, or a bad option.
    """
    path = data_folder("image_folder", data_dir, folder, _SOURCE)
    check_whole_number("image_size", image_size, 1)
    check_whole_number("num_threads", num_threads, 1)
    check_share("min_area", min_area)
    check_share("center", center)
    if type(channels) is not int or channels not in _MODES:
        raise RequestError(f"channels is 3, or 1 for grey, not {channels!r}")
    folders = {name: _existing(path, possible) for name, possible in _FOLDERS.items()}
    classes = _classes(folders["train"])
    splits = {
        name: ImageFiles(
            folder,
            *_labeled_files(folder, classes),
            image_size=image_size,
            channels=channels,
            min_area=min_area,
            center=center,
            num_threads=num_threads,
        )
        for name, folder in folders.items()
    }
    augmentation = Augmentation(flip=flip, mixup=mixup)
    return ImageClassification(
        "image_folder", len(classes), splits, augmentation, center=center, classes=classes
    )


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images in files, decoded when they are asked for.

    Args:
        folder: where they are.
        names: their paths from there.
        num_bytes: their sizes.
        labels: int64 (N,).
        image_size, channels, min_area, center, num_threads: see `image_folder`.
    """

    folder: Path
    names: Sequence[str]
    num_bytes: Sequence[int]
    labels: Tensor
    image_size: int
    channels: int
    min_area: float
    center: float
    num_threads: int

    num_draws: ClassVar[int] = 4  # area, side ratio, row, column

    def __len__(self) -> int:
        return len(self.names)

    def images(self, indices_B: Tensor, draws_BR: Tensor | None = None) -> Tensor:
        """Float32 (B, C, H, W) in [-1, 1]: the center of each image or, with draws, random parts.

        Raises:
            WorkError: naming a file that is no image.
        """
        draws = repeat(None) if draws_BR is None else draws_BR.tolist()
        with ThreadPoolExecutor(self.num_threads) as pool:  # PIL decodes outside of Python's lock
            arrays = list(pool.map(self._pixels, indices_B.tolist(), draws))
        return _scaled(np.stack(arrays))

    def digest(self) -> str:
        """Hash of the files' names, sizes and labels; the files are not read."""
        found = hashlib.sha256()
        for file in zip(self.names, self.num_bytes, self.labels.tolist(), strict=True):
            found.update(repr(file).encode())
        return found.hexdigest()[:16]

    def _pixels(self, index: int, draws: list[float] | None) -> np.ndarray:
        """Uint8 (H, W, C) of one image."""
        image = _opened(self.folder / self.names[index], self.channels)
        if draws is None:
            box = central_box(*image.size, self.center)
        else:
            box = random_box(*image.size, self.min_area, draws)
        return _square(image, box, self.image_size, self.channels)


def read_image(path: Path, *, image_size: int, channels: int, center: float = 1.0) -> Tensor:
    """One image as evaluation sees it: float32 (1, C, H, W) in [-1, 1].

    Raises:
        WorkError: if the file is no image.
    """
    image = _opened(path, channels)
    pixels_HWC = _square(image, central_box(*image.size, center), image_size, channels)
    return _scaled(pixels_HWC[None])


def _opened(path: Path, channels: int) -> Image.Image:
    """The decoded image of a file; WorkError if it is none."""
    try:
        with Image.open(path) as file:
            return _converted(file, _MODES[channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WorkError(f"'{path}' cannot be read as an image: {error}") from None


def _square(image: Image.Image, box: Box, side: int, channels: int) -> np.ndarray:
    """A part of an image as uint8 (H, W, C)."""
    square = image.resize((side, side), Image.Resampling.BILINEAR, box)
    return np.array(square).reshape(side, side, channels)


def _scaled(pixels_BHWC: np.ndarray) -> Tensor:
    """Uint8 (B, H, W, C) as float32 (B, C, H, W) in [-1, 1]."""
    found = torch.from_numpy(pixels_BHWC)
    return found.permute(0, 3, 1, 2).float().mul_(2.0 / 255).sub_(1.0)


def central_box(width: int, height: int, share: float) -> Box:
    """The square in the middle, of this share of the shorter side."""
    side = share * min(width, height)
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def random_box(width: int, height: int, min_area: float, draws: Sequence[float]) -> Box:
    """A random part of an image (Szegedy et al., CVPR 2015), by four numbers in [0, 1).

    Its share of the area is uniform from `min_area` up, the logarithm of its side ratio uniform
    from 3:4 to 4:3. Where that does not fit, it is cut to the image's width or height; the field's
    code draws again instead.
    """
    area_draw, ratio_draw, row_draw, column_draw = draws
    area = (min_area + (1 - min_area) * area_draw) * width * height
    ratio = math.exp((2 * ratio_draw - 1) * math.log(4 / 3))
    part_width = min(math.sqrt(area * ratio), width)
    part_height = min(math.sqrt(area / ratio), height)
    left, upper = column_draw * (width - part_width), row_draw * (height - part_height)
    return left, upper, min(left + part_width, width), min(upper + part_height, height)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """The first frame of an image, decoded, in grey or RGB; what is transparent becomes white."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels have the mode '{image.mode}', but 8 bits are possible")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def _existing(path: Path, possible: Sequence[str]) -> Path:
    """The folder of a split."""
    for name in possible:
        if (path / name).is_dir():
            return path / name
    raise RequestError(
        f"'{path}' has no folder '{possible[0]}'; task 'image_folder' needs {_SOURCE}"
    )


def _classes(train: Path) -> list[str]:
    names = [path.name for path in _visible(train) if path.is_dir()]
    if not names:
        raise RequestError(f"'{train}' has no folders, but needs one per class")
    return names


def _labeled_files(
    folder: Path, classes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[int, ...], Tensor]:
    """The names, sizes and labels of a split's images, in a fixed mixed order."""
    for path in _visible(folder):
        if path.is_dir() and path.name not in classes:
            near = closest(path.name, classes)
            hint = f"; did you mean '{near}'?" if near else ""
            raise RequestError(f"'{path}' is none of the {len(classes)} classes of train{hint}")
    found: list[tuple[str, int, int]] = []
    for label, name in enumerate(classes):
        files = _visible(folder / name) if (folder / name).is_dir() else []
        if not files:
            raise RequestError(f"'{folder}' has no images of class '{name}'")
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                raise RequestError(
                    f"'{file}' is no image; their names end in {', '.join(SUFFIXES)}"
                )
        found += [(f"{name}/{file.name}", file.stat().st_size, label) for file in files]
    # The first samples of a split are of all classes: by them normalization is calibrated.
    found.sort(key=lambda sample: hashlib.sha256(sample[0].encode()).digest())
    names, num_bytes, labels = zip(*found, strict=True)
    return names, num_bytes, torch.tensor(labels)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
