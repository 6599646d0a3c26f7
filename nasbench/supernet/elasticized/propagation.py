"""What each operation of a network says about its channels.

`propagate` walks the graph once and ties what has to be the same: operands of a sum, the channels
on both sides of a normalization or a depthwise convolution, the heads of queries, keys and values.
What no rule is written for is static, with that as the reason: nothing is guessed.

In the end the elastic units of a tensor differ along one of its axes alone, so that leaving some
out leaves a tensor.

Shape legend: B batch, C channels, I channels that a layer reads, O that it writes, G groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from nasbench.supernet.elasticized import operations as known
from nasbench.supernet.elasticized.ties import Ties, spread
from nasbench.supernet.elasticized.tracing import Trace

MAX_PARAMETER_ATOMS = 2**18

Labels = Any  # a Tensor, a tuple of Labels, or None for what is no tensor


@dataclass
class LayerTies:
    """The atoms on both sides of a layer that holds weights.

    Args:
        reads: (I,); None for a layer that keeps its channels, and for an embedding.
        writes: (O,).
        uses: the steps that call it.
    """

    reads: Tensor | None
    writes: Tensor
    uses: list[str] = field(default_factory=list)


class Propagation:
    """The labels of every value of a graph, once it was walked.

    Attributes:
        layers: module -> its atoms, for those whose weights may be elastic.
        parameters: parameter or buffer that a forward reads by itself -> its labels.
        reasons: module that is left as it is -> why.
        without_rule: the steps that no rule is written for.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.ties = Ties()
        self.labels: dict[str, Labels] = {}
        self.layers: dict[str, LayerTies] = {}
        self.parameters: dict[str, Tensor] = {}
        self.reasons: dict[str, str] = {}
        self.without_rule: set[str] = set()
        self._bare: set[str] = set()  # values that are a parameter, maybe moved
        self._measured: dict[str, list[tuple[Tensor, int | None]]] = {}  # sizes: of which axes
        self._alike: list[tuple[Tensor, int, str]] = []
        self._shared = _shared_tensors(trace)
        for node in trace.graph.nodes:
            self.labels[node.name] = getattr(self, f"_{node.op}")(node)
        self.settle()

    def of(self, value: Any) -> Labels:
        """The labels of an argument; None for what is no value of the graph."""
        return self.labels[value.name] if isinstance(value, fx.Node) else None

    def settle(self) -> None:
        """Tie until what is elastic in any value differs along one axis that is not the batch."""
        for labels, axis, reason in self._alike:
            self.ties.alike_along(labels, axis, reason)
        is_settled = False
        while not is_settled:
            is_settled = True
            for name, labels in self.labels.items():
                if isinstance(labels, Tensor) and not self._is_settled(name, labels):
                    is_settled = False

    def _is_settled(self, name: str, labels: Tensor) -> bool:
        varying = self.ties.varying_axes(labels)
        of_batch = [axis for axis in varying if axis in self.trace.batch_axes[name]]
        if of_batch:
            self.ties.freeze(labels, f"'{name}' mixes them with the examples of a batch")
            return False
        if len(varying) <= 1:
            return True
        units = self.ties.elastic_units(labels)
        num_units = {
            axis: len(set(units.take(range(units.shape[axis]), axis)[_line(units, axis)]))
            for axis in varying
        }
        kept = max(varying, key=lambda axis: num_units[axis])
        for axis in varying:
            if axis != kept:
                self.ties.alike_along(labels, axis, f"'{name}' mixes them")
        return False

    # -- kinds of nodes -----------------------------------------------------------------------

    def _placeholder(self, node: fx.Node) -> Labels:
        return self._static(node, "the network's input has them")

    def _get_attr(self, node: fx.Node) -> Labels:
        name, shape = str(node.target), self.trace.shape(node)
        if name in self.parameters:
            return self.parameters[name]
        tensor = attribute(self.trace.network, name)
        if id(tensor) in self._shared:
            labels = self._static(node, f"'{name}' is also the weight of a layer")
        elif tensor.numel() > MAX_PARAMETER_ATOMS or not tensor.is_floating_point():
            labels = self._static(node, f"'{name}' is no parameter that could be sliced")
        else:
            labels = self.ties.fresh(tensor.numel()).view(tuple(shape))
        self.parameters[name] = labels
        self._bare.add(node.name)
        return labels

    def _output(self, node: fx.Node) -> Labels:
        for tensor in self._tensors(node.args):
            self.ties.freeze(tensor, "the network's output has them")
        return None

    def _call_module(self, node: fx.Node) -> Labels:
        name = str(node.target)
        module = self.trace.network.get_submodule(name)
        rule = known.MODULES.get(type(module))
        if name in self.trace.opaque:
            return self._opaque(node, self.trace.opaque[name])
        if rule is None:
            return self._opaque(
                node, f"'{name}' is a {type(module).__name__}, of which no rule says more"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            return self._opaque(node, f"'{name}' has hooks, which may do anything")
        if any(id(parameter) in self._shared for parameter in module.parameters()):
            return self._opaque(node, f"'{name}' shares its weight")
        return self._apply(rule, node, module)

    def _call_function(self, node: fx.Node) -> Labels:
        return self._operation(node, known.name_of(node.target))

    def _call_method(self, node: fx.Node) -> Labels:
        return self._operation(node, known.plain_name(str(node.target)))

    def _operation(self, node: fx.Node, name: str | None) -> Labels:
        if self.trace.shapes[node.name] is None:
            self._measured[node.name] = self._axes_measured_by(node, name)
            return None
        rule = None if name is None else known.FUNCTIONS.get(name)
        if rule is None:
            said = name or getattr(node.target, "__name__", str(node.target))
            return self._opaque(node, f"'{node.name}' calls {said}, of which no rule says more")
        return self._apply(rule, node, None)

    def _apply(
        self, rule: Callable[..., Labels], node: fx.Node, module: nn.Module | None
    ) -> Labels:
        try:
            return rule(self, node) if module is None else rule(self, node, module)
        except known.NoRuleError as error:
            return self._opaque(node, str(error))

    def _axes_measured_by(self, node: fx.Node, name: str | None) -> list[tuple[Tensor, int | None]]:
        """The axes that a size, or what is computed from sizes, depends on; None says all."""
        tensors: list[tuple[Tensor, int | None]] = [(x, None) for x in self._tensors(node.args)]
        before = [m for n in node.all_input_nodes for m in self._measured.get(n.name, ())]
        second = node.args[1] if len(node.args) > 1 else None
        if name in ("size", "getitem") and isinstance(second, int):
            return [
                (x, second % x.ndim if axis is None else axis) for x, axis in (*tensors, *before)
            ]
        return tensors + before

    # -- what rules are made of ---------------------------------------------------------------

    def _tensors(self, arguments: Any) -> list[Tensor]:
        """The labels of all tensors among these arguments."""
        found: list[Tensor] = []

        def collect(labels: Labels) -> None:
            if isinstance(labels, Tensor):
                found.append(labels)
            for part in labels if isinstance(labels, tuple) else ():
                collect(part)

        fx.node.map_arg(arguments, lambda node: collect(self.labels[node.name]))
        return found

    def _static(self, node: fx.Node, reason: str) -> Labels:
        def of_shape(shape: Any) -> Labels:
            if isinstance(shape, torch.Size):
                return self.ties.static(shape, reason)
            return None if shape is None else tuple(map(of_shape, shape))

        return of_shape(self.trace.shapes[node.name])

    def _opaque(self, node: fx.Node, reason: str) -> Labels:
        """Nothing that goes in or comes out changes."""
        self.without_rule.add(node.name)
        if node.op == "call_module":
            self.reasons.setdefault(str(node.target), reason)
        for labels in self._tensors((node.args, node.kwargs)):
            self.ties.freeze(labels, reason)
        for size in node.all_input_nodes:
            for labels, axis in self._measured.get(size.name, ()):
                if axis is None or axis in self.ties.varying_axes(labels):
                    self.ties.freeze(labels, f"'{node.name}' is as large as they are many")
        return self._static(node, reason)

    def layer(
        self, node: fx.Node, reads: Tensor | None, writes: Tensor | None, size: int
    ) -> Tensor:
        """The atoms that a layer writes; at its second call those of the first.

        Args:
            writes: None lets a new layer write new atoms, `size` of them.
        """
        name = str(node.target)
        layer = self.layers.get(name)
        if layer is None:
            writes = self.ties.fresh(size) if writes is None else writes
            layer = self.layers[name] = LayerTies(reads, writes)
        else:
            for now, before in ((reads, layer.reads), (writes, layer.writes)):
                if now is not None and before is not None:
                    self.ties.tie(now, before)
        layer.uses.append(node.name)
        return layer.writes

    def spread(self, node: fx.Node, atoms: Tensor, axis: int) -> Tensor:
        """The labels of a node's value, which differ along one axis."""
        shape = self.trace.shape(node)
        return spread(atoms, shape, axis % len(shape))

    def demand_alike(self, labels: Tensor, axis: int, reason: str) -> None:
        """The units must not differ along that axis, once all is tied."""
        self._alike.append((labels, axis % labels.ndim, reason))

    def is_bare(self, node: Any) -> bool:
        """Whether a value is a parameter of the network, maybe moved."""
        return isinstance(node, fx.Node) and node.name in self._bare

    def keep_bare(self, node: fx.Node, source: Any) -> None:
        """A moved parameter is still one."""
        if self.is_bare(source):
            self._bare.add(node.name)

    def combine(
        self, first: Tensor, second: Tensor, *, bare: Sequence[bool] = (False, False)
    ) -> Tensor:
        """The labels of what an elementwise operation makes of two tensors.

        Where one is repeated along an axis, what differs along it in the other is no concern of
        the one.
        """
        ndim = max(first.ndim, second.ndim)
        first, second = (x[(None,) * (ndim - x.ndim)] for x in (first, second))
        shape = torch.broadcast_shapes(first.shape, second.shape)
        operands = [first, second]
        varying = [self.ties.varying_axes(x) for x in operands]
        escapes = [
            [axis for axis in varying[i] if operands[1 - i].shape[axis] == 1] for i in (0, 1)
        ]
        for i in (0, 1):
            if not escapes[i]:
                continue
            if varying[1 - i] and bare[i]:
                self.ties.freeze(operands[i], "a parameter of the network has them along two axes")
                return operands[1 - i].expand(shape)
            if varying[1 - i] and bare[1 - i]:
                self.ties.freeze(
                    operands[1 - i], "a parameter of the network has them along two axes"
                )
                return operands[i].expand(shape)
            if varying[1 - i]:
                for labels in operands:
                    self.ties.freeze(
                        labels, "two tensors that differ along different axes are combined"
                    )
            return operands[i].expand(shape)
        self.ties.tie(first, second)
        lacking = [axis for axis in range(ndim) if first.shape[axis] < shape[axis]]
        return (second if lacking and varying[1] else first).expand(shape)

    def without(self, labels: Tensor, axis: int) -> Tensor:
        """The labels after a sum over an axis."""
        if self.ties.varying_axes(labels) == [axis % labels.ndim]:
            shape = labels.select(axis, 0).shape
            return self.ties.static(shape, "they are summed over")
        self.ties.alike_along(labels, axis % labels.ndim, "they are summed over")
        return labels.select(axis, 0)


def _line(units: Any, axis: int) -> tuple[Any, ...]:
    """Indexes one line along an axis."""
    return tuple(slice(None) if d == axis else 0 for d in range(units.ndim))


def attribute(network: nn.Module, name: str) -> Tensor:
    """The parameter, buffer or other tensor of that dotted name."""
    owner, _, last = name.rpartition(".")
    tensor: Tensor = getattr(network.get_submodule(owner), last)
    return tensor


def _shared_tensors(trace: Trace) -> set[int]:
    """The ids of tensors that several modules hold, or a module and the forward of another."""
    holders: dict[int, set[int]] = {}
    for module in trace.network.modules():
        for tensor in module.parameters(recurse=False):
            holders.setdefault(id(tensor), set()).add(id(module))
    called = {str(node.target) for node in trace.graph.nodes if node.op == "call_module"}
    for node in trace.graph.nodes:
        owner = str(node.target).rpartition(".")[0]
        if node.op == "get_attr" and owner in called:
            holders.setdefault(id(attribute(trace.network, str(node.target))), set()).add(0)
    return {tensor for tensor, by in holders.items() if len(by) > 1}
