"""Target `onnx`: one self-contained ONNX file.

Two exporters give the same network. What is shipped comes from torch's dynamo exporter. What is
only timed, hundreds of times in a search, comes from the TorchScript-based one, which takes a
twentieth of the time.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError
from nasbench.export.base import Run
from nasbench.export.pt2 import export_program

OPSET = 18


class OnnxExporter:
    """Writes `model.onnx` with a dynamic batch size; runs it in ONNX Runtime.

    Raises:
        MissingExtraError: where a package of the extra is not installed.
    """

    file_name = "model.onnx"

    def __init__(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            package = (error.name or "onnx").partition(".")[0]
            raise MissingExtraError(package, "onnx", "the export target 'onnx'") from None

    def write(self, module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> None:
        """Export with the dynamo exporter."""
        with _quiet_exporter():
            program = torch.onnx.export(
                export_program(module, example_inputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                input_names=["input"],
                output_names=["output"],
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)

    def load(self, path: Path, module: nn.Module) -> Run:  # noqa: ARG002 - the file is complete
        """Open a session."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(inputs: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])

        return run


def to_onnx_fast(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> bytes:
    """The file's bytes, for exactly these input shapes, from the TorchScript-based exporter."""
    _teach_antialiasing()
    stream = io.BytesIO()
    with _quiet_exporter():
        torch.onnx.export(
            module,
            example_inputs,
            stream,  # type: ignore[arg-type]  # this exporter writes to streams too
            dynamo=False,
            opset_version=OPSET,
        )
    return stream.getvalue()


@cache
def _teach_antialiasing() -> None:
    """Let the TorchScript-based exporter write what resizes images, as the dynamo exporter does."""
    from torch.onnx import symbolic_helper

    def resize(graph: Any, x: Any, size: Any, align_corners: Any, *_scales: Any) -> Any:
        is_aligned = symbolic_helper._maybe_get_const(align_corners, "b")
        sizes = torch.tensor(symbolic_helper._maybe_get_const(size, "is"))
        batch_and_channels = symbolic_helper._slice_helper(
            graph, graph.op("Shape", x), axes=[0], starts=[0], ends=[2]
        )
        shape = graph.op(
            "Concat", batch_and_channels, graph.op("Constant", value_t=sizes), axis_i=0
        )
        none = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
        return graph.op(
            "Resize",
            x,
            none,
            none,
            shape,
            mode_s="linear",
            antialias_i=1,
            exclude_outside_i=1,
            coordinate_transformation_mode_s="align_corners" if is_aligned else "half_pixel",
        )

    torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
        "aten::_upsample_bilinear2d_aa", resize, OPSET
    )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch says about its own exporters (deprecations, torchvision missing)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
