"""Engine `executorch`: ExecuTorch with XNNPACK, as networks run on phones."""

import contextlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError, RequestError
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
        try:
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime
        except ImportError as error:
            package = (error.name or "executorch").partition(".")[0]
            raise MissingExtraError(package, "executorch", "the engine 'executorch'") from None
        self._threads, self._runtime = portable_lib, Runtime.get()

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Export for exactly the shapes of the inputs, and lower."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        with warnings.catch_warnings():  # of torch's about what executorch calls
            warnings.simplefilter("ignore")
            program = torch.export.export(module, example_inputs)
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(lowered.to_executorch().buffer), example_inputs

    def read(self, path: Path, batch_size: int, sequence_length: int | None) -> Artifact:
        """The file with inputs of the sizes that it was lowered for."""
        program = path.read_bytes()
        try:
            described = self._method(program).metadata
            inputs = [described.input_tensor_meta(i) for i in range(described.num_inputs())]
            shapes = [(tuple(each.sizes()), each.dtype()) for each in inputs]
        except Exception as error:  # the runtime raises whatever it pleases
            reason = " ".join(str(error).split())
            raise RequestError(f"ExecuTorch cannot read '{path}': {reason}") from None
        if any(shape[0] != batch_size for shape, _ in shapes) or sequence_length is not None:
            raise RequestError(
                f"'{path}' was lowered for inputs of {', '.join(str(s) for s, _ in shapes)} only; "
                f"give --batch-size {shapes[0][0][0]} and no --sequence-length"
            )
        is_float = {6}  # ExecuTorch's number for float32
        generator = torch.Generator().manual_seed(0)
        return program, tuple(
            torch.randn(shape, generator=generator)
            if int(dtype) in is_float
            else torch.ones(shape, dtype=torch.int64)
            for shape, dtype in shapes
        )

    def file_bytes(self, artifact: Artifact) -> bytes:
        """The file."""
        return artifact[0]

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Load the program; sets the number of threads of XNNPACK's pool."""
        program, inputs = artifact
        with contextlib.suppress(AttributeError):  # builds without a pool have one thread
            self._threads._unsafe_reset_threadpool(num_threads)
        method, arguments = self._method(program), list(inputs)
        return lambda: method.execute(arguments)

    def _method(self, program: bytes) -> Any:
        return self._runtime.load_program(program).load_method("forward")
