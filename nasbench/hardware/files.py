"""Exported files as something that an engine can time.

    open_exported(Path("export/ID"))        what `nasbench export` wrote knows its architecture
    open_exported(Path("anything.onnx"))    .pt2 and .pte, too, from wherever they come

A file may come from a stranger, so nothing in it is ever unpickled.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.export.pt2 import check_holds_no_code
from nasbench.export.weights import SafetensorsExporter
from nasbench.hardware.engine import Engine
from nasbench.supernet import SUPERNETS, build_supernet

_SUFFIX_ENGINES = {".onnx": "onnxruntime", ".pte": "executorch", ".pt2": "eager"}
_WEIGHTS = SafetensorsExporter.file_name
_IN_FOLDER = ("model.onnx", _WEIGHTS, "model.pt2", "model.pte")  # the first that is there


@dataclass(frozen=True)
class Exported:
    """A file, and what its manifest says of it.

    Args:
        path: of the file.
        manifest: `manifest.json` beside the file; empty where there is none.
        usual_engine: what runs such a file where nobody says otherwise.
    """

    path: Path
    usual_engine: str
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def artifact(self, engine: Engine, batch_size: int, sequence_length: int | None) -> Any:
        """Make it ready for an engine, with inputs of that size.

        Raises:
            RequestError: if the engine does not run such files, or the file is damaged or unsafe.
        """
        if not _runs(engine, self.path):
            raise RequestError(
                f"engine '{engine.name}' does not run '{self.path.name}'; "
                f"{self.usual_engine} does, or give the folder of an export of nasbench"
            )
        if self.path.suffix == engine.file_suffix:
            return engine.read(self.path, batch_size, sequence_length)
        if self.path.name == _WEIGHTS:
            module, inputs = self._network(batch_size)
        else:
            module, inputs = _open_program(self.path, batch_size)
        return engine.compile(module, with_sequence_length(inputs, sequence_length))

    def _network(self, batch_size: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network that the manifest describes, with the weights of the file."""
        try:
            family = self.manifest["supernet"]["family"]
            if family not in SUPERNETS:  # a module's name would be imported
                raise unknown_name("supernet family", family, SUPERNETS)
            supernet = build_supernet(self.manifest["supernet"])
            module = supernet.extract(self.manifest["architecture"])
            SafetensorsExporter().load(self.path, module)
        except (KeyError, TypeError):
            raise RequestError(
                f"'{self.path}' lies beside no manifest.json that says which network its weights "
                "belong to"
            ) from None
        except (RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise RequestError(
                f"the weights in '{self.path}' do not fit its manifest: {reason}"
            ) from None
        return module, supernet.example_inputs(batch_size)


def open_exported(path: Path, engine: Engine | None = None) -> Exported:
    """A file, or the best one of an export's folder.

    Args:
        engine: what shall run it, which decides between the files of a folder.

    Raises:
        RequestError: if there is no such thing.
    """
    if path.is_dir():
        found = [path / name for name in _IN_FOLDER if (path / name).is_file()]
        if engine is not None:
            found.sort(key=lambda file: not _runs(engine, file))
        if not found:
            raise RequestError(
                f"the folder '{path}' holds nothing to measure; expected one of "
                f"{', '.join(_IN_FOLDER)}"
            )
        path = found[0]
    elif not path.is_file():
        raise RequestError(f"there is no file '{path}'")
    if _suffix_engine(path) is None:
        possible = ", ".join([*_SUFFIX_ENGINES, _WEIGHTS])
        raise RequestError(f"'{path}' is no network that can be measured; possible: {possible}")
    return Exported(path, _suffix_engine(path) or "", _read_manifest(path.parent))


def _runs(engine: Engine, path: Path) -> bool:
    is_program = path.suffix == ".pt2" and engine.runs_programs
    return is_program or path.name == _WEIGHTS or path.suffix == engine.file_suffix


def _suffix_engine(path: Path) -> str | None:
    return "onnxruntime" if path.name == _WEIGHTS else _SUFFIX_ENGINES.get(path.suffix)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def with_sequence_length(inputs: tuple[Tensor, ...], length: int | None) -> tuple[Tensor, ...]:
    """Token ids of shape (B, T) as sequences of that length, cut or continued from their start.

    Raises:
        RequestError: if the inputs are no token ids.
    """
    if length is None:
        return inputs
    if any(x.is_floating_point() or x.dim() != 2 for x in inputs):
        raise RequestError(
            "only networks that read token ids have a sequence length; leave --sequence-length "
            "(latency.sequence_length) away"
        )
    return tuple(x[:, torch.arange(length) % x.shape[1]] for x in inputs)


# -- programs of torch.export -------------------------------------------------------------------


def _open_program(path: Path, batch_size: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The program with inputs like those it was exported with."""
    check_holds_no_code(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch has many ways of disliking an archive
        reason = " ".join(str(error).split())
        raise RequestError(f"torch cannot read '{path}': {reason}") from None
    given, named = program.example_inputs or ((), {})
    if not given or named or not all(isinstance(x, Tensor) for x in given):
        raise RequestError(f"'{path}' was saved without the tensors that it takes as inputs")
    inputs = tuple(torch.cat([x[:1]] * batch_size) for x in given)
    module = program.module()
    try:
        with torch.inference_mode():
            module(*inputs)
    except (RuntimeError, AssertionError):
        raise RequestError(
            f"'{path}' does not take batches of {batch_size}; give --batch-size {len(given[0])}"
        ) from None
    return module, inputs
