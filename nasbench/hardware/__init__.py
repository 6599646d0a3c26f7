"""Hardware: what a wall clock says about a network, and under which conditions it says so.

`ENGINES[name]()` runs networks in one inference engine; `measure_latency` times it under the
protocol.
"""

from collections.abc import Callable

from nasbench.hardware.protocol import (
    Engine,
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
    },
)

__all__ = ["ENGINES", "Engine", "LatencyMeasurement", "LatencyProtocol", "measure_latency"]
