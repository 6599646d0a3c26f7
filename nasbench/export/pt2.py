"""Target `pt2`: torch.export's archive, which PyTorch runs without any of our code."""

import io
import json
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.export.base import Run


class Pt2Exporter:
    """Writes `model.pt2` with a dynamic batch size."""

    file_name = "model.pt2"

    def write(self, module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> None:
        """Trace with torch.export and save the program."""
        torch.export.save(export_program(module, example_inputs), path)

    def load(self, path: Path, module: nn.Module) -> Run:  # noqa: ARG002 - the file is complete
        """Load the program; RequestError where the file could run code when it is read."""
        check_holds_no_code(path)
        program = torch.export.load(path).module()

        def run(inputs: Tensor) -> Tensor:
            with torch.inference_mode():
                return program(inputs)

        return run


def export_program(
    module: nn.Module, example_inputs: tuple[Tensor, ...]
) -> torch.export.ExportedProgram:
    """The exported program, with a dynamic first dimension of every input.

    Tracing needs a batch of at least two: torch takes a size of one for a constant.
    """
    batch = torch.export.Dim("batch", min=1)
    inputs = tuple(torch.cat([x, x]) if len(x) == 1 else x for x in example_inputs)
    return torch.export.export(module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))


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
