"""Engine `eager`: PyTorch without compilation, in this process."""

import torch
from torch import Tensor, nn

from nasbench.hardware.engine import Engine, Forward, module_bytes

Artifact = tuple[nn.Module, tuple[Tensor, ...]]


class EagerEngine(Engine):
    """Runs the module as it is; the artifact is the module with its inputs."""

    name = "eager"
    runs_programs = True

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Nothing to compile."""
        return module, example_inputs

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Sets the process's number of torch threads."""
        module, inputs = artifact
        torch.set_num_threads(num_threads)

        def forward() -> object:
            with torch.inference_mode():
                return module(*inputs)

        return forward

    def resident_bytes(self, artifact: Artifact) -> int:
        """The weights."""
        return module_bytes(artifact[0])
