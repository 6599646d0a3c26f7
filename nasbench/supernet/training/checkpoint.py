"""Checkpoints: saved training state, from which training resumes exactly.

A checkpoint is a folder `step-0001200` with files of tensors and `state.json`, renamed into place
when it is whole, so a folder of that name is never half-written. `state.json` holds the other
files' hashes: a damaged checkpoint is named, not loaded. Nothing in it is unpickled.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasbench.errors import RequestError

_TENSORS = ("weights", "optimizer", "average", "teacher")
_NAME = re.compile(r"step-\d+")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Training state after some optimizer step.

    Args:
        step: number of finished steps.
        is_final: whether training ended with it.
        fingerprint: of everything that training depends on; other training is not resumed.
        weights: the supernet's state.
        optimizer: the optimizer's tensors, by parameter and name.
        average: the moving average of the weights; empty where none is kept.
        teacher: the frozen teacher's state; empty where there is none.
        history: one record per finished epoch.
        progress: what else the next step depends on.
        quality: of the sub-networks looked at after this step, larger is better; None if none were.
    """

    step: int
    fingerprint: str
    weights: Mapping[str, Tensor]
    is_final: bool = False
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    quality: float | None = None

    @property
    def trained_weights(self) -> Mapping[str, Tensor]:
        """What is searched: the weights, averaged where an average is kept."""
        return {**self.weights, **self.average}


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies below `folder`."""
    return folder / f"step-{step:07d}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint below `folder` atomically; delete all but the last `keep` and the best."""
    target = checkpoint_folder(folder, checkpoint.step)
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in _TENSORS:
        tensors = getattr(checkpoint, name)
        plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
        file = partial / f"{name}.safetensors"
        try:
            save_file(plain, file)
        except SafetensorError as error:
            raise OSError(f"cannot write '{file}': {error}") from error
    state = {
        "step": checkpoint.step,
        "is_final": checkpoint.is_final,
        "fingerprint": checkpoint.fingerprint,
        "quality": checkpoint.quality,
        "progress": dict(checkpoint.progress),
        "history": list(checkpoint.history),
        "sha256": {
            f"{name}.safetensors": _sha256(partial / f"{name}.safetensors") for name in _TENSORS
        },
    }
    (partial / "state.json").write_text(json.dumps(state, indent=1))
    for file in partial.iterdir():
        _flush_to_disk(file)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _flush_to_disk(folder)
    for leftover in [*folder.glob(".partial-*"), *_outdated(_checkpoints(folder), keep)]:
        shutil.rmtree(leftover, ignore_errors=True)
    return target


def latest_step(folder: Path) -> int:
    """The step of the last checkpoint below `folder`; 0 where there is none."""
    found = _checkpoints(folder)
    return _step_of(found[-1]) if found else 0


def load_latest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The last checkpoint below `folder`, or None where there is none.

    Raises:
        RequestError: if it is damaged (names the file and the last good one before it) or
            belongs to other training.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    damaged = _damaged_file(found[-1])
    if damaged is not None:
        good = next((c for c in reversed(found[:-1]) if _damaged_file(c) is None), None)
        advice = (
            f"the last good checkpoint before it is '{good}', so delete '{found[-1]}' to carry on "
            "from there"
            if good
            else f"there is no good one before it, so delete '{found[-1]}' to start over"
        )
        raise RequestError(f"the checkpoint file '{damaged}' is damaged; {advice}")
    state = json.loads((found[-1] / "state.json").read_text())
    if state["fingerprint"] != fingerprint:
        raise RequestError(
            f"the checkpoint '{found[-1]}' belongs to other training (another task, supernet, "
            "seed or training setting); use another output folder"
        )
    del state["sha256"]
    state["history"] = tuple(state["history"])
    state |= {name: load_file(found[-1] / f"{name}.safetensors") for name in _TENSORS}
    return Checkpoint(**state)


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoint folders, oldest first; a folder that somebody renamed is none."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step_of)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _outdated(checkpoints: list[Path], keep: int) -> list[Path]:
    """All but the last `keep` and the one of the best quality."""
    qualities = {path: _quality(path) for path in checkpoints}
    rated = {path: quality for path, quality in qualities.items() if quality is not None}
    best = max(rated, key=lambda path: rated[path], default=None)
    return [path for path in checkpoints[:-keep] if path != best]


def _quality(checkpoint: Path) -> float | None:
    try:
        found: float | None = json.loads((checkpoint / "state.json").read_text())["quality"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged one is not the best
    return found


def _damaged_file(checkpoint: Path) -> Path | None:
    """The first file of a checkpoint that is missing or not what was written, or None."""
    state = checkpoint / "state.json"
    try:
        hashes = json.loads(state.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return state
    for name in _TENSORS:
        file = checkpoint / f"{name}.safetensors"
        if not file.is_file() or _sha256(file) != hashes.get(file.name):
            return file
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
