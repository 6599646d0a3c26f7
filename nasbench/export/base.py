"""What an export target promises: it writes one file, and it can run what it wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]
"""A forward pass of an exported file: inputs of any batch size in, outputs out."""


class Exporter(Protocol):
    """Writes a plain module in eval mode, whose one input and one output have the batch first."""

    file_name: str

    def write(self, module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> None:
        """Write the module to `path`, for any batch size. The module is not changed."""

    def load(self, path: Path, module: nn.Module) -> Run:
        """Open a written file in its own runtime.

        Args:
            path: the file.
            module: a module of the same structure with other weights, for targets that store
                weights alone; it may be overwritten.
        """
