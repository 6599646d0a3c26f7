"""Hardware: what a wall clock says about a network, and under which conditions it says so.

`ENGINES[name]()` runs networks in one inference engine; `measure_latency` times it under the
protocol.
"""

from collections.abc import Callable

from nasbench.hardware.engine import Engine
from nasbench.hardware.protocol import (
    CAREFUL,
    LatencyMeasurement,
    LatencyProtocol,
    measure_latency,
)
from nasbench.registry import Registry

ENGINES: Registry[Callable[[], Engine]] = Registry(
    "inference engine",
    {
        "onnxruntime": "nasbench.hardware.onnxruntime_engine:OnnxRuntimeEngine",
        "eager": "nasbench.hardware.eager_engine:EagerEngine",
        "torch_compile": "nasbench.hardware.torch_compile_engine:TorchCompileEngine",
        "cuda": "nasbench.hardware.cuda_engine:CudaEngine",
        "executorch": "nasbench.hardware.executorch_engine:ExecuTorchEngine",
        "openvino": "nasbench.hardware.openvino_engine:OpenVinoEngine",
    },
)

__all__ = [
    "ENGINES",
    "Engine",
    "LatencyProtocol",
    "CAREFUL",
    "LatencyMeasurement",
    "measure_latency",
]
