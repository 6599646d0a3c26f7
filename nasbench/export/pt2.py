"""Target `pt2`: torch.export's archive, which PyTorch runs without any of our code."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.export.base import Run


class Pt2Exporter:
    """Writes `model.pt2` with a dynamic batch size."""

    file_name = "model.pt2"

    def write(self, module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> None:
        """Trace with torch.export and save the program."""
        torch.export.save(export_program(module, example_inputs), path)

    def load(self, path: Path, module: nn.Module) -> Run:  # noqa: ARG002 - the file is complete
        """Load the program."""
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
