"""From what is tied to a program: its steps have sizes that follow the groups of channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from nasbench.supernet.elasticized import operations
from nasbench.supernet.elasticized.axes import Axis, Groups, static_axis
from nasbench.supernet.elasticized.depth import Stage
from nasbench.supernet.elasticized.program import Program, Size, Step, plain_arguments
from nasbench.supernet.elasticized.propagation import Propagation
from nasbench.supernet.elasticized.tracing import BATCH_SIZES


@dataclass(frozen=True)
class LayerAxes:
    """The axes of a layer with weights.

    Args:
        columns: what it reads; for a convolution in groups, of one group. None where it keeps its
            channels.
        rows: what it writes.
    """

    columns: Axis | None
    rows: Axis


class Compilation:
    """Steps and axes of a network whose ties are settled.

    Attributes:
        groups: the groups of channels.
        layers: module -> its axes.
        parameters: parameter or buffer -> its elastic axis and which dimension that is.
        touched: group -> the steps that it runs through.
    """

    def __init__(self, walk: Propagation) -> None:
        self.walk = walk
        lines: list[Tensor] = []
        for layer in walk.layers.values():
            lines += [layer.writes] if layer.reads is None else [layer.reads, layer.writes]
        lines += [line for labels in walk.labels.values() for line in _lines(walk, labels)]
        lines += [x for p in walk.parameters.values() for x in _lines(walk, p)]
        self.groups = Groups(walk.ties, lines)
        self.layers = {name: self._layer_axes(name) for name in walk.layers}
        self.parameters: dict[str, tuple[Axis, int]] = {}
        for name, labels in walk.parameters.items():
            for dim in walk.ties.varying_axes(labels):
                axis = self.groups.axis(_line(labels, dim))
                if not axis.is_static:
                    self.parameters[name] = (axis, dim)
        self.touched: dict[int, set[str]] = {g: set() for g in range(len(self.groups.units))}

    def program(self, stages: Sequence[Stage], elastic_layers: Sequence[str]) -> Program:
        """The steps, with calls of these modules as those of elastic layers."""
        nodes = self.walk.trace.graph.nodes
        return Program(
            tuple(self._step(node, frozenset(elastic_layers)) for node in nodes), tuple(stages)
        )

    def _layer_axes(self, name: str) -> LayerAxes:
        layer, module = self.walk.layers[name], self.walk.trace.network.get_submodule(name)
        rows = self.groups.axis(layer.writes)
        if layer.reads is None:
            return LayerAxes(None, rows)
        groups = getattr(module, "groups", 1)
        if groups > 1:
            return LayerAxes(static_axis(len(layer.reads) // groups), rows)
        return LayerAxes(self.groups.axis(layer.reads), rows)

    def axes(self, node: fx.Node) -> list[Axis]:
        """Of a tensor; the batch counts with the examples of the trace."""
        labels, shape = self.walk.of(node), self.walk.trace.shape(node)
        varying = self.walk.ties.varying_axes(labels)
        return [
            self.groups.axis(_line(labels, axis)) if axis in varying else static_axis(size)
            for axis, size in enumerate(shape)
        ]

    def _per_example(self, node: fx.Node) -> list[Axis]:
        """The same for a batch of one."""
        axes = self.axes(node)
        for axis in self.walk.trace.batch_axes[node.name]:
            axes[axis] = static_axis(axes[axis].largest // BATCH_SIZES[0])
        return axes

    def note_touched(self) -> None:
        """Find the steps that each group runs through."""
        for node in self.walk.trace.graph.nodes:
            axes: list[Axis] = []
            for labels in _tensors_of(self.walk.of(node)):
                axes += [self.groups.axis(x) for x in _lines(self.walk, labels)]
            if node.op == "call_module" and str(node.target) in self.layers:
                layer = self.layers[str(node.target)]
                axes += [layer.rows] if layer.columns is None else [layer.rows, layer.columns]
            for part in (part for axis in axes for part in axis.parts if part.group is not None):
                assert part.group is not None
                self.touched[part.group].add(node.name)

    # -- steps --------------------------------------------------------------------------------

    def _step(self, node: fx.Node, elastic_layers: frozenset[str]) -> Step:
        args, kwargs = plain_arguments((node.args, node.kwargs))
        macs = self.walk.trace.macs.get(node.name, 0)
        target = str(node.target)
        if node.op == "placeholder":
            return Step(node.name, "placeholder", target, (), {})
        if node.op == "get_attr":
            return Step(
                node.name, "part" if target in self.parameters else "get_attr", target, (), {}
            )
        if node.op == "output":
            return Step(node.name, "output", "output", args, {})
        if node.op == "call_module":
            return self._module_step(node, args, kwargs, elastic_layers, macs)
        kind: Any = node.op
        name = (
            operations.name_of(node.target)
            if kind == "call_function"
            else operations.plain_name(target)
        )
        rewritten = self._rewritten(node, name, args)
        if rewritten is not None:
            return rewritten
        products = self._products(node, name) if macs else ()
        where = node.target if kind == "call_function" else target
        return Step(
            node.name, kind, where, args, kwargs, products=products, macs=0 if products else macs
        )

    def _module_step(
        self, node: fx.Node, args: Any, kwargs: Any, elastic_layers: frozenset[str], macs: int
    ) -> Step:
        target = str(node.target)
        module = self.walk.trace.network.get_submodule(target)
        if isinstance(module, nn.Unflatten) and self._varies(node):
            return self._reshape(node, args)
        kind: Any = "layer" if target in elastic_layers else "call_module"
        if kind == "layer":  # which takes one tensor, however it was given
            args, kwargs = (args or tuple(kwargs.values()))[:1], {}
        positions = self._positions(node, module)
        return Step(node.name, kind, target, args, kwargs, positions=positions, macs=macs)

    def _positions(self, node: fx.Node, module: nn.Module) -> int:
        """How often a layer is applied, per example."""
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            return prod(self.walk.trace.shape(node.all_input_nodes[0])[2:])
        if isinstance(module, nn.Linear):
            return prod(axis.largest for axis in self._per_example(node)[:-1])
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return prod(self.walk.trace.shape(node)[2:])
        return 1

    def _varies(self, node: fx.Node) -> bool:
        return any(self.walk.ties.varying_axes(x) for x in _tensors_of(self.walk.of(node)))

    def _rewritten(self, node: fx.Node, name: str | None, args: Any) -> Step | None:
        """A step whose sizes were numbers, with sizes that follow the groups."""
        given = node.args[0] if node.args else None
        if not isinstance(given, fx.Node) or not isinstance(self.walk.of(given), Tensor):
            return None
        if self.walk.trace.shapes[node.name] is None or node.name in self.walk.without_rule:
            return None
        depends = any(isinstance(x, fx.Node) for x in node.all_input_nodes if x is not given)
        is_elastic = self._varies(node) or self._varies(given)
        if name in ("reshape", "view", "unflatten") and (is_elastic or depends):
            return self._reshape(node, args)
        if name in ("expand", "broadcast_to") and (is_elastic or depends):
            return self._expand(node, args)
        if name in ("chunk", "split", "tensor_split") and is_elastic:
            dim, _ = operations.divided_sizes(self.walk, node)
            axes = [self._axis_of_part(part, dim) for part in _tensors_of(self.walk.of(node))]
            sizes = tuple(_size(axis) for axis in axes)
            return Step(node.name, "call_function", torch.split, (args[0], sizes), {"dim": dim})
        if name == "getitem" and is_elastic:
            return self._slice(node, given, args)
        return None

    def _axis_of_part(self, labels: Tensor, dim: int) -> Axis:
        if dim % labels.ndim in self.walk.ties.varying_axes(labels):
            return self.groups.axis(_line(labels, dim % labels.ndim))
        return static_axis(labels.shape[dim])

    def _reshape(self, node: fx.Node, args: Any) -> Step:
        batch = self.walk.trace.batch_axes[node.name]
        axes = enumerate(self.axes(node))
        sizes = [-1 if number in batch else _size(axis) for number, axis in axes]
        return Step(node.name, "call_method", "reshape", (args[0], *sizes), {})

    def _expand(self, node: fx.Node, args: Any) -> Step:
        given = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:]
        batch = self.walk.trace.batch_axes[node.name]
        sizes = [
            x if x == -1 or number in batch else _size(axis)
            for number, (x, axis) in enumerate(zip(given, self.axes(node), strict=True))
        ]
        return Step(node.name, "call_method", "expand", (args[0], *sizes), {})

    def _slice(self, node: fx.Node, given: fx.Node, args: Any) -> Step | None:
        """`x[:, 4:8]` with the active channels before and within the slice."""
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        labels = self.walk.of(given)
        axes, found = self.axes(given), list(index)
        positions = [number for number, x in enumerate(index) if x is not None]
        for axis, x in operations.indexed_axes(index, labels.ndim):
            if not isinstance(x, slice) or x == slice(None) or axes[axis].is_static:
                continue
            start, stop, _ = x.indices(labels.shape[axis])
            before, until = axes[axis].between(0, start), axes[axis].between(0, stop)
            assert before is not None
            assert until is not None
            at = positions[axis] if Ellipsis not in index[: axis + 1] else axis - labels.ndim
            found[at] = slice(_size(before), _size(until))
        return Step(node.name, "call_function", node.target, (args[0], tuple(found)), {})

    def _products(self, node: fx.Node, name: str | None) -> tuple[tuple[Axis, ...], ...]:
        """Multiply-accumulates of the products that are known; () for those of anything else."""
        operands = [x for x in node.args[:3] if isinstance(x, fx.Node)]
        if name in ("matmul", "bmm"):
            inner = self.axes(operands[0])[-1]
            return ((*self._per_example(node), inner),)
        if name == "scaled_dot_product_attention" and len(operands) == 3:
            *batch, queries, size = self._per_example(operands[0])
            keys, value_size = self.axes(operands[2])[-2:]
            return ((*batch, queries, keys, size), (*batch, queries, keys, value_size))
        return ()


def _size(axis: Axis) -> Size | int:
    return axis.largest if axis.is_static else Size(axis)


def _line(labels: Tensor, axis: int) -> Tensor:
    return labels[tuple(slice(None) if d == axis else 0 for d in range(labels.ndim))]


def _tensors_of(labels: Any) -> list[Tensor]:
    if isinstance(labels, Tensor):
        return [labels]
    return [x for part in labels for x in _tensors_of(part)] if isinstance(labels, tuple) else []


def _lines(walk: Propagation, labels: Any) -> list[Tensor]:
    return [_line(x, axis) for x in _tensors_of(labels) for axis in walk.ties.varying_axes(x)]
