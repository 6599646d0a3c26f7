"""A supernet made of a network of one's own.

    supernet = elasticize(model, example_inputs)
    supernet.static                                 what stays as it is, with the reasons
    supernet.extract(supernet.smallest)             a plain torch.fx.GraphModule

The largest sub-network is the model: the same outputs to float rounding, in eval mode. Channels are
sorted by importance before anything is left out, which changes no output either.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nasbench.errors import RequestError
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.elasticized.analysis import Analysis, StaticPart, analyze
from nasbench.supernet.elasticized.axes import Widths, static_axis
from nasbench.supernet.elasticized.layers import (
    OwnBatchNorm,
    OwnConvolution,
    OwnEmbedding,
    OwnLayer,
    OwnLinear,
    OwnVectors,
    OwnWeights,
    PartedTensor,
)
from nasbench.supernet.elasticized.order import channel_groups
from nasbench.supernet.elasticized.program import Program, Schedule, Step
from nasbench.supernet.elasticized.propagation import attribute
from nasbench.supernet.elasticized.rules import Rule, read_rules
from nasbench.supernet.elasticized.tracing import of_batch, trace
from nasbench.supernet.layers import Counts

_BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_CONVOLUTIONS = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


@dataclass(frozen=True, slots=True)
class OwnShape:
    """The active units of each group, the side of each elastic kernel, the depth of each stage."""

    widths: Widths
    kernel_sizes: tuple[int, ...]
    depths: tuple[int, ...]


@dataclass(frozen=True)
class OwnSpec:
    """Which network, where it is no family's."""

    name: str
    rules: tuple[Rule, ...]


class Elasticized(Supernet[OwnShape]):
    """A traced network with its free channels, kernels and depths elastic.

    Args:
        model: is copied.
        example_inputs: what its forward takes, the batch first; sizes but for the batch are those
            that sub-networks are for.
        rules: which dimensions are elastic, and how.
        is_sorted: whether channels are sorted by importance.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Sequence[Tensor],
        rules: Sequence[Rule],
        settings: Mapping[str, Any],
        spec: Any,
        *,
        is_sorted: bool = True,
    ) -> None:
        analysis = analyze(trace(model, example_inputs), rules)
        super().__init__(analysis.space, settings, spec)
        self.static: tuple[StaticPart, ...] = analysis.static
        self._groups, self._stages = analysis.groups, analysis.stages
        self._kernels = dict(analysis.kernels)
        self._class_name = type(model).__name__
        self._inputs = tuple(x.detach().clone() for x in example_inputs)
        self.network, self._plain_sizes = _elastic_network(analysis)
        elastic = [name for name, m in self.network.named_modules() if isinstance(m, OwnLayer)]
        stages = [stage for stage, _, _ in analysis.stages]
        self.program: Program = analysis.compilation.program(stages, elastic)
        self._schedules: dict[tuple[int, ...], Schedule] = {}
        self.activate(self.space.largest)
        self.train(model.training)
        if is_sorted and self.channel_groups():
            self.sort_channels()

    # -- shapes -------------------------------------------------------------------------------

    def shape_of(self, architecture: Architecture) -> OwnShape:
        """The sizes of a member of the space; what has no dimension is at its largest."""

        def choice(name: str, choices: Sequence[int]) -> int:
            return int(architecture.get(name, choices[-1]))

        return OwnShape(
            tuple(choice(g.name, g.choices) // g.unit for g in self._groups),
            tuple(choice(f"{n}.kernel_size", sizes) for n, sizes in self._kernels.items()),
            tuple(choice(name, depths) for _, name, depths in self._stages),
        )

    def _schedule(self, shape: OwnShape) -> Schedule:
        if shape.depths not in self._schedules:
            self._schedules[shape.depths] = self.program.at(shape.depths)
        return self._schedules[shape.depths]

    def _kernel_sizes(self, shape: OwnShape) -> dict[str, int]:
        return dict(zip(self._kernels, shape.kernel_sizes, strict=True))

    # -- computing ----------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Any:
        """What the active sub-network computes."""
        shape, kernel_sizes = self.shape, self._kernel_sizes(self.shape)
        widths = shape.widths

        def module(step: Step) -> Callable[..., Any]:
            found = self._module(step.target)
            if step.kind == "call_module":
                return found
            if step.target in kernel_sizes:
                return lambda x: found(x, widths, kernel_sizes[step.target])
            return lambda x: found(x, widths)

        def tensor(step: Step) -> Tensor:
            if step.kind == "part":
                part: Tensor = self._module(step.target)(widths)
                return part
            return attribute(self.network, step.target)

        return self._schedule(shape).run(inputs, widths, module, tensor)

    def _module(self, name: str) -> Any:
        return self.network.get_submodule(name)

    def extract_shape(self, shape: OwnShape) -> nn.Module:
        """A `torch.fx.GraphModule` whose layers have the names of the network's own."""
        root, kernel_sizes = nn.Module(), self._kernel_sizes(shape)
        copied: dict[int, Any] = {}  # so that what shares a weight does so afterwards
        schedule = self._schedule(shape)
        for step in schedule.steps:
            if step.kind == "layer":
                layer = self._module(step.target)
                _attach(
                    root, step.target, layer.extract(shape.widths, kernel_sizes.get(step.target))
                )
            elif step.kind == "call_module":
                _attach(
                    root, step.target, _without_elastic_layers(self._module(step.target), copied)
                )
            elif step.kind == "part":
                part = self._module(step.target)
                active = part(shape.widths).detach().clone()
                _attach_tensor(
                    root, step.target, active if part.is_buffer else nn.Parameter(active)
                )
            elif step.kind == "get_attr":
                held = attribute(self.network, step.target)
                _attach_tensor(root, step.target, copy.deepcopy(held, copied))
        return fx.GraphModule(root, schedule.graph(shape.widths), self._class_name)

    def count_shape(self, shape: OwnShape) -> Counts:
        """From the sizes of layers and of the products that attention is made of."""
        widths, kernel_sizes = shape.widths, self._kernel_sizes(shape)
        num_macs, counted, plain = 0, dict[str, int](), dict[int, int]()
        for step in self._schedule(shape).steps:
            num_macs += step.macs
            for product in step.products:
                factor = 1
                for axis in product:
                    factor *= axis.size(widths)
                num_macs += factor
            if step.kind == "layer":
                layer, kernel_size = self._module(step.target), kernel_sizes.get(step.target)
                num_macs += layer.num_macs(widths, kernel_size) * step.positions
                counted[step.target] = layer.num_parameters(widths, kernel_size)
            elif step.kind == "part":
                part = self._module(step.target)
                counted[step.target] = 0 if part.is_buffer else part.num_entries(widths)
            elif step.kind in ("call_module", "get_attr"):
                size = self._plain_sizes[step.target]
                num_macs += size.macs_per_position * step.positions
                plain.update(size.tensors)
        return Counts(sum(counted.values()) + sum(plain.values()), num_macs)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Those that it was traced with; beyond their number, with noise of their deviation."""
        like = next(self.parameters())
        generator = torch.Generator().manual_seed(0)
        inputs = []
        for given, x in zip(self._inputs, of_batch(self._inputs, batch_size), strict=True):
            if x.is_floating_point() and batch_size > len(given):
                noise = torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
                noise[: len(given)] = 0
                x = x + given.std(unbiased=False) * noise
            inputs.append(x.to(like) if x.is_floating_point() else x.to(like.device))
        return tuple(inputs)

    @property
    def fingerprint(self) -> str:
        """Names the operations, too, as the network's code may change under its name."""
        steps = [
            [step.name, step.kind, getattr(step.target, "__name__", str(step.target))]
            for step in self.program.steps
        ]
        digest = hashlib.sha256(repr(steps).encode()).hexdigest()
        return f"{super().fingerprint}{digest[:8]}"

    # -- what training asks for ---------------------------------------------------------------

    def channel_groups(self) -> list[ChannelGroup]:
        """The groups with more than one width."""
        found = list(self.network.modules())
        within = {inner for m in found if isinstance(m, OwnVectors) for inner in m.vectors.values()}
        layers = [m for m in found if isinstance(m, OwnLayer | PartedTensor) and m not in within]
        return [channel_groups(group, layers) for group in self._groups if len(group.choices) > 1]

    def mixed_layers(self) -> list[tuple[Any, ...]]:
        """Every linear layer and convolution; the blocks of one together."""
        layers = (m for m in self.network.modules() if isinstance(m, OwnWeights))
        return [tuple(layer.blocks) for layer in layers]

    def residual_ends(self) -> list[nn.Module]:
        """The layers with weights that residual branches end with."""
        steps = {step.name: step for step in self.program.steps}
        ends: list[nn.Module] = []
        for block in (block for stage, _, _ in self._stages for block in stage.blocks):
            for end in map(steps.__getitem__, block.ends):
                while end.kind == "call_module" and not any(self._module(end.target).parameters()):
                    (before,) = end.reads
                    end = steps[before]
                if end.kind in ("layer", "call_module"):
                    ends.append(self._module(end.target))
        return ends

    @property
    def output_layer(self) -> nn.Module:
        """The linear layer that the network ends with, if it does."""
        steps = {step.name: step for step in self.program.steps}
        reads = self.program.steps[-1].reads
        last = steps[min(reads)] if len(reads) == 1 else None
        if last is not None and last.kind in ("layer", "call_module"):
            layer: nn.Module = self._module(last.target)
            if isinstance(layer, OwnLinear | nn.Linear):
                return layer
        return super().output_layer


# -- the modules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainSize:
    """What is counted of a part that stays as it is: id and size of its parameters, and MACs."""

    tensors: dict[int, int]
    macs_per_position: int = 0


def _elastic_network(analysis: Analysis) -> tuple[nn.Module, dict[str, PlainSize]]:
    """The modules and tensors that the steps read, by their names, elastic where they can be."""
    network, compilation = analysis.trace.network, analysis.compilation
    trace_macs = analysis.trace.macs
    root, sizes = nn.Module(), dict[str, PlainSize]()
    for node in analysis.trace.graph.nodes:
        name = str(node.target)
        if node.op == "get_attr":
            tensor = attribute(network, name)
            is_buffer = not isinstance(tensor, nn.Parameter)
            if name in compilation.parameters:
                axis, dim = compilation.parameters[name]
                _attach(root, name, PartedTensor(tensor.detach(), axis, dim, is_buffer=is_buffer))
            else:
                _attach_tensor(root, name, tensor)
                sizes[name] = PlainSize({} if is_buffer else {id(tensor): tensor.numel()})
        elif node.op == "call_module" and name not in sizes:
            plain: Any = network.get_submodule(name)
            elastic = _elastic_layer(analysis, name, plain)
            if elastic is None:
                _calibrate_inside(plain, name)
                _attach(root, name, plain)
                is_counted = isinstance(plain, nn.Linear | _CONVOLUTIONS)
                macs = plain.weight.numel() if is_counted and node.name not in trace_macs else 0
                tensors = {id(p): p.numel() for p in plain.parameters()}
                sizes[name] = PlainSize(tensors, macs)
            else:
                _attach(root, name, elastic)
                sizes[name] = PlainSize({})
    return root, sizes


def _elastic_layer(analysis: Analysis, name: str, plain: Any) -> OwnLayer | None:
    """The elastic layer in the place of a plain one, where anything about it is elastic."""
    axes = analysis.compilation.layers.get(name)
    if axes is None:
        return None
    columns, rows = axes.columns, axes.rows
    if isinstance(plain, _BATCH_NORMS):  # calibrated, even where its channels are static
        return OwnBatchNorm(plain, rows)
    kernel_sizes = analysis.kernels.get(name, ())
    if rows.is_static and (columns is None or columns.is_static) and not kernel_sizes:
        return None
    if isinstance(plain, nn.Embedding):
        return OwnEmbedding(plain, rows)
    if columns is None:
        return OwnVectors(plain, rows)
    if isinstance(plain, nn.Linear):
        return OwnLinear(plain, columns, rows)
    return OwnConvolution(plain, columns, rows, kernel_sizes)


def _calibrate_inside(module: nn.Module, name: str) -> None:
    """Let the normalizations within a module that stays as it is be calibrated nevertheless."""
    for inner, child in list(module.named_children()):
        if isinstance(child, _BATCH_NORMS) and child.affine and child.track_running_stats:
            setattr(module, inner, OwnBatchNorm(child, static_axis(child.num_features)))
        else:
            _calibrate_inside(child, f"{name}.{inner}")
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        raise RequestError(
            f"'{name}' is a {type(module).__name__} that cannot be calibrated for each "
            "sub-network; possible: BatchNorm1d, 2d and 3d with weights and running statistics"
        )


def _without_elastic_layers(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of a module that stays as it is, with plain normalizations."""
    copied = copy.deepcopy(module, memo)
    for name, child in list(copied.named_modules()):
        if isinstance(child, OwnBatchNorm):
            owner, _, last = name.rpartition(".")
            setattr(copied.get_submodule(owner), last, child.extract((), None))
    return copied


def _owner(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    *path, last = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root, last


def _attach(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, last = _owner(root, name)
    owner.add_module(last, module)


def _attach_tensor(root: nn.Module, name: str, tensor: Tensor) -> None:
    owner, last = _owner(root, name)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(last, tensor)
    else:
        owner.register_buffer(last, tensor)


def elasticize(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    rules: Sequence[Rule | Mapping[str, Any]] = (),
    *,
    is_sorted: bool = True,
) -> Elasticized:
    """A supernet whose largest sub-network is this model, in the modes that it is in.

    Args:
        model: a network that torch.fx can trace, trained or not; it is copied.
        example_inputs: what its forward takes, the batch first.
        rules: which dimensions are elastic, with which choices; see `Rule`. Without one, widths
            and heads have a quarter, half, three quarters and all, kernels every odd side from 3
            up, stages every depth from 1 up.
        is_sorted: whether the most important channels come first.

    Raises:
        RequestError: if the model cannot be traced or does not run on the inputs, or a rule is
            wrong or names nothing.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    name, read = type(model).__name__, read_rules(rules)
    settings = {"family": "elasticized", "preset": name, "sharing": "slice"}
    return Elasticized(model, inputs, read, settings, OwnSpec(name, read), is_sorted=is_sorted)
