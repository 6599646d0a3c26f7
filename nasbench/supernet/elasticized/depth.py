"""Residual blocks that can be left out.

A block adds what it computes from its input to its input, and nothing else sees what is in between;
so where input and output are alike, the input can stand for the output. Blocks that follow each
other are a stage, which keeps its first ones.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, fx

from nasbench.supernet.elasticized.propagation import Propagation

_ADDS = {operator.add, torch.add, "add"}


@dataclass(frozen=True)
class ResidualBlock:
    """A block that can be left out.

    Args:
        entry, exit: the values before and after it.
        steps: what is between, with the last.
        ends: the last value of each of its residual branches.
        owner: the module whose forward adds.
    """

    entry: str
    exit: str
    steps: frozenset[str]
    ends: tuple[str, ...]
    owner: str

    @property
    def parent(self) -> str:
        """The module that holds the owner."""
        return self.owner.rpartition(".")[0]


@dataclass(frozen=True)
class Stage:
    """Blocks one after the other, each of which can be left out with all that follow.

    Args:
        name: of the module that holds them.
        blocks: in order.
        num_before: blocks of the same stage before them, which always run.
    """

    name: str
    blocks: tuple[ResidualBlock, ...]
    num_before: int

    @property
    def depths(self) -> tuple[int, ...]:
        """How many blocks can run: at least one."""
        return tuple(range(max(1, self.num_before), self.num_before + len(self.blocks) + 1))

    def num_run(self, depth: int) -> int:
        """How many of `blocks` run at that depth."""
        return depth - self.num_before


def find_stages(walk: Propagation) -> list[Stage]:
    """The stages with more than one depth, in order."""
    nodes = {node.name: node for node in walk.trace.graph.nodes}
    found = [block for node in nodes.values() if (block := _residual(walk, node)) is not None]
    outer = [b for b in found if not any(b.exit in o.steps and b is not o for o in found)]
    blocks: list[ResidualBlock] = []
    for block in (_with_tail(walk, block, nodes) for block in outer):
        last = blocks[-1] if blocks else None
        if last and block.owner and last.owner == block.owner and last.exit == block.entry:
            blocks[-1] = replace(
                last,
                exit=block.exit,
                steps=last.steps | block.steps,
                ends=last.ends + block.ends,
            )
        else:
            blocks.append(block)
    runs: list[list[ResidualBlock]] = [blocks[:1]] if blocks else []
    for before, block in pairwise(blocks):
        if before.exit == block.entry and before.parent == block.parent:
            runs[-1].append(block)
        else:
            runs.append([block])
    stages = []
    for run in runs:
        owner = _owner(nodes[run[0].entry])
        is_sibling = bool(owner) and _parent(owner) == run[0].parent and owner != run[0].owner
        stages.append(Stage("", tuple(run), int(is_sibling)))
    stages = [stage for stage in stages if len(stage.depths) > 1]
    return _named(stages)


def _named(stages: list[Stage]) -> list[Stage]:
    parents = [stage.blocks[0].parent for stage in stages]
    named = []
    for number, (stage, parent) in enumerate(zip(stages, parents, strict=True), start=1):
        name = parent if parents.count(parent) == 1 else stage.blocks[0].owner
        named.append(replace(stage, name=name or (f"residual{number}" if len(stages) > 1 else "")))
    return named


def _residual(walk: Propagation, node: fx.Node) -> ResidualBlock | None:
    """The block that ends in this sum, if it is one."""
    is_sum = node.op in ("call_function", "call_method") and node.target in _ADDS
    if not is_sum or len(node.args) != 2 or node.kwargs:
        return None
    for entry, end in (node.args, node.args[::-1]):
        if not (isinstance(entry, fx.Node) and isinstance(end, fx.Node)):
            return None
        if not _are_alike(walk, entry, node) or not _are_alike(walk, end, node):
            continue
        between = _between(walk, entry, end)
        if between and all(set(n.users) <= between | {node} for n in between):
            read = {x for n in (*between, node) for x in n.all_input_nodes if x.op == "get_attr"}
            own = {parameter for parameter in read if set(parameter.users) <= between | {node}}
            steps = frozenset(n.name for n in between | own | {node})
            return ResidualBlock(entry.name, node.name, steps, (end.name,), _owner(node))
    return None


def _between(walk: Propagation, entry: fx.Node, end: fx.Node) -> set[fx.Node]:
    """Everything that `end` is computed from after `entry`; empty if something else is needed."""
    between: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is entry or node in between or node.op == "get_attr":
            continue
        if node.op == "placeholder" or node < entry:
            if walk.trace.shapes[node.name] is None:  # a size, which is the same everywhere
                continue
            return set()
        between.add(node)
        waiting += node.all_input_nodes
    return between


def _with_tail(
    walk: Propagation, block: ResidualBlock, nodes: Mapping[str, fx.Node]
) -> ResidualBlock:
    """The block with what its own module does to the sum: an activation, a normalization."""
    node = nodes[block.exit]
    while block.owner and len(node.users) == 1:
        (user,) = node.users
        if user.op == "output" or user.all_input_nodes != [node]:
            break
        if _owner(user) != block.owner or not _are_alike(walk, node, user):
            break
        block = replace(block, exit=user.name, steps=block.steps | {user.name})
        node = user
    return block


def _are_alike(walk: Propagation, first: fx.Node, second: fx.Node) -> bool:
    """Whether two values have the same shape and the same channels in the same places."""
    labels = walk.of(first), walk.of(second)
    if not all(isinstance(x, Tensor) for x in labels):
        return False
    if walk.trace.shapes[first.name] != walk.trace.shapes[second.name]:
        return False
    units = [walk.ties.elastic_units(x) for x in labels]
    return bool((units[0] == units[1]).all())


def _owner(node: fx.Node) -> str:
    """The module whose forward has this step; "" is the whole network."""
    stack = list(node.meta.get("nn_module_stack", {}))
    if node.op == "call_module" and stack and stack[-1].partition("@")[0] == str(node.target):
        stack = stack[:-1]
    return stack[-1] if stack else ""


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
