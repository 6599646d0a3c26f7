"""The graph of a network, and the shape of everything in it.

torch.fx records what `forward` does as a graph that calls the network's own modules, so that each
can be replaced and what leaves is made of ordinary modules again. torch.export would trace more
control flow, but gives a graph of operators without modules, with dropout and normalization fixed
in one of the two modes.

The network is traced in eval mode. A module that cannot be traced becomes one opaque step.
"""

import copy
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nasbench.errors import RequestError
from nasbench.supernet.elasticized.operations import MODULES
from nasbench.supernet.plain_unpacked import unpack

BATCH_SIZES = (2, 3)
"""The network is run with both: what differs between them follows the batch."""

_DROPOUTS: Mapping[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout2d: nn.Dropout2d,
    torch.dropout: nn.Dropout,
}

_OUT_OF_PLACE: Mapping[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


@dataclass(frozen=True)
class Trace:
    """What is known of a network before anything is tied.

    Args:
        network: a copy, with fused modules unpacked, in eval mode.
        graph: its operations; the names of its nodes are the names of values.
        shapes: value -> shape with the first of `BATCH_SIZES`; a tuple of them for several
            tensors, None for what is no tensor.
        batch_axes: value of one tensor -> the axes that grow with the batch.
        opaque: module that could not be traced -> why.
        macs: function or opaque module that has some -> multiply-accumulates of one example.
    """

    network: nn.Module
    graph: fx.Graph
    shapes: dict[str, Any]
    batch_axes: dict[str, tuple[int, ...]]
    opaque: dict[str, str]
    macs: dict[str, int]

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of the tensor that a node computes."""
        shape: tuple[int, ...] = self.shapes[node.name]
        return shape


def of_batch(inputs: Sequence[Tensor], batch_size: int) -> tuple[Tensor, ...]:
    """The same inputs, repeated or cut to that many examples."""
    repeats = -(-batch_size // len(inputs[0]))
    return tuple(torch.cat([x] * repeats)[:batch_size] for x in inputs)


def trace(model: nn.Module, example_inputs: Sequence[Tensor]) -> Trace:
    """Record what a network does with these inputs.

    Raises:
        RequestError: if `forward` itself cannot be traced, or does not run on the inputs.
    """
    original, network = copy.deepcopy(model).eval(), copy.deepcopy(model)
    unpack(network)
    network.eval()
    tracer = _Tracer()
    try:
        graph = tracer.trace(network, _left_out(network, len(example_inputs)))
    except Exception as error:  # whatever the forward of a user's network raises
        raise RequestError(
            f"the forward of {type(model).__name__} cannot be traced by torch.fx: {_line(error)}; "
            "move what depends on the data into a module of its own, which is then left as it is"
        ) from error
    _drop_left_out_inputs(graph, len(example_inputs))
    _out_of_place(network, graph)
    _drop_identities(network, graph)
    _drop_unread(graph)
    _dropout_as_modules(network, graph)
    graph.lint()
    module = fx.GraphModule(network, graph)
    recorders = [_Recorder(module, tracer.opaque) for _ in BATCH_SIZES]
    for recorder, batch_size in zip(recorders, BATCH_SIZES, strict=True):
        recorder.record(of_batch(example_inputs, batch_size))
    first, second = recorders
    _check_same(original, module, of_batch(example_inputs, BATCH_SIZES[0]))
    batch_axes = {
        name: tuple(
            a for a, (m, n) in enumerate(zip(s, second.shapes[name], strict=True)) if m != n
        )
        for name, s in first.shapes.items()
        if is_shape(s)
    }
    few, more = BATCH_SIZES
    slopes = {name: (second.macs[name] - macs) // (more - few) for name, macs in first.macs.items()}
    macs = {name: first.macs[name] - (few - 1) * slope for name, slope in slopes.items()}
    return Trace(network, graph, first.shapes, batch_axes, tracer.opaque, macs)


@torch.no_grad()
def _check_same(model: nn.Module, traced: nn.Module, inputs: Sequence[Tensor]) -> None:
    """RequestError where the trace missed something, such as a branch that depends on the data."""
    expected, found = (torch.utils._pytree.tree_leaves(m(*inputs)) for m in (model, traced))
    for one, other in zip(expected, found, strict=True):
        is_compared = isinstance(one, Tensor) and not one.is_meta
        if is_compared and not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise RequestError(
                f"what torch.fx traced of {type(model).__name__} does not compute what the network "
                "does; its forward depends on something beside its inputs and weights"
            )


def is_shape(value: object) -> bool:
    """Whether this is the shape of one tensor."""
    return isinstance(value, torch.Size)


class _Tracer(fx.Tracer):
    """Records a module that cannot be traced as one call."""

    def __init__(self) -> None:
        super().__init__()
        self.opaque: dict[str, str] = {}

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever the forward of a user's module raises
            name = self.path_of_module(m)
            self.opaque[name] = f"torch.fx cannot trace {type(m).__name__}: {_line(error)}"
            return self.create_proxy("call_module", name, args, kwargs)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _left_out(network: nn.Module, num_inputs: int) -> dict[str, Any]:
    """The optional inputs of `forward` that no example is given for, at their defaults."""
    parameters = list(inspect.signature(network.forward).parameters.values())[num_inputs:]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _drop_left_out_inputs(graph: fx.Graph, num_inputs: int) -> None:
    """Inputs at their defaults are constants; what torch.fx asserts about them goes with them."""
    for node in reversed(list(graph.nodes)):
        is_assertion = getattr(node.target, "__name__", "") in ("_assert", "_assert_is_none")
        if node.op == "call_function" and is_assertion:
            graph.erase_node(node)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node in placeholders[num_inputs:]:
        if not node.users:
            graph.erase_node(node)


def _dropout_as_modules(network: nn.Module, graph: fx.Graph) -> None:
    """Dropout that a forward calls as a function is fixed in eval mode; as a module it is not."""
    for number, node in enumerate(list(graph.nodes)):
        if node.op == "call_function" and node.target in _DROPOUTS:
            rate = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            name = f"traced_dropout_{number}"
            network.add_module(name, _DROPOUTS[node.target](rate).eval())
            with graph.inserting_before(node):
                module = graph.call_module(name, (node.args or (node.kwargs["input"],))[:1])
            module.meta = dict(node.meta)
            node.replace_all_uses_with(module)
            graph.erase_node(node)


def _out_of_place(network: nn.Module, graph: fx.Graph) -> None:
    """Where a block is left out, its input is its output: nothing may write into it."""
    modules = dict(network.named_modules())
    in_place = {name for name, m in modules.items() if getattr(m, "inplace", False) is True}
    for name in in_place:
        modules[name].inplace = False
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _OUT_OF_PLACE:
            node.target = _OUT_OF_PLACE[node.target]
        elif node.op == "call_function" and node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method" and _is_in_place(str(node.target)):
            node.target = str(node.target).rstrip("_")
        elif node.op != "call_module" or node.target not in in_place:
            continue
        written = node.args[0] if node.args else None
        if isinstance(written, fx.Node):  # who reads it later reads what was written
            written.replace_all_uses_with(node, node.__lt__)


def _is_in_place(method: str) -> bool:
    return method.endswith("_") and not method.endswith("__")


def _drop_identities(network: nn.Module, graph: fx.Graph) -> None:
    """What goes through an `nn.Identity` is the same value, which matters for shortcuts."""
    for node in graph.nodes:
        is_module = node.op == "call_module" and node.args
        if is_module and type(network.get_submodule(str(node.target))) is nn.Identity:
            node.replace_all_uses_with(node.args[0])


def _drop_unread(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the shapes, and the multiply-accumulates of what has no formula."""

    def __init__(self, module: fx.GraphModule, opaque: Mapping[str, str]) -> None:
        super().__init__(module)
        self._opaque = opaque
        self.shapes: dict[str, Any] = {}
        self.macs: dict[str, int] = {}

    def record(self, inputs: Sequence[Tensor]) -> None:
        """Run on these; RequestError if that fails."""
        try:
            with torch.no_grad():
                self.run(*inputs)
        except Exception as error:  # whatever a user's network raises
            message = f"the network does not run on the example inputs: {_line(error)}"
            raise RequestError(message) from error

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.shapes[n.name] = _shape_of(value)
        if self.shapes[n.name] is not None and self._has_no_formula(n):
            macs = self._macs(n)
            if macs:
                self.macs[n.name] = macs
        return value

    def _has_no_formula(self, node: fx.Node) -> bool:
        if node.op != "call_module":
            return node.op in ("call_function", "call_method")
        module = self.fetch_attr(str(node.target))
        is_unusual = isinstance(
            module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
        ) and (module.groups > 1 or len(node.all_input_nodes) > 1 or len(node.args) > 1)
        return node.target in self._opaque or type(module) not in MODULES or is_unusual

    def _macs(self, node: fx.Node) -> int:
        """As torch's flop counter sees it: on the meta device, which hides no attention from it."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        try:
            return self._counted(
                node, *(fx.node.map_aggregate(x, _to_meta) for x in (args, kwargs))
            )
        except Exception:
            return self._counted(node, args, kwargs)

    def _counted(self, node: fx.Node, args: Any, kwargs: Any) -> int:
        is_meta = any(isinstance(x, Tensor) and x.is_meta for x in (*args, *kwargs.values()))
        with FlopCounterMode(display=False) as counter:
            if node.op == "call_function":
                node.target(*args, **kwargs)  # type: ignore[operator]
            elif node.op == "call_method":
                getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                module = copy.deepcopy(self.fetch_attr(str(node.target)))
                (module.to("meta") if is_meta else module)(*args, **kwargs)
        return int(counter.get_total_flops()) // 2


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return tuple(map(_shape_of, value))
    return None
