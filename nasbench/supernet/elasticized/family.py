"""Networks of one's own as supernet families: what a YAML names as `module:function`.

supernet:
  family: my_networks:make_model      # called for the task's data; returns an nn.Module
  options:
    width: 64                         # of make_model's own parameters
    weights: trained.safetensors      # of the model's state_dict
    rules: [{pattern: "*.width", ratios: [0.5, 0.75, 1]}]
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.supernet.base import SupernetFamily
from nasbench.supernet.elasticized.network import Elasticized
from nasbench.supernet.elasticized.rules import read_rules

DATA_SETTINGS: Mapping[str, int | None] = {
    "num_classes": 10,
    "in_channels": 1,
    "image_size": 28,
    "vocab_size": None,
    "max_length": None,
    "padding_id": None,
}
"""What a task decides about a network, with what stands for it where there is no task. A network
is for texts where there is a vocabulary, and for square images otherwise."""

_NUM_EXAMPLES = 8


def family_of(name: str, make_model: Callable[..., Any]) -> SupernetFamily[Any]:
    """The family of a function or class that makes a network.

    Its settings are the parameters of the function, the task's (of which the function is given
    those that it names), `weights`, `rules` and `is_sorted`. It has one preset, "tiny": the
    function's own defaults.

    Args:
        name: `module:function`, which finds it again elsewhere.

    Raises:
        RequestError: if the function has a parameter that can have no default.
    """
    try:
        signature = inspect.signature(make_model)
    except ValueError as error:
        raise RequestError(f"'{name}' makes no network: {error}") from error
    parameters = {
        parameter.name: None if parameter.default is parameter.empty else parameter.default
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    own = {"weights": None, "rules": (), "is_sorted": True}
    taken = sorted(parameters.keys() & own)
    if taken:
        raise RequestError(f"'{name}' has a parameter '{taken[0]}', which is a setting of ours")
    defaults: dict[str, Any] = {**DATA_SETTINGS, **parameters, **own}
    spec = make_dataclass(
        "OwnNetworkSpec", [(n, Any, field(default=d)) for n, d in defaults.items()], frozen=True
    )

    def build(spec: Any, settings: dict[str, Any]) -> Elasticized:
        asked = {parameter: getattr(spec, parameter) for parameter in parameters}
        return _supernet(name, make_model, asked, spec, settings)

    return SupernetFamily(
        name=name, presets={"tiny": spec()}, settings=tuple(defaults), supernet=build
    )


def _supernet(
    name: str,
    make_model: Callable[..., Any],
    arguments: dict[str, Any],
    spec: Any,
    settings: dict[str, Any],
) -> Elasticized:
    try:
        model = make_model(**arguments)
    except TypeError as error:
        raise RequestError(f"'{name}' cannot be called with {arguments}: {error}") from error
    if not isinstance(model, nn.Module):
        raise RequestError(f"'{name}' made a {type(model).__name__}, not an nn.Module")
    if spec.weights is not None:
        _load(model, Path(spec.weights))
    inputs = _example_inputs(spec)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = tuple(x.to(device) for x in inputs)
    rules = read_rules(spec.rules)
    return Elasticized(model, inputs, rules, settings, spec, is_sorted=spec.is_sorted)


def _example_inputs(spec: Any) -> tuple[Tensor, ...]:
    """Standard normal images, or tokens of the whole vocabulary; always the same."""
    generator = torch.Generator("cpu").manual_seed(0)
    if spec.vocab_size is not None:
        shape: tuple[int, ...] = (_NUM_EXAMPLES, spec.max_length or 16)
        ids = torch.randint(spec.vocab_size, shape, generator=generator, device="cpu")
        return (ids,)
    shape = (_NUM_EXAMPLES, spec.in_channels, spec.image_size, spec.image_size)
    return (torch.randn(shape, generator=generator, device="cpu"),)


def _load(model: nn.Module, path: Path) -> None:
    """Give a model the weights of a safetensors file; RequestError if they are not its own."""
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise RequestError(f"there is no file of weights '{path}'") from error
    except (SafetensorError, OSError) as error:
        raise RequestError(
            f"'{path}' is no safetensors file: {error}; write one with "
            "safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    except RuntimeError as error:
        message = " ".join(str(error).split())
        raise RequestError(f"'{path}' does not fit the network: {message}") from error
