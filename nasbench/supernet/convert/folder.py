"""A folder of a pre-trained Hugging Face model: config.json, and weights as safetensors.

Only these two kinds of files are read; pickled weights never are, and nothing is downloaded.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nasbench.errors import RequestError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


class PretrainedFolder:
    """What a folder holds; weights are read when they are asked for.

    Args:
        path: the folder.

    Attributes:
        config: what config.json says.
        shapes: the shape of each weight.

    Raises:
        RequestError: if there is no such folder, no weights as safetensors, or a damaged file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise RequestError(
                f"there is no folder '{self.path}'; name a local folder with {CONFIG} and {WEIGHTS}"
            )
        self.config = self._json(CONFIG)
        self._files = self._weight_files()
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in self._files:
            with self._opened(file) as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    self.shapes[name] = tuple(tensors.get_slice(name).get_shape())

    def read(self) -> dict[str, Tensor]:
        """All weights, in float32, by the names that they have in the files."""
        found: dict[str, Tensor] = {}
        for file in self._files:
            with self._opened(file) as tensors:
                found |= {name: tensors.get_tensor(name).float() for name in tensors.keys()}  # noqa: SIM118
        return found

    @property
    def digest(self) -> str:
        """Hash of the files of weights."""
        digest = hashlib.sha256()
        for file in self._files:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:16]

    def _weight_files(self) -> list[Path]:
        if (self.path / WEIGHTS).is_file():
            return [self.path / WEIGHTS]
        if not (self.path / INDEX).is_file():
            pickled = sorted(path.name for path in self.path.glob("*.bin"))
            others = f", but {pickled[0]}, which is pickled and never read" if pickled else ""
            raise RequestError(
                f"'{self.path}' has no {WEIGHTS}{others}; save the model with safetensors"
            )
        files = self._json(INDEX).get("weight_map")
        if not isinstance(files, Mapping) or any(Path(str(f)).name != f for f in files.values()):
            raise RequestError(f"'{self.path / INDEX}' names no files beside it")
        return [self.path / file for file in sorted(set(files.values()))]

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise RequestError(
                f"'{self.path}' has no {name}, so it is no folder of a Hugging Face model"
            ) from None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise RequestError(f"'{path}' is no JSON object")
        return content

    def _opened(self, file: Path) -> Any:
        try:
            return safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise RequestError(f"cannot read '{file}': {error}") from None
