"""Target `openvino`: OpenVINO's intermediate representation, for Intel's CPUs, GPUs and NPUs.

This file is the only door to OpenVINO: the engine that measures latency converts and loads here.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from nasbench.errors import MissingExtraError
from nasbench.export.base import ProgramExporter
from nasbench.export.programs import Program, TensorSpec
from nasbench.export.quiet import quiet
from nasbench.export.resizing import resizing_by_products
from nasbench.export.running import Run

Files = tuple[bytes, bytes]
"""The content of a `.xml` and of its `.bin`."""


class OpenVinoExporter(ProgramExporter):
    """Writes `model.xml` and its weights `model.bin`, open in all sizes.

    Raises:
        MissingExtraError: where openvino is not installed.
    """

    runtime = "openvino"
    suffixes = (".xml", ".bin")

    def __init__(self) -> None:
        check_installed("the export target 'openvino'")

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Convert, give inputs and outputs their names, and save."""
        import openvino

        with quiet():
            model = _converted(resizing_by_products(program).export())
        for ports, specs in ((model.inputs, program.inputs), (model.outputs, program.outputs)):
            for port, spec in zip(ports, specs, strict=True):
                port.get_tensor().set_names({spec.name})
        shapes = {}
        for port, spec in zip(model.inputs, program.inputs, strict=True):
            sizes = [-1 if isinstance(size, str) else size for size in spec.shape]
            shapes[port] = openvino.PartialShape(sizes)
        model.reshape(shapes)
        openvino.save_model(model, path, compress_to_fp16=False)
        return {}

    def open_program(self, path: Path, inputs: Sequence[TensorSpec]) -> Run:  # noqa: ARG002
        """Compile it for the CPU."""
        files = path.read_bytes(), path.with_suffix(".bin").read_bytes()
        return open_function(files)


def check_installed(purpose: str) -> None:
    """MissingExtraError unless OpenVINO is there."""
    try:
        import openvino.frontend.pytorch.fx_decoder  # noqa: F401
    except ImportError as error:
        package = (error.name or "openvino").partition(".")[0]
        raise MissingExtraError(package, "openvino", purpose) from None


def convert(program: torch.export.ExportedProgram) -> Files:
    """The files of a program, for the sizes that it has."""
    import openvino

    with quiet(), TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(_converted(program), path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _converted(program: torch.export.ExportedProgram) -> Any:
    """By OpenVINO's own front end: `openvino.convert_model` does the same and sends usage data."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    manager = FrontEndManager()
    frontend = manager.load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder.from_exported_program(program)  # must outlive the conversion
    return frontend.convert(frontend.load(decoder))


def read_model(files: Files) -> Any:
    """OpenVINO's model of these files; RuntimeError if they are none."""
    import openvino

    structure, weights = files
    return openvino.Core().read_model(structure, weights)


def open_function(files: Files, num_threads: int | None = None) -> Run:
    """A program's function on the CPU, ready to run.

    In float32, while OpenVINO by itself computes in what it finds fast.

    Args:
        num_threads: None takes all cores.
    """
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if num_threads is not None:
        settings |= {"INFERENCE_NUM_THREADS": num_threads, "NUM_STREAMS": 1}
    compiled = openvino.compile_model(read_model(files), "CPU", settings)
    outputs = list(compiled.outputs)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = compiled([tensor.contiguous().numpy() for tensor in tensors])
        return tuple(torch.from_numpy(found[port].copy()) for port in outputs)

    return run
