"""Target `pt2`: torch.export's archive, which PyTorch runs without any of our code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
        """Load the program."""
        program = torch.export.load(path).module()

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                found = program(*tensors)
            return found if isinstance(found, tuple) else (found,)

        return run
