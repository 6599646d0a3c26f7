"""Running an exported file on a sample that a person has, to try what is shipped.

Everything needed lies in the export's folder: no run, no supernet, no task is read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from nasbench.errors import RequestError, WorkError, unknown_name
from nasbench.export import EXPORTERS
from nasbench.tasks.image_folder import read_image

_TARGETS = ("onnx", "pt2")  # files that hold the whole network; the first is preferred


class _ImageForm(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"]
    center: float = Field(gt=0, le=1)
    classes: tuple[str, ...] = Field(min_length=1)


class _Input(BaseModel):
    shape: tuple[Literal["batch"], int, int, int]


class _File(BaseModel):
    target: str
    sha256: str


class _Manifest(BaseModel):
    """What is read of an export's manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_form: _ImageForm
    input: _Input
    files: dict[str, _File]


def classify(export: Path, sample: Path, target: str | None = None) -> dict[str, float]:
    """The probability of each class, the most probable first, as an exported file computes it.

    Args:
        export: a folder that `export_subnetwork` wrote.
        sample: an image file; it is cropped, scaled and turned grey as the task's images were.
        target: "onnx" or "pt2"; None takes the first of them that the export has.

    Raises:
        RequestError: if there is no such export or image, the export's task has no images, or a
            file is not the one that was verified.
        MissingExtraError: if the target's runtime is not installed.
    """
    manifest = _read_manifest(export)
    targets = {file.target: name for name, file in manifest.files.items()}
    possible = [name for name in _TARGETS if name in targets]
    if target is None and not possible:
        raise RequestError(
            f"'{export}' has no file that runs by itself ({', '.join(_TARGETS)}); export one with: "
            "nasbench export RUN --set export.targets=[onnx]"
        )
    chosen = target or possible[0]
    if chosen not in possible:
        raise unknown_name("target of this export", chosen, possible)
    path = export / Path(targets[chosen]).name
    _check_unchanged(path, manifest.files[targets[chosen]].sha256)
    _, channels, height, _ = manifest.input.shape
    if not sample.is_file():
        raise RequestError(f"there is no image '{sample}'")
    try:
        image_1CHW = read_image(
            sample, image_size=height, channels=channels, center=manifest.input_form.center
        )
    except WorkError as error:
        raise RequestError(str(error)) from None
    run = EXPORTERS[chosen]().load(path, nn.Identity())
    return _by_probability(run(image_1CHW)[0], manifest.input_form.classes)


def _by_probability(logits_K: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    probabilities = logits_K.double().softmax(dim=0).tolist()
    if len(probabilities) != len(classes):
        raise RequestError(
            f"the network tells {len(probabilities)} classes apart, but its manifest names "
            f"{len(classes)}"
        )
    found = dict(zip(classes, probabilities, strict=True))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _read_manifest(export: Path) -> _Manifest:
    path = export / "manifest.json"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(
            f"'{export}' is no export: it has no manifest.json; give RUN/export/ID"
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read '{path}': {' '.join(str(error).split())}") from None
    if isinstance(content, dict) and content.get("input_form") is None:
        raise RequestError(
            f"'{export}' does not say how a sample becomes an input; possible are exports of tasks "
            "with images, written by this version"
        )
    try:
        return _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"cannot read '{path}': {where}: {first['msg']}") from None


def _check_unchanged(path: Path, sha256: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read '{path}': {error.strerror}") from None
    if found != sha256:
        raise RequestError(f"'{path}' is not the file that was verified when it was exported")
