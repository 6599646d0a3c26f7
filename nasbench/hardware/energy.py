"""Energy of a forward pass, where the machine has a counter: RAPL of processors, NVML of GPUs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from nasbench.hardware.engine import Engine, Forward
from nasbench.hardware.protocol import LatencyProtocol
from nasbench.hardware.reading import Reading
from nasbench.supernet.threads import torch_threads


class EnergyCounter(Protocol):
    """Counts what a part of the machine uses."""

    def joules(self) -> float:
        """Since some moment in the past."""


class RaplCounter:
    """The processor packages' own counters, as Linux shows them (Intel's and AMD's).

    Whoever reads them less than once a minute may miss that one began anew.

    Args:
        root: of the power capping framework.

    Raises:
        OSError: where there is none, or it may not be read.
    """

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._packages = sorted(root.glob("intel-rapl:[0-9]"))
        if not self._packages:
            raise FileNotFoundError(f"no energy counter of a processor in {root}")
        self._ranges = [self._read(p, "max_energy_range_uj") for p in self._packages]
        self._last = [self._read(p, "energy_uj") for p in self._packages]
        self._total_uj = 0

    def joules(self) -> float:
        """Of all packages together."""
        for index, package in enumerate(self._packages):
            now = self._read(package, "energy_uj")
            passed = now - self._last[index]
            self._total_uj += passed if passed >= 0 else passed + self._ranges[index]
            self._last[index] = now
        return self._total_uj / 1e6

    @staticmethod
    def _read(package: Path, name: str) -> int:
        return int((package / name).read_text())


class NvmlCounter:
    """The counter of the GPU that torch computes on (Volta and later).

    Raises:
        ImportError: where the package nvidia-ml-py is not installed.
        OSError: where the GPU has no counter.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self.joules()
        except pynvml.NVMLError as error:
            raise OSError(f"the GPU tells no energy: {error}") from None

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


def energy_counter(engine: Engine) -> EnergyCounter:
    """The counter of what the engine computes on.

    Raises:
        OSError, ImportError: saying why there is none.
    """
    return NvmlCounter() if engine.num_gpus else RaplCounter()


def measure_energy(
    engine: Engine,
    artifact: Any,
    protocol: LatencyProtocol,
    *,
    min_seconds: float = 1.0,
    make_counter: Callable[[Engine], EnergyCounter] = energy_counter,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Millijoules of one forward pass: what the counter says of many, divided by their number.

    It is what the whole processor or GPU uses meanwhile: its idle power and whatever else runs on
    it are in it.

    Args:
        min_seconds: how long the passes take together; counters change about once a millisecond.
    """
    try:
        counter = make_counter(engine)
    except ImportError:
        return Reading(None, "it takes the package nvidia-ml-py: pip install 'nasbench[energy]'")
    except OSError as error:
        return Reading(None, _why(error))
    with torch_threads(None):
        forward = engine.load(artifact, protocol.num_threads)
        for _ in range(protocol.num_warmup):
            forward()
        num_passes, start, before = 0, clock(), counter.joules()
        while clock() - start < min_seconds:
            _run(engine, forward)
            num_passes += 1
        used = counter.joules() - before
    return Reading(1e3 * used / num_passes)


def _run(engine: Engine, forward: Forward) -> None:
    """One pass until its result is there, on a GPU too."""
    engine.elapsed_ns(forward, time.perf_counter_ns)


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"only root may read {error.filename}"
    return str(error)
