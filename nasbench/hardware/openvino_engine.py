"""Engine `openvino`: OpenVINO on the CPU, in float32."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.export.openvino import Files, check_installed, convert, open_function, read_model
from nasbench.export.quiet import quiet
from nasbench.export.resizing import module_resizing_by_products
from nasbench.hardware.engine import Engine, Forward

Artifact = tuple[Files, tuple[Tensor, ...]]


class OpenVinoEngine(Engine):
    """Runs OpenVINO's representation; the artifact is its two files with their inputs.

    Raises:
        MissingExtraError: where openvino is not installed.
    """

    name = "openvino"
    packages = ("openvino",)
    file_suffix = ".xml"

    def __init__(self) -> None:
        check_installed("the engine 'openvino'")

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Export and convert for exactly the shapes of the inputs."""
        with quiet():
            convertible = module_resizing_by_products(module, example_inputs)
            program = torch.export.export(convertible, example_inputs)
        return convert(program), example_inputs

    def read(self, path: Path, batch_size: int, sequence_length: int | None) -> Artifact:
        """The files with inputs that fit; an open first size is the batch, others the sequence."""
        try:
            files = path.read_bytes(), path.with_suffix(".bin").read_bytes()
            ports = read_model(files).inputs
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RequestError(f"OpenVINO cannot read '{path}': {reason}") from None
        generator = torch.Generator().manual_seed(0)
        inputs: list[Tensor] = []
        for port in ports:
            shape = []
            for position, size in enumerate(port.partial_shape):
                given = batch_size if position == 0 else sequence_length
                if size.is_dynamic and given is None:
                    raise RequestError(
                        f"'{path}' leaves a size of its input '{port.any_name}' open; give "
                        "--sequence-length"
                    )
                shape.append(given if size.is_dynamic and given else size.get_length())
            is_float = port.element_type.is_real()
            inputs.append(
                torch.randn(shape, generator=generator)
                if is_float
                else torch.ones(shape, dtype=torch.int64)
            )
        return files, tuple(inputs)

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Compile for the CPU with so many threads."""
        files, inputs = artifact
        function = open_function(files, num_threads)
        return lambda: function(*inputs)
