"""How a latency is measured: warm-up, timed runs, median and percentiles, conditions stated.

Measuring is two steps, so that only the second needs the machine for itself: an engine *compiles*
a network into an artifact, anywhere; then the artifact is loaded and timed.
"""

import gc
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProtocol:
    """The conditions of a measurement.

    Args:
        batch_size: samples of one forward pass.
        num_threads: threads that the engine may use for one forward pass.
        num_warmup: forward passes that are run first and not timed.
        num_repeats: timed forward passes.
    """

    batch_size: int = 1
    num_threads: int = 1
    num_warmup: int = 20
    num_repeats: int = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyMeasurement:
    """Wall-clock latency of one forward pass, with the conditions it was taken under."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    engine: str
    device: str
    protocol: LatencyProtocol

    def to_metrics(self) -> dict[str, float]:
        """The values by the names that objectives and tables use."""
        return {
            "latency_ms": self.median_ms,
            "latency_p10_ms": self.p10_ms,
            "latency_p90_ms": self.p90_ms,
        }

    def conditions(self) -> dict[str, Any]:
        """Everything but the values, JSON-able."""
        return {"engine": self.engine, "device": self.device, **asdict(self.protocol)}


class Engine(Protocol):
    """Runs networks; one engine is the same on every machine that has its package."""

    name: str

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Any:
        """Turn a plain module in eval mode into an artifact that another process can load."""

    def load(self, artifact: Any, num_threads: int) -> Callable[[], object]:
        """Make ready to run: a function without arguments that does one forward pass."""


def measure_latency(
    engine: Engine,
    artifact: Any,
    protocol: LatencyProtocol,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> LatencyMeasurement:
    """Time an artifact that the engine compiled, for a batch of the protocol's size.

    Garbage collection waits meanwhile. Nothing else should run on the machine; whoever calls this
    sees to it.
    """
    forward = engine.load(artifact, protocol.num_threads)
    for _ in range(protocol.num_warmup):
        forward()
    elapsed_ns = np.empty(protocol.num_repeats)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for repeat in range(protocol.num_repeats):
            start = clock_ns()
            forward()
            elapsed_ns[repeat] = clock_ns() - start
    finally:
        if was_enabled:
            gc.enable()
    p10, median, p90 = np.percentile(elapsed_ns / 1e6, [10, 50, 90]).tolist()
    return LatencyMeasurement(
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        engine=engine.name,
        device=cpu_name(),
        protocol=protocol,
    )


def cpu_name() -> str:
    """The processor's model name as the operating system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
