"""Export: a chosen sub-network as files for real targets, each checked in its own runtime.

`EXPORTERS[target]()` writes one kind of file; `manifest.export_subnetwork` writes all that are
asked for, compares each with the supernet's active sub-network, and writes the manifest last.
"""

from collections.abc import Callable

from nasbench.export.base import Exporter
from nasbench.registry import Registry

EXPORTERS: Registry[Callable[[], Exporter]] = Registry(
    "export target",
    {
        "pt2": "nasbench.export.pt2:Pt2Exporter",
        "onnx": "nasbench.export.onnx:OnnxExporter",
        "onnx_torchscript": "nasbench.export.onnx:OnnxTorchScriptExporter",
        "executorch": "nasbench.export.executorch:ExecuTorchExporter",
        "onnx_int8": "nasbench.export.int8:OnnxInt8Exporter",
        "executorch_int8": "nasbench.export.int8:ExecuTorchInt8Exporter",
        "openvino": "nasbench.export.openvino:OpenVinoExporter",
        "safetensors": "nasbench.export.weights:SafetensorsExporter",
    },
)

__all__ = ["EXPORTERS", "Exporter"]
