"""Export: a chosen sub-network as files for real targets, each checked in its own runtime.

`EXPORTERS[target]()` writes one kind of file; `export_subnetwork` writes all that are asked for,
compares each with the supernet's active sub-network, and writes the manifest last.
"""

from collections.abc import Callable

from nasbench.export.base import Exporter
from nasbench.registry import Registry

EXPORTERS: Registry[Callable[[], Exporter]] = Registry(
    "export target",
    {
        "pt2": "nasbench.export.pt2:Pt2Exporter",
        "onnx": "nasbench.export.onnx:OnnxExporter",
        "safetensors": "nasbench.export.weights:SafetensorsExporter",
    },
)

__all__ = ["EXPORTERS", "Exporter"]
