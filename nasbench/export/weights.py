"""Target `safetensors`: the weights alone; the manifest says how to build the module for them."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nasbench.export.base import Run


class SafetensorsExporter:
    """Writes `weights.safetensors`, the extracted module's state."""

    file_name = "weights.safetensors"

    def write(
        self,
        module: nn.Module,
        example_inputs: tuple[Tensor, ...],  # noqa: ARG002 - nothing is traced
        path: Path,
    ) -> None:
        """Save the state."""
        save_file({name: t.contiguous() for name, t in module.state_dict().items()}, path)

    def load(self, path: Path, module: nn.Module) -> Run:
        """Load the state into the given module, strictly."""
        module.load_state_dict(load_file(path))
        module.eval()

        def run(inputs: Tensor) -> Tensor:
            with torch.inference_mode():
                return module(inputs)

        return run
