"""What every inference engine promises: it compiles a network, loads it, and says what it runs on.

Measuring is two steps, so that only the second needs the machine for itself: an engine *compiles*
a network into an artifact, anywhere; then the artifact is loaded and timed where the clock is.
"""

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from nasbench.errors import RequestError

Forward = Callable[[], object]
"""One forward pass."""


class Engine(ABC):
    """Runs networks; one engine is the same on every machine that has its package.

    Attributes:
        name: its key in `ENGINES`.
        packages: whose versions are among the conditions of a measurement.
        file_suffix: of the exported files that it runs as they are; None where there are none.
        runs_programs: whether it runs what torch.export saved.
        num_gpus: how many GPUs Ray shall reserve for whoever runs it.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    file_suffix: ClassVar[str | None] = None
    runs_programs: ClassVar[bool] = False
    num_gpus: ClassVar[int] = 0

    @abstractmethod
    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Any:
        """Turn a plain module in eval mode into an artifact that another process can load."""

    def check_machine(self) -> None:  # noqa: B027 - most run anywhere
        """RequestError unless this machine has what running a network takes."""

    @abstractmethod
    def load(self, artifact: Any, num_threads: int) -> Forward:
        """Make ready to run: a function without arguments that does one forward pass.

        It may set the process's number of torch threads; whoever measures sets it back.
        """

    def read(
        self,
        path: Path,
        batch_size: int,  # noqa: ARG002 - most engines read no files
        sequence_length: int | None,  # noqa: ARG002
    ) -> Any:
        """The artifact of an exported file of the engine's suffix, with inputs of that size.

        Raises:
            RequestError: if the file is damaged, or leaves a size open that is not given.
        """
        raise RequestError(f"engine '{self.name}' runs no exported files as they are: '{path}'")

    def file_bytes(self, artifact: Any) -> bytes:  # noqa: ARG002 - most artifacts are no file
        """The artifact as a file of the engine's suffix, which `read` reads.

        Raises:
            RequestError: if the engine runs no files.
        """
        raise RequestError(f"engine '{self.name}' runs no files that could be carried to a device")

    def elapsed_ns(self, forward: Forward, clock_ns: Callable[[], int]) -> float:
        """Time one forward pass, from before it starts until its result is there."""
        start = clock_ns()
        forward()
        return clock_ns() - start

    def resident_bytes(self, artifact: Any) -> int:  # noqa: ARG002 - most load a copy
        """What of the artifact stays in memory where it was before loading, as weights do."""
        return 0

    def peak_device_bytes(self, forward: Forward) -> int | None:  # noqa: ARG002 - most have none
        """Most memory of the engine's own device during a pass; None where it computes on CPUs."""
        return None

    def device(self) -> str:
        """The model name of what computes."""
        return cpu_name()

    def versions(self) -> dict[str, str]:
        """Versions of the engine's packages."""
        return {package: _version(package) for package in self.packages}


_version = cache(version)  # these two are read from files, and asked for once per measurement


@cache
def cpu_name() -> str:
    """The processor's model name as the operating system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):  # x86; ARM boards
                return value.strip()
    return platform.processor() or platform.machine()


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())
