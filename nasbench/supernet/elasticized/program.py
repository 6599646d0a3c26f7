"""A network's operations as plain values, in which sizes follow from the widths of the groups.

A program is run on values, or written down as a torch.fx graph once the sizes are known. Blocks
that a depth leaves out are passed by: what reads their output reads their input.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from nasbench.supernet.elasticized.axes import Axis, Widths
from nasbench.supernet.elasticized.depth import Stage

StepKind = Literal[
    "placeholder",
    "get_attr",
    "part",
    "call_module",
    "layer",
    "call_function",
    "call_method",
    "output",
]


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for the value of that name."""

    name: str


@dataclass(frozen=True, slots=True)
class Size:
    """Stands for the active length of an axis."""

    axis: Axis


@dataclass(frozen=True)
class Step:
    """One operation.

    Args:
        name: of its value.
        kind: as in a torch.fx graph; a "layer" is an elastic module, a "part" an elastic parameter.
        target: the module, parameter, function or method.
        args, kwargs: with `Ref` and `Size` in them.
        positions: how often a layer is applied, per example.
        products: multiply-accumulates per example beside a layer's own; each is a product of axes.
        macs: such ones that are always the same.
    """

    name: str
    kind: StepKind
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    positions: int = 1
    products: tuple[tuple[Axis, ...], ...] = ()
    macs: int = 0

    @property
    def reads(self) -> set[str]:
        """The values that it needs."""
        found: set[str] = set()

        def note(ref: Ref) -> Ref:
            found.add(ref.name)
            return ref

        filled((self.args, dict(self.kwargs)), note, lambda _: 0)
        return found


def filled(argument: Any, value: Callable[[Ref], Any], size: Callable[[Axis], Any]) -> Any:
    """An argument with what stands for values and sizes replaced."""
    match argument:
        case Ref():
            return value(argument)
        case Size():
            return size(argument.axis)
        case tuple() if type(argument) is tuple:
            return tuple(filled(x, value, size) for x in argument)
        case list():
            return [filled(x, value, size) for x in argument]
        case dict():
            return {key: filled(x, value, size) for key, x in argument.items()}
        case slice():
            parts = (argument.start, argument.stop, argument.step)
            return slice(*(filled(x, value, size) for x in parts))
    return argument


@dataclass(frozen=True)
class Program:
    """All operations, and the stages among them.

    Args:
        steps: in order; the last one is the output.
        stages: what a depth can leave out.
    """

    steps: tuple[Step, ...]
    stages: tuple[Stage, ...]

    def passed_by(self, depths: Sequence[int]) -> tuple[frozenset[str], dict[str, str]]:
        """The steps that are left out, and values -> what stands for them."""
        skipped: set[str] = set()
        stands_for: dict[str, str] = {}
        for stage, depth in zip(self.stages, depths, strict=True):
            for block in stage.blocks[stage.num_run(depth) :]:
                skipped |= block.steps
                stands_for[block.exit] = stands_for.get(block.entry, block.entry)
        return frozenset(skipped), stands_for

    def at(self, depths: Sequence[int]) -> "Schedule":
        """What runs at these depths, one for each stage."""
        skipped, stands_for = self.passed_by(depths)
        steps = [step for step in self.steps if step.name not in skipped]
        last_reader: dict[str, str] = {}
        for step in steps:
            for name in step.reads:
                last_reader[stands_for.get(name, name)] = step.name
        done_after: dict[str, list[str]] = {}
        for name, reader in last_reader.items():
            done_after.setdefault(reader, []).append(name)
        return Schedule(tuple(steps), stands_for, done_after)


@dataclass(frozen=True)
class Schedule:
    """The steps that run.

    Args:
        steps: in order.
        stands_for: value that is not computed -> the one that is read in its place.
        done_after: step -> the values that nothing reads after it.
    """

    steps: tuple[Step, ...]
    stands_for: Mapping[str, str]
    done_after: Mapping[str, Sequence[str]]

    def run(
        self,
        inputs: Sequence[Tensor],
        widths: Widths,
        module: Callable[[Step], Callable[..., Any]],
        tensor: Callable[[Step], Tensor],
    ) -> Any:
        """Compute the output.

        Args:
            module: finds the module of a step, as what takes its arguments.
            tensor: finds the parameter or buffer of a step.
        """
        values: dict[str, Any] = {}
        waiting = iter(inputs)

        def value(ref: Ref) -> Any:
            return values[self.stands_for.get(ref.name, ref.name)]

        def size(axis: Axis) -> int:
            return axis.size(widths)

        for step in self.steps:
            if step.kind == "placeholder":
                values[step.name] = next(waiting) if not step.args else next(waiting, step.args[0])
                continue
            args = filled(step.args, value, size)
            kwargs = filled(step.kwargs, value, size) if step.kwargs else {}
            if step.kind == "output":
                return args[0]
            if step.kind in ("call_module", "layer"):
                result = module(step)(*args, **kwargs)
            elif step.kind == "call_function":
                result = step.target(*args, **kwargs)
            elif step.kind == "call_method":
                result = getattr(args[0], step.target)(*args[1:], **kwargs)
            else:
                result = tensor(step)
            values[step.name] = result
            for name in self.done_after.get(step.name, ()):
                values.pop(name, None)
        raise AssertionError("a program ends with its output")

    def graph(self, widths: Widths) -> fx.Graph:
        """The same operations with these sizes, on plain modules of the same names."""
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}

        def value(ref: Ref) -> fx.Node:
            return nodes[self.stands_for.get(ref.name, ref.name)]

        def size(axis: Axis) -> int:
            return axis.size(widths)

        kinds = {"layer": "call_module", "part": "get_attr"}
        for step in self.steps:
            args = filled(step.args, value, size)
            kwargs = filled(dict(step.kwargs), value, size)
            kind = kinds.get(step.kind, step.kind)
            nodes[step.name] = graph.create_node(kind, step.target, args, kwargs, name=step.name)
        graph.lint()
        return graph


def plain_arguments(arguments: Any) -> Any:
    """The arguments of a torch.fx node with a `Ref` for each node."""
    as_reference: Any = lambda node: Ref(node.name)  # noqa: E731 - its type is no argument's
    found = fx.node.map_arg(arguments, as_reference)
    return _without_fx_containers(found)


def _without_fx_containers(argument: Any) -> Any:
    if isinstance(argument, torch.Size):
        return tuple(argument)
    if isinstance(argument, list):
        return [_without_fx_containers(x) for x in argument]
    if isinstance(argument, tuple) and not hasattr(argument, "_fields"):
        return tuple(_without_fx_containers(x) for x in argument)
    if isinstance(argument, dict):
        return {key: _without_fx_containers(x) for key, x in argument.items()}
    return argument
