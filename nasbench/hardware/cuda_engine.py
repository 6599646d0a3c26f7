"""Engine `cuda`: PyTorch without compilation on a GPU, timed by the GPU's own events."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.hardware.eager_engine import Artifact, EagerEngine
from nasbench.hardware.engine import Forward


class CudaEngine(EagerEngine):
    """Runs the module on the first CUDA device that is visible.

    A latency is what passes on the GPU's own clock between an event recorded before the forward
    pass and one recorded behind its last kernel, so it holds what launching the kernels costs
    where the GPU has to wait for them.
    """

    name = "cuda"
    num_gpus = 1

    def check_machine(self) -> None:
        """RequestError where torch sees no CUDA device."""
        if not torch.cuda.is_available():
            raise RequestError(
                "engine 'cuda' needs a CUDA device, and torch sees none; possible here: eager, "
                "onnxruntime"
            )

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Nothing to compile; the artifact stays on the CPU, where every process can take it."""
        return copy.deepcopy(module).cpu(), tuple(x.cpu() for x in example_inputs)

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Copy the network and its inputs to the GPU."""
        module, inputs = artifact
        on_gpu = copy.deepcopy(module).cuda(), tuple(x.cuda() for x in inputs)
        return super().load(on_gpu, num_threads)

    def elapsed_ns(self, forward: Forward, clock_ns: Callable[[], int]) -> float:  # noqa: ARG002
        """Between two events on the GPU's clock."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        forward()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e6

    def resident_bytes(self, artifact: Artifact) -> int:  # noqa: ARG002 - the GPU has a copy
        """None of it."""
        return 0

    def peak_device_bytes(self, forward: Forward) -> int:
        """Most bytes that torch's allocator had given out, weights included."""
        torch.cuda.reset_peak_memory_stats()
        forward()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    def device(self) -> str:
        """The GPU's name."""
        return torch.cuda.get_device_name()
