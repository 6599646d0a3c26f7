"""Engine `executorch`: ExecuTorch with XNNPACK, as networks run on phones."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.export.executorch import check_installed, input_shapes, lower, open_function
from nasbench.export.quiet import quiet
from nasbench.export.resizing import module_resizing_by_products
from nasbench.hardware.engine import Engine, Forward

Artifact = tuple[bytes, tuple[Tensor, ...]]


class ExecuTorchEngine(Engine):
    """Runs a program that was lowered to XNNPACK as far as that goes; the rest runs unoptimized.

    Lowering takes ten seconds and more for each network: good for a few networks, too slow to
    search with. The artifact is the program's bytes with its inputs.

    Raises:
        MissingExtraError: where executorch is not installed.
    """

    name = "executorch"
    packages = ("executorch",)
    file_suffix = ".pte"

    def __init__(self) -> None:
        check_installed("the engine 'executorch'")

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Export for exactly the shapes of the inputs, and lower."""
        with quiet():
            lowered = module_resizing_by_products(module, example_inputs)
            program = torch.export.export(lowered, example_inputs)
        return lower(program)[0], example_inputs

    def read(self, path: Path, batch_size: int, sequence_length: int | None) -> Artifact:
        """The file with inputs of that size, where it takes them; else of its largest sizes."""
        program = path.read_bytes()
        try:
            described = input_shapes(program)
        except Exception as error:  # the runtime raises whatever it pleases
            reason = " ".join(str(error).split())
            raise RequestError(f"ExecuTorch cannot read '{path}': {reason}") from None
        generator = torch.Generator().manual_seed(0)
        inputs: list[Tensor] = []
        for largest, is_float in described:
            shape = (batch_size, *largest[1:])
            if is_float:
                inputs.append(torch.randn(shape, generator=generator))
            else:
                shape = (*shape[:1], sequence_length or shape[1], *shape[2:])
                inputs.append(torch.ones(shape, dtype=torch.int64))
        try:
            open_function(program)(inputs)
        except RuntimeError:
            raise RequestError(
                f"'{path}' does not take inputs of {', '.join(str(tuple(x.shape)) for x in inputs)}"
                f"; it was lowered for at most {', '.join(str(shape) for shape, _ in described)}: "
                "give --batch-size, or --sequence-length where it reads tokens"
            ) from None
        return program, tuple(inputs)

    def file_bytes(self, artifact: Artifact) -> bytes:
        """The file."""
        return artifact[0]

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Load the program; sets the number of threads of XNNPACK's pool."""
        program, inputs = artifact
        function = open_function(program, num_threads)
        return lambda: function(inputs)
