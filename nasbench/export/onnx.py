"""Targets `onnx` and `onnx_torchscript`: one self-contained ONNX file for each program.

Two exporters give the same network. What is shipped comes from torch's dynamo exporter. What is
only timed, hundreds of times in a search, comes from the TorchScript-based one, which takes a
twentieth of the time; the target `onnx_torchscript` ships what that one makes.
"""

import io
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError
from nasbench.export.base import ProgramExporter
from nasbench.export.programs import Program, TensorSpec
from nasbench.export.quiet import quiet
from nasbench.export.running import Run

OPSET = 18


class OnnxExporter(ProgramExporter):
    """Writes `model.onnx`, open in all sizes; runs it in ONNX Runtime.

    Raises:
        MissingExtraError: where a package of the extra is not installed.
    """

    runtime = "onnxruntime"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def __init__(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            package = (error.name or "onnx").partition(".")[0]
            raise MissingExtraError(package, "onnx", "an export target of ONNX") from None

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Export with the dynamo exporter."""
        with quiet():
            written = torch.onnx.export(
                program.export(),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                input_names=[spec.name for spec in program.inputs],
                output_names=[spec.name for spec in program.outputs],
                verbose=False,
            )
            assert written is not None
            _name_sizes(written.model.graph, program)
            written.save(path, external_data=False)
        return {"opset": OPSET}

    def open_program(self, path: Path, inputs: Sequence[TensorSpec]) -> Run:
        """Open a session."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [spec.name for spec in inputs]

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            arrays = (tensor.contiguous().numpy() for tensor in tensors)
            found = session.run(None, dict(zip(names, arrays, strict=True)))
            return tuple(torch.from_numpy(array) for array in found)

        return run


class OnnxTorchScriptExporter(OnnxExporter):
    """Writes `model.torchscript.onnx` with torch's older exporter, for tools that ask for it.

    Raises:
        MissingExtraError: where a package of the extra is not installed.
    """

    suffixes = (".torchscript.onnx",)

    def refusal(self, programs: Iterable[str]) -> str | None:
        """Only what `model` computes; a traced cache would be of one length."""
        if "model" in programs:
            return None
        return (
            "tracing by TorchScript makes the length of a cache a constant; the target 'onnx' "
            "leaves it open"
        )

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Export with the TorchScript-based exporter."""
        _teach_antialiasing()
        specs = (*program.inputs, *program.outputs)
        with quiet():
            torch.onnx.export(
                program.module,
                program.examples,
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in program.inputs],
                output_names=[spec.name for spec in program.outputs],
                dynamic_axes={
                    spec.name: {i: s for i, s in enumerate(spec.shape) if isinstance(s, str)}
                    for spec in specs
                },
            )
        return {"opset": OPSET}


def _name_sizes(graph: Any, program: Program) -> None:
    """Let open sizes have our names: the exporter makes up its own."""
    import onnx_ir

    for values, specs in ((graph.inputs, program.inputs), (graph.outputs, program.outputs)):
        for value, spec in zip(values, specs, strict=True):
            value.shape = onnx_ir.Shape(spec.shape)


def to_onnx_fast(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> bytes:
    """The file's bytes, for exactly these input shapes, from the TorchScript-based exporter."""
    _teach_antialiasing()
    stream = io.BytesIO()
    with quiet():
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
