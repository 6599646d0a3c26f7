"""Target `safetensors`: weights and a `config.json`, from which PyTorch builds the network again.

    network = build_network(Path("export/ID"))        a plain module in eval mode

The configuration names modules and the arguments of their constructors. Building needs no supernet
and no search, and runs no code of the files: only modules that are known here are built.
"""

import inspect
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nasbench.errors import RequestError, closest
from nasbench.export.base import Exporter
from nasbench.export.programs import Program, TensorSpec
from nasbench.supernet import (
    plain,
    plain_attention,
    plain_decoder,
    plain_seq2seq,
    plain_transformer,
)

WEIGHTS, CONFIG = "weights.safetensors", "config.json"

Modules = Mapping[str, type[nn.Module]]


def _defined_in(*files: Any) -> dict[str, type[nn.Module]]:
    """The modules that these files define, by their names."""
    return {
        kind.__name__: kind
        for file in files
        for kind in vars(file).values()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and kind.__module__.startswith(file.__name__)
    }


_KNOWN = _defined_in(nn, plain, plain_attention, plain_decoder, plain_seq2seq, plain_transformer)
_ELSEWHERE = ("device", "dtype")  # arguments that are no part of what a module computes


class SafetensorsExporter(Exporter):
    """Writes `weights.safetensors` and `config.json`, one of each for the whole network."""

    runtime = "torch"

    def __init__(self) -> None:
        self._own: set[type[nn.Module]] = set()

    def file_names(self, programs: Iterable[str]) -> list[str]:  # noqa: ARG002 - for all of them
        """The two files."""
        return [WEIGHTS, CONFIG]

    def write(
        self,
        network: nn.Module,
        programs: Mapping[str, Program],  # noqa: ARG002 - the network is all of them
        folder: Path,
    ) -> dict[str, dict[str, Any]]:
        """Save the state, and what to build for it.

        Raises:
            RequestError: for a module of your own that its attributes do not describe.
        """
        self._own = {type(module) for module in network.modules()} - set(_KNOWN.values())
        (folder / CONFIG).write_text(json.dumps(describe(network), indent=1) + "\n")
        state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        return {}

    def load(
        self,
        folder: Path,
        inputs: Mapping[str, Sequence[TensorSpec]],  # noqa: ARG002 - the files say it all
    ) -> nn.Module:
        """Build the network from its files."""
        return build_network(folder, own_modules=self._own)


def build_network(folder: Path, own_modules: Collection[type[nn.Module]] = ()) -> nn.Module:
    """The network of an export's `config.json` and `weights.safetensors`, in eval mode.

    Args:
        folder: where the two files lie.
        own_modules: classes that may be built, too, beside those of torch and of nasbench.

    Raises:
        RequestError: if a file is missing or damaged, they do not fit each other, or a module is
            not known.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with torch.device("meta"):  # sizes first: a configuration alone takes no memory
            network = _built(config, _KNOWN | {kind.__name__: kind for kind in own_modules})
        if not isinstance(network, nn.Module):
            raise ValueError("it describes no module")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        if isinstance(error, RequestError):
            raise
        reason = " ".join(str(error).split())
        raise RequestError(f"cannot build a network from '{folder / CONFIG}': {reason}") from None
    load_weights(network, folder / WEIGHTS)
    return network.eval()


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the tensors of a file.

    Raises:
        RequestError: if the file is missing or damaged, or belongs to another network.
    """
    try:
        network.load_state_dict(load_file(path), assign=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"the weights in '{path}' do not fit its network: {reason}") from None


def describe(module: nn.Module) -> dict[str, Any]:
    """A module as plain values: its class, and the arguments of its constructor.

    Raises:
        RequestError: if an argument is no attribute of the module, or nothing to write down.
    """
    kind = type(module)
    if isinstance(module, nn.Sequential | nn.ModuleList):
        parts = {name: describe(child) for name, child in module.named_children()}
        return {"module": kind.__name__, "parts": parts}
    arguments = {
        name: _described(kind, name, getattr(module, name, inspect.Parameter.empty))
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in _ELSEWHERE
        and not name.startswith("_")
    }
    return {"module": kind.__name__, "arguments": arguments}


def _described(kind: type[nn.Module], name: str, value: Any) -> Any:
    if name == "bias" and kind.__module__.startswith("torch.nn"):
        return value is not None and value is not False  # torch's own layers ask whether
    if isinstance(value, nn.Parameter):
        return {"parameter": list(value.shape)}
    if isinstance(value, nn.Module):
        return describe(value)
    if isinstance(value, tuple | list):
        return [_described(kind, name, each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RequestError(
        f"'{kind.__name__}' cannot be built again from a configuration, because its argument "
        f"'{name}' is no attribute of it that can be written down; keep it as one, or leave the "
        "target 'safetensors' away"
    )


def _built(value: Any, known: Modules) -> Any:
    """What `describe` described."""
    if isinstance(value, list):
        return tuple(_built(each, known) for each in value)
    if not isinstance(value, dict):
        return value
    if "parameter" in value:
        return nn.Parameter(torch.empty(value["parameter"]))
    kind = known.get(value.get("module", ""))
    if kind is None:
        name = value.get("module")
        near = closest(str(name), known)
        hint = f"; did you mean '{near}'?" if near else ", where a class of your own is named"
        raise RequestError(f"unknown module '{name}', neither torch's nor in own_modules{hint}")
    if "parts" in value:
        parts = {name: _built(part, known) for name, part in value["parts"].items()}
        if issubclass(kind, nn.ModuleList):
            return kind(parts.values())
        sequence = kind()
        for name, part in parts.items():
            sequence.add_module(name, part)
        return sequence
    return kind(**{name: _built(each, known) for name, each in value["arguments"].items()})
