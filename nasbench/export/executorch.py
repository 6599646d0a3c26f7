"""Target `executorch`: a `.pte` for phones, lowered to XNNPACK as far as that goes.

This file is the only door to ExecuTorch: the engine that measures latency lowers and loads here.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError
from nasbench.export.base import ProgramExporter
from nasbench.export.programs import Program, TensorSpec
from nasbench.export.quiet import quiet
from nasbench.export.resizing import resizing_by_products
from nasbench.export.running import Run

MAX_BATCH = 8
"""Of images: memory is planned before a program runs, for its largest sizes. Sequences, whose
length is open, come one by one, because XNNPACK reshapes nothing that is open in two sizes."""

Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]

_FLOAT32 = 6  # as ExecuTorch numbers types
_MIN_LONGEST = 256  # tokens, of networks that have no limit of their own


class ExecuTorchExporter(ProgramExporter):
    """Writes `model.pte` for batches of up to `MAX_BATCH` images, or sequences of bounded length.

    Lowering takes ten seconds and more.

    Raises:
        MissingExtraError: where executorch is not installed.
    """

    runtime = "executorch"
    suffixes = (".pte",)

    def __init__(self) -> None:
        check_installed("the export target 'executorch'")

    def write_program(self, program: Program, path: Path) -> dict[str, Any]:
        """Lower, and say which share of the graph's nodes XNNPACK runs."""
        return self.lower_to(path, resizing_by_products(program))

    def lower_to(
        self, path: Path, program: Program, graph: nn.Module | None = None
    ) -> dict[str, Any]:
        """The same, of a graph that computes the program if one is given."""
        with quiet():
            exported = program.export(graph, most=_bounds(program))
        content, fraction = lower(exported)
        path.write_bytes(content)
        return {"delegated_fraction": round(fraction, 4)}

    def open_program(self, path: Path, inputs: Sequence[TensorSpec]) -> Run:
        """Load it; larger batches run in parts."""
        function = open_function(path.read_bytes())
        most = _max_batch(inputs)

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            parts = zip(*(tensor.contiguous().split(most) for tensor in tensors), strict=True)
            found = [[x.clone() for x in function(part)] for part in parts]
            return tuple(torch.cat(pieces) for pieces in zip(*found, strict=True))

        return run


def _max_batch(inputs: Sequence[TensorSpec]) -> int:
    """The most samples of one pass."""
    opened = {size for spec in inputs for size in spec.shape if isinstance(size, str)}
    return MAX_BATCH if opened == {"batch"} else 1


def _bounds(program: Program) -> dict[str, int]:
    """The most that each open size may be."""
    num_tokens = max([_MIN_LONGEST, *(2 * x.shape[1] for x in program.examples if x.ndim > 1)])
    lengths = dict.fromkeys(("tokens", "past", "source"), num_tokens)
    return {"batch": _max_batch(program.inputs), **lengths, **program.longest}


def check_installed(purpose: str) -> None:
    """MissingExtraError unless ExecuTorch is there."""
    try:
        with quiet():
            import executorch.runtime  # noqa: F401
    except ImportError as error:
        package = (error.name or "executorch").partition(".")[0]
        raise MissingExtraError(package, "executorch", purpose) from None


def lower(program: torch.export.ExportedProgram) -> tuple[bytes, float]:
    """A `.pte`'s content, and the share of its graph's nodes that XNNPACK runs."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.devtools.backend_debug import get_delegation_info
        from executorch.exir import to_edge_transform_and_lower

        program = _with_plain_gelu(program)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        found = get_delegation_info(lowered.exported_program().graph_module)
        num_nodes = found.num_delegated_nodes + found.num_non_delegated_nodes
        content = bytes(lowered.to_executorch().buffer)
    return content, found.num_delegated_nodes / num_nodes


def _with_plain_gelu(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same with GELU's approximation by tanh in smaller steps: XNNPACK has the exact GELU only,
    and would compute that in its place, which is off by up to 0.0005.
    """
    gelu = torch.ops.aten.gelu.default
    calls = [node for node in program.graph.nodes if node.target is gelu]
    if not any(node.kwargs.get("approximate") == "tanh" for node in calls):
        return program
    return program.run_decompositions({gelu: _gelu_in_steps})


def _gelu_in_steps(x: Tensor, *, approximate: str = "none") -> Any:
    if approximate != "tanh":
        return NotImplemented
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + torch.tanh(inner))


def open_function(content: bytes, num_threads: int | None = None) -> Function:
    """A program's function, ready to run.

    Args:
        num_threads: of XNNPACK's pool; None leaves it.
    """
    with quiet():
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

    set_threads = getattr(portable_lib, "_unsafe_reset_threadpool", None)
    if num_threads is not None and set_threads is not None:  # some builds have one thread
        set_threads(num_threads)
    program = Runtime.get().load_program(content)
    return partial(_execute, program.load_method("forward"), (program, content))


def _execute(method: Any, _owners: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Run a function, which lives no longer than its program and the bytes of that."""
    found: Sequence[Tensor] = method.execute(list(tensors))
    return found


def input_shapes(content: bytes) -> list[tuple[tuple[int, ...], bool]]:
    """The largest shape of each input of a program, and whether it is of float32."""
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(content)
    described = program.load_method("forward").metadata
    inputs = [described.input_tensor_meta(i) for i in range(described.num_inputs())]
    return [(tuple(each.sizes()), int(each.dtype()) == _FLOAT32) for each in inputs]
