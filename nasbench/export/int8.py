"""Targets `onnx_int8` and `executorch_int8`: static quantization of weights and activations.

Weights have a scale per output channel, activations one per tensor, which calibration chooses from
the values that real samples cause (Jacob et al., CVPR 2018). What computes in int8 is what the
runtime has kernels for; the rest stays float32.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nasbench.errors import RequestError
from nasbench.export.base import ProgramExporter
from nasbench.export.executorch import ExecuTorchExporter
from nasbench.export.onnx import OnnxExporter
from nasbench.export.programs import Inputs, Program
from nasbench.export.quiet import quiet
from nasbench.export.resizing import resizing_by_products


class _Int8(ProgramExporter):
    """What both targets share: which networks they take."""

    precision = "int8"

    def refusal(self, programs: Iterable[str]) -> str | None:
        """Only what `model` computes."""
        if "model" in programs:
            return None
        return (
            "activations are calibrated for networks of one pass, and a key-value cache comes "
            "from many; take its float32 target"
        )


class OnnxInt8Exporter(_Int8, OnnxExporter):
    """Writes `model.int8.onnx`, with pairs of QuantizeLinear and DequantizeLinear.

    Raises:
        MissingExtraError: where a package of the extra is not installed.
    """

    suffixes = (".int8.onnx",)

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Write it as float32, fold normalization into convolutions, calibrate, quantize."""
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        batches = calibration_of(program)
        names = [spec.name for spec in program.inputs]

        class Reader(quantization.CalibrationDataReader):
            """Hands out one batch after the other."""

            def __init__(self) -> None:
                self._rest: Iterator[Inputs] = iter(batches)

            def get_next(self) -> dict[str, Any] | None:
                batch = next(self._rest, None)
                if batch is None:
                    return None
                return {n: x.contiguous().numpy() for n, x in zip(names, batch, strict=True)}

        with TemporaryDirectory() as folder, quiet():
            written, folded = Path(folder) / "float.onnx", Path(folder) / "folded.onnx"
            facts = super().write_program(program, written)
            quant_pre_process(written, folded, skip_symbolic_shape=True)
            quantization.quantize_static(
                folded,
                path,
                Reader(),
                op_types_to_quantize=_LINEAR if _has_attention(folded) else None,
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
        return {**facts, "calibration_samples": sum(len(batch[0]) for batch in batches)}


class ExecuTorchInt8Exporter(_Int8, ExecuTorchExporter):
    """Writes `model.int8.pte`, quantized as XNNPACK computes.

    Raises:
        MissingExtraError: where executorch is not installed.
    """

    suffixes = (".int8.pte",)

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Annotate the graph, calibrate, quantize, lower."""
        with quiet():
            from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
                XNNPACKQuantizer,
                get_symmetric_quantization_config,
            )
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            batches = calibration_of(program)
            program = resizing_by_products(program)
            scheme = get_symmetric_quantization_config(is_per_channel=True)
            prepared = prepare_pt2e(
                program.export().module(),
                XNNPACKQuantizer().set_global(scheme),
            )
            for batch in batches:
                prepared(*batch)
            facts = self.lower_to(path, program, convert_pt2e(prepared))
        return {**facts, "calibration_samples": sum(len(batch[0]) for batch in batches)}


_LINEAR = ["Conv", "Gemm", "MatMul"]


def _has_attention(path: Path) -> bool:
    """Whether an ONNX file masks scores before a softmax.

    Masks are so large that 256 steps up to them leave nothing of the scores; and what a transformer
    does between its linear layers costs little time.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == "Softmax" for node in graph.node)


def calibration_of(program: Program) -> list[Inputs]:
    """The batches to calibrate with; RequestError if there are none."""
    if not program.calibration:
        raise RequestError("int8 needs samples to calibrate with; set export.calibration_samples")
    return list(program.calibration)
