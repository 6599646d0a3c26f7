"""Target `pt2`: torch.export's archive, which PyTorch runs without any of our code."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.export.base import ProgramExporter
from nasbench.export.programs import Program, TensorSpec
from nasbench.export.running import Run


class Pt2Exporter(ProgramExporter):
    """Writes `model.pt2`, open in all sizes."""

    runtime = "torch"
    suffixes = (".pt2",)

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Trace with torch.export and save the program."""
        torch.export.save(program.export(), path)
        return {}

    def open_program(self, path: Path, inputs: Sequence[TensorSpec]) -> Run:  # noqa: ARG002
        """Load the program, if it holds no code."""
        check_holds_no_code(path)
        program = torch.export.load(path).module()

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                found = program(*tensors)
            return found if isinstance(found, tuple) else (found,)

        return run


def check_holds_no_code(path: Path) -> None:
    """RequestError unless an archive stores nothing in a form that runs code when it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not _is_plain(name, archive):
                    raise RequestError(
                        f"'{path}' stores '{name}' as a pickle, which can run code when it is "
                        "read; export it again with torch.export.save"
                    )
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise RequestError(f"'{path}' is no archive of torch.export: {error}") from None


def _is_plain(name: str, archive: zipfile.ZipFile) -> bool:
    folder, _, file = name.rpartition("/data/")[2].partition("/")
    if folder not in ("weights", "constants", "sample_inputs"):
        return True
    if file.endswith("_config.json"):
        payloads = json.loads(archive.read(name))["config"].values()
        return not any(payload.get("use_pickle", True) for payload in payloads)
    if folder == "sample_inputs":
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception:  # whatever is in it is more than tensors
            return False
        return True
    return file.startswith(("weight_", "tensor_"))
