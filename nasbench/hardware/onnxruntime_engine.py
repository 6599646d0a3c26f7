"""Engine `onnxruntime`: the CPU provider of ONNX Runtime."""

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from nasbench.errors import MissingExtraError
from nasbench.export.onnx import to_onnx_fast

Artifact = tuple[bytes, list[np.ndarray]]


class OnnxRuntimeEngine:
    """Runs the network's ONNX graph; the artifact is the file's bytes with its inputs.

    Raises:
        MissingExtraError: where onnxruntime is not installed.
    """

    name = "onnxruntime"

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

    def load(self, artifact: Artifact, num_threads: int) -> Callable[[], object]:
        """Open a session that keeps its threads from spinning between runs."""
        model, arrays = artifact
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = self._onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        names = [argument.name for argument in session.get_inputs()]
        feed = dict(zip(names, arrays, strict=True))
        return lambda: session.run(None, feed)
