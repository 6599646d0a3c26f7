"""Engine `onnxruntime`: the CPU provider of ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nasbench.errors import MissingExtraError, RequestError
from nasbench.export.onnx import to_onnx_fast
from nasbench.hardware.engine import Engine, Forward

Artifact = tuple[bytes, list[np.ndarray]]

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeEngine(Engine):
    """Runs the network's ONNX graph; the artifact is the file's bytes with its inputs.

    Raises:
        MissingExtraError: where onnxruntime is not installed.
    """

    name = "onnxruntime"
    packages = ("onnxruntime",)
    file_suffix = ".onnx"

    def __init__(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime
        except ImportError as error:
            package = (error.name or "onnxruntime").partition(".")[0]
            raise MissingExtraError(package, "onnx", "the engine 'onnxruntime'") from None
        onnxruntime.set_default_logger_severity(3)
        self._onnxruntime = onnxruntime

    def compile(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Artifact:
        """Export with the fast exporter, for exactly the shapes of the inputs."""
        return to_onnx_fast(module, example_inputs), [x.numpy() for x in example_inputs]

    def read(self, path: Path, batch_size: int, sequence_length: int | None) -> Artifact:
        """The file with inputs that fit it: normal numbers, and ones where it reads whole ones.

        An open first size is the batch; any other one, the sequence.
        """
        try:
            session = self._session(path.read_bytes(), 1)
        except Exception as error:  # the runtime has a class of its own for each thing it dislikes
            reason = " ".join(str(error).split())
            raise RequestError(f"ONNX Runtime cannot read '{path}': {reason}") from None
        rng = np.random.default_rng(0)
        inputs: list[np.ndarray] = []
        for argument in session.get_inputs():
            shape = _closed(path, argument, batch_size, sequence_length)
            dtype = _DTYPES.get(argument.type)
            if dtype is None:
                raise RequestError(
                    f"'{path}' has the input '{argument.name}' of type {argument.type}, which "
                    f"cannot be made up; possible: {', '.join(_DTYPES)}"
                )
            is_real = np.issubdtype(dtype, np.floating)
            values = rng.standard_normal(shape) if is_real else np.ones(shape)
            inputs.append(values.astype(dtype))
        return path.read_bytes(), inputs

    def file_bytes(self, artifact: Artifact) -> bytes:
        """The file."""
        return artifact[0]

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Open a session that keeps its threads from spinning between runs."""
        model, arrays = artifact
        session = self._session(model, num_threads)
        names = [argument.name for argument in session.get_inputs()]
        feed = dict(zip(names, arrays, strict=True))
        return lambda: session.run(None, feed)

    def _session(self, model: bytes, num_threads: int) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return self._onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )


def _closed(
    path: Path, argument: Any, batch_size: int, sequence_length: int | None
) -> tuple[int, ...]:
    """The argument's shape with its open sizes filled in."""
    shape: list[int] = []
    for position, size in enumerate(argument.shape):
        is_open = not isinstance(size, int)
        if position == 0 and not is_open and size != batch_size:
            raise RequestError(
                f"'{path}' takes batches of {size} only, not of {batch_size}; give --batch-size "
                f"{size}, or export it with an open batch size"
            )
        given = batch_size if position == 0 else sequence_length
        if is_open and given is None:
            raise RequestError(
                f"'{path}' leaves the size '{size}' of its input '{argument.name}' open; give "
                "--sequence-length"
            )
        shape.append(given if is_open and given is not None else size)
    return tuple(shape)
