"""Peak memory of a network that runs in an engine."""

import ctypes
import gc
from pathlib import Path
from typing import Any

from nasbench.hardware.engine import Engine
from nasbench.hardware.protocol import control_network
from nasbench.hardware.reading import Reading
from nasbench.supernet.threads import torch_threads


def measure_peak_memory(
    engine: Engine, artifact: Any, num_threads: int, process: Path = Path("/proc/self")
) -> Reading:
    """Bytes that loading a network and running it need at the most, its weights included.

    On a CPU that is by how much the process's resident memory grows, after the engine has run
    another network, whose libraries and buffers are there already. An engine that computes
    elsewhere counts for itself.

    Args:
        process: where Linux tells about this process.
    """
    with torch_threads(None):
        engine.load(engine.compile(*control_network()), num_threads)()
        try:
            _give_back_free_memory()
            (process / "clear_refs").write_text("5")  # forget the highest value so far
            before = _status_bytes(process, "VmRSS")
            forward = engine.load(artifact, num_threads)
            for _ in range(2):
                forward()
            grown = _status_bytes(process, "VmHWM") - before
        except OSError:
            grown, forward = None, engine.load(artifact, num_threads)
        on_device = engine.peak_device_bytes(forward)
    if on_device is not None:
        return Reading(on_device)
    if grown is None:
        return Reading(None, "only Linux tells how much memory a process had at the most")
    return Reading(grown + engine.resident_bytes(artifact))


def _status_bytes(process: Path, name: str) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{process}/status has no {name}")


def _give_back_free_memory() -> None:
    """So that what was freed before is not taken again without being seen."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
