"""What of a network can be elastic: its dimensions, and what stays as it is, with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from nasbench.space import ActiveWhen, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.elasticized.compilation import Compilation
from nasbench.supernet.elasticized.depth import Stage, find_stages
from nasbench.supernet.elasticized.layers import OwnConvolution
from nasbench.supernet.elasticized.propagation import Propagation
from nasbench.supernet.elasticized.rules import Choices, Rule
from nasbench.supernet.elasticized.tracing import Trace


@dataclass(frozen=True, slots=True)
class StaticPart:
    """Something that is the same in every sub-network.

    Args:
        name: as a dimension would be named, or a module.
        reason: why, as a sentence that goes on from "because".
    """

    name: str
    reason: str


@dataclass(frozen=True)
class WidthGroup:
    """A group of channels as a dimension.

    Args:
        number: of the group.
        name: of the dimension.
        unit: what a choice counts per unit of the group: channels, or 1 for heads.
        units: how many units there are.
        choices: rising; one alone where it is static.
    """

    number: int
    name: str
    unit: int
    units: int
    choices: tuple[int, ...]


@dataclass(frozen=True)
class Analysis:
    """Everything that is known before weights are looked at.

    Args:
        groups: in the order of their numbers.
        kernels: convolution -> choices of its kernel size, where there are several.
        stages: with the choices of their depth, and the name of the dimension.
        space: the dimensions.
        static: what has none.
    """

    trace: Trace
    compilation: Compilation
    groups: tuple[WidthGroup, ...]
    kernels: Mapping[str, tuple[int, ...]]
    stages: tuple[tuple[Stage, str, tuple[int, ...]], ...]
    space: SearchSpace
    static: tuple[StaticPart, ...]


def analyze(trace: Trace, rules: Sequence[Rule]) -> Analysis:
    """Find the dimensions of a network.

    Raises:
        RequestError: for a rule that names no dimension.
    """
    walk = Propagation(trace)
    compilation = Compilation(walk)
    compilation.note_touched()
    chooser = Choices(rules)
    named: list[str] = []
    static: list[StaticPart] = []
    stages = []
    for stage in find_stages(walk):
        name = f"{stage.name}.depth" if stage.name else "depth"
        named.append(name)
        stages.append((stage, name, chooser.of([name], stage.depths)))
    groups = _width_groups(compilation, chooser, named)
    kernels = _kernels(trace, compilation, chooser, named, static)
    chooser.check_all_used(named)
    static += _static_widths(compilation)
    static += [
        StaticPart(name, "a rule says so")
        for name, choices in [(g.name, g.choices) for g in groups] + [(n, c) for _, n, c in stages]
        if len(choices) == 1
    ]
    dimensions = _dimensions(compilation, groups, kernels, stages)
    kernels = {layer: choices for layer, choices in kernels.items() if len(choices) > 1}
    return Analysis(
        trace,
        compilation,
        tuple(groups),
        kernels,
        tuple(stages),
        SearchSpace(dimensions),
        tuple(static),
    )


def _width_groups(compilation: Compilation, chooser: Choices, named: list[str]) -> list[WidthGroup]:
    walk, found = compilation.walk, []
    for number, units in enumerate(compilation.groups.units):
        is_heads = walk.ties.are_heads(units)
        writers = _writers(compilation, number)
        kind = "num_heads" if is_heads else "width"
        owner, repeats, is_part = writers[0]
        own = f"{owner}.{kind}" if not is_part else f"{owner}.part{is_part}.{kind}"
        names = [own, *(f"{writer}.{kind}" for writer, _, _ in writers)]
        unit = 1 if is_heads else repeats
        possible = [unit * n for n in range(1, len(units) + 1)]
        choices = chooser.of(names, possible, unit=unit)
        named.append(own)
        found.append(WidthGroup(number, own, unit, len(units), choices))
    return found


def _writers(compilation: Compilation, group: int) -> list[tuple[str, int, int]]:
    """(layer, entries per unit, which of several groups it writes or 0), the first layer first."""
    makers: list[tuple[str, int, int]] = []
    keepers: list[tuple[str, int, int]] = []
    for name, axes in compilation.layers.items():
        groups = list(dict.fromkeys(p.group for p in axes.rows.parts if p.group is not None))
        for part in axes.rows.parts:
            if part.group == group:
                number = groups.index(group) + 1 if len(groups) > 1 else 0
                module = compilation.walk.trace.network.get_submodule(name)
                is_maker = isinstance(module, nn.Embedding) or axes.columns is not None
                (makers if is_maker else keepers).append((name, part.repeats, number))
                break
    for name, (axis, _) in compilation.parameters.items():
        groups = list(dict.fromkeys(p.group for p in axis.parts if p.group is not None))
        for part in [part for part in axis.parts if part.group == group][:1]:
            number = groups.index(group) + 1 if len(groups) > 1 else 0
            keepers.append((name, part.repeats, number))
    return makers + keepers


def _kernels(
    trace: Trace,
    compilation: Compilation,
    chooser: Choices,
    named: list[str],
    static: list[StaticPart],
) -> dict[str, tuple[int, ...]]:
    found = {}
    for layer in compilation.layers:
        module = trace.network.get_submodule(layer)
        sides = getattr(module, "kernel_size", ())
        if not isinstance(sides, tuple) or set(sides) <= {1}:
            continue
        name = f"{layer}.kernel_size"
        possible = OwnConvolution.possible_kernel_sizes(module)
        if len(possible) < 2:
            static.append(StaticPart(name, "its center has no kernel of the same output size"))
            continue
        named.append(name)
        found[layer] = chooser.of([name], possible)
        if len(found[layer]) == 1:
            is_point = possible[:-1] == (1,)
            reason = "its only smaller center is 1x1, which a rule has to ask for"
            static.append(StaticPart(name, reason if is_point else "a rule says so"))
    return found


def _static_widths(compilation: Compilation) -> list[StaticPart]:
    walk = compilation.walk
    found = []
    for name, axes in compilation.layers.items():
        if axes.columns is None and not isinstance(
            walk.trace.network.get_submodule(name), nn.Embedding
        ):
            continue
        if any(part.group is None for part in axes.rows.parts):
            found.append(StaticPart(f"{name}.width", walk.ties.reason(walk.layers[name].writes)))
    called = [str(n.target) for n in walk.trace.graph.nodes if n.op == "call_module"]
    for name in dict.fromkeys(called):
        module = walk.trace.network.get_submodule(name)
        if name not in compilation.layers and any(True for _ in module.parameters()):
            found.append(StaticPart(name, walk.reasons.get(name, "it has one parameter for all")))
    return found


def _dimensions(
    compilation: Compilation,
    groups: Sequence[WidthGroup],
    kernels: Mapping[str, tuple[int, ...]],
    stages: Sequence[tuple[Stage, str, tuple[int, ...]]],
) -> list[ElasticDimension]:
    order = {node.name: at for at, node in enumerate(compilation.walk.trace.graph.nodes)}
    later: list[tuple[int, ElasticDimension]] = []
    depths = [ElasticDimension(name, choices) for _, name, choices in stages if len(choices) > 1]
    for group in groups:
        steps = compilation.touched[group.number]
        later.append(
            (min(map(order.__getitem__, steps)), _one(group.name, group.choices, steps, stages))
        )
    for layer, choices in kernels.items():
        steps = set(compilation.walk.layers[layer].uses)
        dimension = _one(f"{layer}.kernel_size", choices, steps, stages)
        later.append((min(map(order.__getitem__, steps)), dimension))
    later.sort(key=lambda pair: pair[0])
    return depths + [dimension for _, dimension in later if len(dimension.choices) > 1]


def _one(
    name: str,
    choices: tuple[int, ...],
    steps: set[str],
    stages: Sequence[tuple[Stage, str, tuple[int, ...]]],
) -> ElasticDimension:
    """The dimension, inactive at depths that leave all of its steps out."""
    for stage, depth, depths in stages:
        for number, block in enumerate(stage.blocks, start=1):
            if steps <= block.steps:
                deep_enough: tuple[Choice, ...] = tuple(
                    d for d in depths if stage.num_run(d) >= number
                )
                condition = ActiveWhen(depth, deep_enough) if deep_enough != depths else None
                return ElasticDimension(name, choices, condition)
    return ElasticDimension(name, choices)
