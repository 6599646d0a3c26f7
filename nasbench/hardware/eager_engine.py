"""Engine `eager`: PyTorch without compilation, in this process."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Artifact = tuple[nn.Module, tuple[Tensor, ...]]


class EagerEngine:
    """Runs the module as it is; the artifact is the module with its inputs."""

    name = "eager"

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Nothing to compile."""
        return module, example_inputs

    def load(self, artifact: Artifact, num_threads: int) -> Callable[[], object]:
        """Sets the process's number of torch threads."""
        module, inputs = artifact
        torch.set_num_threads(num_threads)

        def forward() -> object:
            with torch.inference_mode():
                return module(*inputs)

        return forward
