"""The rule of each operation that is known: what it ties, and which channels come out.

A rule takes the `Propagation` and the node (and the module, if it is one), and returns labels. One
that finds a case it was not written for raises `NoRuleError`, and the step is static.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from nasbench.supernet.elasticized.propagation import Propagation

FunctionRule = Callable[["Propagation", fx.Node], Any]
ModuleRule = Callable[["Propagation", fx.Node, Any], Any]


class NoRuleError(Exception):
    """Says which case of an operation no rule is written for."""


def name_of(function: Any) -> str | None:
    """The plain name of a function of torch or of Python's operators; None for any other."""
    home = getattr(function, "__module__", None) or "torch"
    name = getattr(function, "__name__", "")
    if home.partition(".")[0] not in ("torch", "_operator", "operator") or not name:
        return None
    return plain_name(name)


def plain_name(name: str) -> str:
    """The name of an operation without the mark that it works in place."""
    return name if name.startswith("__") else name.rstrip("_")


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument that was given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def source(walk: "Propagation", node: fx.Node) -> Tensor:
    """The labels of the tensor that an operation is about."""
    labels = walk.of(argument(node, 0, "input"))
    if not isinstance(labels, Tensor):
        raise NoRuleError(f"'{node.name}' is not given one tensor first")
    return labels


# -- operations that keep the shape ------------------------------------------------------------


def elementwise(walk: "Propagation", node: fx.Node, _module: Any = None) -> Tensor:
    """Sums, products, activations: the operands agree, as far as they do not repeat."""
    given = [x for x in (*node.args, *node.kwargs.values()) if isinstance(walk.of(x), Tensor)]
    if not given:
        raise NoRuleError(f"'{node.name}' is given no tensor")
    result, is_bare = walk.of(given[0]), walk.is_bare(given[0])
    for other in given[1:]:
        result = walk.combine(result, walk.of(other), bare=(is_bare, walk.is_bare(other)))
        is_bare = is_bare and walk.is_bare(other)
    return result.expand(walk.trace.shape(node))


def dtype_or_copy(walk: "Propagation", node: fx.Node) -> Tensor:
    """`x.to(...)` and the like: the first tensor's channels, whatever else is given."""
    walk.keep_bare(node, node.args[0])
    return source(walk, node)


# -- layers with weights -----------------------------------------------------------------------


def linear(walk: "Propagation", node: fx.Node, module: nn.Linear) -> Tensor:
    """Reads the last axis, writes channels of its own."""
    reads = walk.ties.along(source(walk, node), -1)
    return walk.spread(node, walk.layer(node, reads, None, module.out_features), -1)


def convolution(walk: "Propagation", node: fx.Node, module: Any) -> Tensor:
    """Writes channels of its own, or in groups those of the group that it reads."""
    labels, groups = source(walk, node), module.groups
    is_transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    if len(node.args) + len(node.kwargs) > 1:
        raise NoRuleError(f"'{node.name}' is given an output size")
    reads = walk.ties.along(labels, 1)
    if groups == 1:
        writes = walk.layer(node, reads, None, module.out_channels)
        return walk.spread(node, writes, 1)
    if is_transposed:
        raise NoRuleError(f"'{node.name}' is a transposed convolution in groups")
    reads_GI = reads.view(groups, -1)
    walk.ties.tie(reads_GI, reads_GI[:, :1])
    writes = reads_GI[:, 0].repeat_interleave(module.out_channels // groups)
    return walk.spread(node, walk.layer(node, reads, writes, 0), 1)


def batch_norm(walk: "Propagation", node: fx.Node, module: Any) -> Tensor:
    """Keeps its channels."""
    if not (module.affine and module.track_running_stats):
        raise NoRuleError(f"'{node.target}' has no weights, or no running statistics")
    atoms = walk.ties.along(source(walk, node), 1)
    walk.layer(node, None, atoms, 0)
    return walk.spread(node, atoms, 1)


def instance_norm(walk: "Propagation", node: fx.Node, module: Any) -> Tensor:
    """Keeps its channels."""
    if module.affine or module.track_running_stats:
        raise NoRuleError(f"'{node.target}' has weights or running statistics")
    return source(walk, node)


def last_axis_norm(walk: "Propagation", node: fx.Node, module: Any) -> Tensor:
    """LayerNorm and RMSNorm over the last axis."""
    if len(module.normalized_shape) != 1:
        raise NoRuleError(f"'{node.target}' normalizes over several axes")
    atoms = walk.ties.along(source(walk, node), -1)
    walk.layer(node, None, atoms, 0)
    return walk.spread(node, atoms, -1)


def group_norm(walk: "Propagation", node: fx.Node, module: nn.GroupNorm) -> Tensor:
    """Groups are kept or left out whole; one group of all channels normalizes what there is."""
    atoms = walk.ties.along(source(walk, node), 1)
    if module.num_groups > 1:
        atoms_GC = atoms.view(module.num_groups, -1)
        walk.ties.tie(atoms_GC, atoms_GC[:, :1])
    walk.layer(node, None, atoms, 0)
    return walk.spread(node, atoms, 1)


def prelu(walk: "Propagation", node: fx.Node, module: nn.PReLU) -> Tensor:
    """Keeps its channels."""
    if module.num_parameters == 1:
        return source(walk, node)
    atoms = walk.ties.along(source(walk, node), 1)
    walk.layer(node, None, atoms, 0)
    return walk.spread(node, atoms, 1)


def embedding(walk: "Propagation", node: fx.Node, module: nn.Embedding) -> Tensor:
    """Writes features of its own."""
    if module.max_norm is not None or module.sparse or module.scale_grad_by_freq:
        raise NoRuleError(f"'{node.target}' has max_norm, sparse or scaled gradients")
    return walk.spread(node, walk.layer(node, None, None, module.embedding_dim), -1)


# -- over space, and over axes -----------------------------------------------------------------


def spatial(walk: "Propagation", node: fx.Node, _module: Any = None) -> Tensor:
    """Pooling and interpolation: each channel by itself, and the same everywhere in space."""
    if not isinstance(walk.trace.shapes[node.name], torch.Size):
        raise NoRuleError(f"'{node.name}' gives indices beside its values")
    labels = source(walk, node)
    return walk.spread(node, walk.ties.along(labels, 1), 1)


def reduction(walk: "Propagation", node: fx.Node) -> Tensor:
    """Means and sums over axes."""
    labels, shape = source(walk, node), walk.trace.shapes[node.name]
    dim = argument(node, 1, "dim")
    if not isinstance(shape, torch.Size) or isinstance(dim, fx.Node):
        raise NoRuleError(f"'{node.name}' gives more than the values, or over an axis that depends")
    keepdim = len(shape) == labels.ndim
    dims = range(labels.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    for axis in sorted((d % labels.ndim for d in dims), reverse=True):
        labels = walk.without(labels, axis)
        labels = labels.unsqueeze(axis) if keepdim else labels
    return labels.expand(shape)


def matrix_product(walk: "Propagation", node: fx.Node) -> Tensor:
    """Products of two tensors of the same batch, as attention is made of."""
    first, second = node.args[0], argument(node, 1, "other")
    if walk.is_bare(first) or walk.is_bare(second):
        raise NoRuleError(f"'{node.name}' multiplies by a parameter, where a linear layer is known")
    left, right = walk.of(first), walk.of(second)
    if left.ndim < 2 or right.ndim < 2:
        raise NoRuleError(f"'{node.name}' multiplies by a vector")
    ties = walk.ties
    if any(axis < x.ndim - 2 for x in (left, right) for axis in ties.varying_axes(x)):
        for x in (left, right):
            for axis in (x.ndim - 2, x.ndim - 1):
                ties.alike_along(x, axis, f"'{node.name}' multiplies matrices of them")
            ties.mark_heads(x)
    if ties.varying_axes(left) == [left.ndim - 1] or ties.varying_axes(right) == [right.ndim - 2]:
        ties.tie(ties.along(left, -1), ties.along(right, -2))
    rows, columns = walk.without(left, -1), walk.without(right, -2)
    return walk.combine(rows.unsqueeze(-1), columns.unsqueeze(-2))


def dot_product_attention(walk: "Propagation", node: fx.Node) -> Tensor:
    """Heads are kept or left out whole."""
    query, key, value = (
        walk.of(argument(node, i, n)) for i, n in enumerate(("query", "key", "value"))
    )
    if argument(node, 7, "enable_gqa", False):
        raise NoRuleError(f"'{node.name}' lets queries share keys")
    ties = walk.ties
    if query.ndim == 4:
        for x in (query, key, value):
            for axis in (2, 3):
                ties.alike_along(x, axis, "an attention reads them")
            ties.mark_heads(x)
        for x in (key, value):
            ties.tie(query[:, :, 0, 0], x[:, :, 0, 0])
        mask = walk.of(argument(node, 3, "attn_mask"))
        if mask is not None:
            walk.combine(query[:, :, :1, :1].expand(*query.shape[:3], key.shape[2]), mask)
        return walk.spread(node, ties.along(value, 1), 1)
    if query.ndim != 3 or argument(node, 3, "attn_mask") is not None:
        raise NoRuleError(f"'{node.name}' is an attention of {query.ndim} axes")
    ties.tie(ties.along(query, -1), ties.along(key, -1))
    return walk.spread(node, ties.along(value, -1), -1)


# -- operations that move data -----------------------------------------------------------------


def moved(function: Callable[..., Any]) -> FunctionRule:
    """An operation whose result is the same function of labels as of data."""

    def rule(walk: "Propagation", node: fx.Node) -> Any:
        labels = source(walk, node)
        walk.keep_bare(node, node.args[0])
        if any(isinstance(x, fx.Node) for x in (*node.args[1:], *node.kwargs.values())):
            raise NoRuleError(f"'{node.name}' moves data as other values say")
        return function(labels, *node.args[1:], **node.kwargs)

    return rule


def reshaped(walk: "Propagation", node: fx.Node, _module: Any = None) -> Tensor:
    """Reshape, view, flatten, unflatten: to the shape that the trace saw."""
    walk.keep_bare(node, node.args[0])
    if len(walk.trace.batch_axes[node.name]) > 1:
        raise NoRuleError(f"'{node.name}' divides the batch")
    return source(walk, node).reshape(walk.trace.shape(node))


def expanded(walk: "Propagation", node: fx.Node) -> Tensor:
    """Repeats along axes of one entry."""
    given = argument(node, 1, "size")
    sizes = given if isinstance(given, list | tuple) else node.args[1:]
    if len(sizes) != len(walk.trace.shape(node)):
        raise NoRuleError(f"'{node.name}' expands to a size that depends")
    walk.keep_bare(node, node.args[0])
    return source(walk, node).expand(walk.trace.shape(node))


def squeezed(walk: "Propagation", node: fx.Node) -> Any:
    """Leaves out axes that are named: others could shrink to one entry."""
    if argument(node, 1, "dim") is None:
        raise NoRuleError(f"'{node.name}' squeezes whichever axes have one entry")
    return moved(torch.Tensor.squeeze)(walk, node)


def joined(function: Callable[..., Tensor]) -> FunctionRule:
    """`cat` and `stack`."""

    def rule(walk: "Propagation", node: fx.Node) -> Tensor:
        tensors = argument(node, 0, "tensors")
        dim = argument(node, 1, "dim", 0)
        if isinstance(tensors, fx.Node) or isinstance(dim, fx.Node):
            raise NoRuleError(f"'{node.name}' joins as other values say")
        return function([walk.of(x) for x in tensors], dim).expand(walk.trace.shape(node))

    return rule


def divided(walk: "Propagation", node: fx.Node) -> Any:
    """`chunk` and `split`, in the sizes that the trace saw."""
    dim, sizes = divided_sizes(walk, node)
    return source(walk, node).split(sizes, dim)


def divided_sizes(walk: "Propagation", node: fx.Node) -> tuple[int, list[int]]:
    """Along which axis, and the sizes of the largest parts."""
    dim = argument(node, 2, "dim", 0)
    if isinstance(dim, fx.Node):
        raise NoRuleError(f"'{node.name}' divides along an axis that depends")
    return dim, [shape[dim] for shape in walk.trace.shapes[node.name]]


def indexed(walk: "Propagation", node: fx.Node) -> Any:
    """`x[...]` of a tensor, or one of several tensors."""
    labels, index = walk.of(node.args[0]), argument(node, 1, "index")
    if isinstance(labels, tuple):
        return labels[index] if isinstance(index, int) else _refuse_index(node)
    if not isinstance(labels, Tensor):
        raise NoRuleError(f"'{node.name}' is no part of a tensor")
    index = index if isinstance(index, tuple) else (index,)
    if not all(x is None or x is Ellipsis or isinstance(x, int | slice) for x in index):
        _refuse_index(node)
    if any(
        isinstance(part, fx.Node)
        for x in index
        if isinstance(x, slice)
        for part in (x.start, x.stop, x.step)
    ):
        _refuse_index(node)
    for axis, x in indexed_axes(index, labels.ndim):
        if isinstance(x, int) or (isinstance(x, slice) and x.step not in (None, 1)):
            walk.demand_alike(labels, axis, f"'{node.name}' takes some of them")
    walk.keep_bare(node, node.args[0])
    return labels[index]


def indexed_axes(index: tuple[Any, ...], ndim: int) -> list[tuple[int, Any]]:
    """The axes of a tensor that an index is about."""
    given = [x for x in index if x is not None]
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given[at : at + 1] = [slice(None)] * (ndim - len(given) + 1)
    return list(enumerate(given))


def _refuse_index(node: fx.Node) -> Any:
    raise NoRuleError(f"'{node.name}' is indexed by other values")


def selected(walk: "Propagation", node: fx.Node) -> Tensor:
    """`x.select(dim, index)`."""
    labels, dim, index = source(walk, node), argument(node, 1, "dim"), argument(node, 2, "index")
    if isinstance(dim, fx.Node) or isinstance(index, fx.Node):
        _refuse_index(node)
    walk.demand_alike(labels, dim, f"'{node.name}' takes some of them")
    return labels.select(dim, index)


def unbound(walk: "Propagation", node: fx.Node) -> Any:
    """One tensor for each entry of an axis."""
    labels, dim = source(walk, node), argument(node, 1, "dim", 0)
    walk.demand_alike(labels, dim, f"'{node.name}' takes them apart")
    return labels.unbind(dim)


def padded(walk: "Propagation", node: fx.Node) -> Tensor:
    """`pad`: what is added is static."""
    labels, shape, pad = source(walk, node), walk.trace.shape(node), argument(node, 1, "pad")
    if not isinstance(pad, list | tuple) or argument(node, 2, "mode", "constant") != "constant":
        raise NoRuleError(f"'{node.name}' pads otherwise than with constants")
    touched = [axis for axis in range(labels.ndim) if shape[axis] != labels.shape[axis]]
    for axis in touched:
        if axis in walk.ties.varying_axes(labels):
            atom = walk.ties.static((1,), "padding")
            return F.pad(labels, tuple(pad), value=int(atom))
        labels = labels.narrow(axis, 0, 1)
    return labels.expand(shape)


_ELEMENTWISE = (
    "abs add addcmul alpha_dropout clamp clip contiguous clone cos detach div divide dropout "
    "dropout2d elu erf exp expm1 feature_dropout gelu hardsigmoid hardswish hardtanh "
    "leaky_relu log log1p log_softmax logsigmoid masked_fill maximum minimum mish mul "
    "multiply neg negative normalize pow reciprocal relu relu6 rsqrt rsub selu sigmoid sign "
    "silu sin softmax softplus sqrt square sub subtract tanh true_divide truediv where eq ne "
    "lt gt le ge"
)

_SPATIAL = (
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d "
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d interpolate "
    "upsample"
)

FUNCTIONS: Mapping[str, FunctionRule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(("to", "float", "half", "double", "bfloat16", "type_as"), dtype_or_copy),
    **dict.fromkeys(
        _SPATIAL.split(),
        spatial,
    ),
    **dict.fromkeys(["mean", "sum", "amax", "amin", "var", "std", "logsumexp"], reduction),
    **dict.fromkeys(("matmul", "bmm"), matrix_product),
    "scaled_dot_product_attention": dot_product_attention,
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten"), reshaped),
    **dict.fromkeys(("expand", "broadcast_to"), expanded),
    "expand_as": elementwise,
    "squeeze": squeezed,
    **{
        name: moved(getattr(torch.Tensor, name))
        for name in ("permute", "transpose", "t", "swapaxes", "movedim", "unsqueeze")
    },
    **dict.fromkeys(("cat", "concat", "concatenate"), joined(torch.cat)),
    "stack": joined(torch.stack),
    **dict.fromkeys(("chunk", "split", "tensor_split"), divided),
    "getitem": indexed,
    "select": selected,
    "unbind": unbound,
    "pad": padded,
}

MODULES: Mapping[type[nn.Module], ModuleRule] = {
    nn.Linear: linear,
    **dict.fromkeys(
        (
            nn.Conv1d,
            nn.Conv2d,
            nn.Conv3d,
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
        ),
        convolution,
    ),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), instance_norm),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), last_axis_norm),
    nn.GroupNorm: group_norm,
    nn.PReLU: prelu,
    nn.Embedding: embedding,
    **dict.fromkeys(
        (
            nn.ReLU,
            nn.ReLU6,
            nn.GELU,
            nn.SiLU,
            nn.Hardswish,
            nn.Hardsigmoid,
            nn.Sigmoid,
            nn.Tanh,
            nn.LeakyReLU,
            nn.ELU,
            nn.CELU,
            nn.SELU,
            nn.Mish,
            nn.Softplus,
            nn.Softsign,
            nn.Hardtanh,
            nn.LogSigmoid,
            nn.Identity,
            nn.Softmax,
            nn.LogSoftmax,
            nn.Dropout,
            nn.Dropout1d,
            nn.Dropout2d,
            nn.Dropout3d,
            nn.AlphaDropout,
        ),
        elementwise,
    ),
    **dict.fromkeys(
        (
            nn.MaxPool1d,
            nn.MaxPool2d,
            nn.MaxPool3d,
            nn.AvgPool1d,
            nn.AvgPool2d,
            nn.AvgPool3d,
            nn.AdaptiveAvgPool1d,
            nn.AdaptiveAvgPool2d,
            nn.AdaptiveAvgPool3d,
            nn.AdaptiveMaxPool1d,
            nn.AdaptiveMaxPool2d,
            nn.Upsample,
            nn.UpsamplingNearest2d,
            nn.UpsamplingBilinear2d,
            nn.ZeroPad2d,
            nn.ReflectionPad2d,
            nn.ReplicationPad2d,
        ),
        spatial,
    ),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), reshaped),
}
