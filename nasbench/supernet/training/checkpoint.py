"""Checkpoints: saved training state, from which training resumes exactly.

A checkpoint is a folder `epoch-0005` with `weights.safetensors`, `optimizer.safetensors` and
`state.json`, renamed into place when it is whole, so a folder of that name is never half-written.
`state.json` holds the other files' hashes: a damaged checkpoint is named, not loaded. Nothing in it
is unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasbench.errors import RequestError

_TENSOR_FILES = ("weights.safetensors", "optimizer.safetensors")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Training state after some epoch.

    Args:
        epoch: number of finished epochs.
        fingerprint: of everything that training depends on; other training is not resumed.
        weights: the supernet's state.
        optimizer: the optimizer's tensors, by parameter and name.
        history: one record per finished epoch.
    """

    epoch: int
    fingerprint: str
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()


def checkpoint_folder(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies below `folder`."""
    return folder / f"epoch-{epoch:04d}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint below `folder` atomically, then delete all but the last `keep`."""
    target = checkpoint_folder(folder, checkpoint.epoch)
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, tensors in zip(
        _TENSOR_FILES, (checkpoint.weights, checkpoint.optimizer), strict=True
    ):
        plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
        try:
            save_file(plain, partial / name)
        except SafetensorError as error:
            raise OSError(f"cannot write '{partial / name}': {error}") from error
    state = {
        "epoch": checkpoint.epoch,
        "fingerprint": checkpoint.fingerprint,
        "history": list(checkpoint.history),
        "sha256": {name: _sha256(partial / name) for name in _TENSOR_FILES},
    }
    (partial / "state.json").write_text(json.dumps(state, indent=1))
    for file in partial.iterdir():
        _flush_to_disk(file)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _flush_to_disk(folder)
    for leftover in [*folder.glob(".partial-*"), *_checkpoints(folder)[:-keep]]:
        shutil.rmtree(leftover, ignore_errors=True)
    return target


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
    weights, optimizer = (load_file(found[-1] / name) for name in _TENSOR_FILES)
    return Checkpoint(
        epoch=state["epoch"],
        fingerprint=fingerprint,
        weights=weights,
        optimizer=optimizer,
        history=tuple(state["history"]),
    )


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoint folders, oldest first."""
    return sorted(folder.glob("epoch-*"))


def _damaged_file(checkpoint: Path) -> Path | None:
    """The first file of a checkpoint that is missing or not what was written, or None."""
    state = checkpoint / "state.json"
    try:
        hashes = json.loads(state.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return state
    for name in _TENSOR_FILES:
        file = checkpoint / name
        if not file.is_file() or _sha256(file) != hashes.get(name):
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
