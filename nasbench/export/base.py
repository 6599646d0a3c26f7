"""What an export target promises: it writes files, and it can run what it wrote."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from nasbench.export.programs import Program, TensorSpec
from nasbench.export.running import Run, as_network


class Exporter(ABC):
    """Writes a plain network in eval mode, which it leaves as it was.

    An exporter is made for one export; its constructor takes no arguments.

    Attributes:
        precision: of the arithmetic, which decides how much its outputs may differ.
        runtime: what a manifest says runs the files.

    Raises:
        MissingExtraError: by the constructor, where a package of an extra is not installed.
    """

    precision: ClassVar[str] = "float32"
    runtime: ClassVar[str]

    def refusal(self, programs: Iterable[str]) -> str | None:  # noqa: ARG002 - most write all
        """Why it cannot write a network of these programs, as a clause; None if it can."""
        return None

    @abstractmethod
    def file_names(self, programs: Iterable[str]) -> list[str]:
        """The files that it writes for a network of these programs."""

    @abstractmethod
    def write(
        self, network: nn.Module, programs: Mapping[str, Program], folder: Path
    ) -> dict[str, dict[str, Any]]:
        """Write the files to a folder.

        Returns:
            Name of a file -> what is worth saying of it in a manifest.
        """

    @abstractmethod
    def load(self, folder: Path, inputs: Mapping[str, Sequence[TensorSpec]]) -> nn.Module:
        """The written network in its own runtime, from nothing but its files.

        Args:
            folder: where the files lie.
            inputs: name of a program -> its inputs.

        Returns:
            It takes and gives what the network did; of a language model or a translator it has
            `decode`, and `encode`.
        """


class ProgramExporter(Exporter):
    """Writes each program as a file of its own, beside files that belong to it.

    Attributes:
        suffixes: of the file that is opened, and of those beside it.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def file_names(self, programs: Iterable[str]) -> list[str]:
        """The program's name and each suffix."""
        return [f"{name}{suffix}" for name in programs for suffix in self.suffixes]

    def write(
        self,
        network: nn.Module,  # noqa: ARG002 - its programs are all of it
        programs: Mapping[str, Program],
        folder: Path,
    ) -> dict[str, dict[str, Any]]:
        """Write every program."""
        files = {f"{name}{self.suffixes[0]}": program for name, program in programs.items()}
        return {file: self.write_program(each, folder / file) for file, each in files.items()}

    def load(self, folder: Path, inputs: Mapping[str, Sequence[TensorSpec]]) -> nn.Module:
        """Open every program."""
        runs = {
            name: self.open_program(folder / f"{name}{self.suffixes[0]}", specs)
            for name, specs in inputs.items()
        }
        return as_network(runs, inputs)

    @abstractmethod
    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Write one program; what is worth saying of it in a manifest."""

    @abstractmethod
    def open_program(self, path: Path, inputs: Sequence[TensorSpec]) -> Run:
        """Open a written file in its own runtime."""
