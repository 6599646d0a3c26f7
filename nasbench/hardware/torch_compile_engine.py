"""Engine `torch_compile`: PyTorch's compiler, which writes C++ for this machine."""

import shutil
import warnings
from typing import cast

import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.hardware.eager_engine import Artifact, EagerEngine
from nasbench.hardware.engine import Forward


class TorchCompileEngine(EagerEngine):
    """Runs what torch.compile makes of the module, for exactly the shapes of the inputs.

    Compiling takes seconds to a minute for each network and happens when it is loaded, where it
    runs: good for a few networks, too slow to search with.
    """

    name = "torch_compile"

    def check_machine(self) -> None:
        """RequestError where there is no C++ compiler."""
        if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
            raise RequestError(
                "engine 'torch_compile' needs a C++ compiler, and there is none on the path; "
                "install g++, or take the engine onnxruntime"
            )

    def load(self, artifact: Artifact, num_threads: int) -> Forward:
        """Compile, and run once so that it is done."""
        module, inputs = artifact
        torch.set_num_threads(num_threads)  # before compiling, which writes code for that many
        torch.compiler.reset()
        with warnings.catch_warnings():  # of torch's about its own compiler
            warnings.simplefilter("ignore")
            compiled = cast(nn.Module, torch.compile(module, dynamic=False))
            forward = super().load((compiled, inputs), num_threads)
            forward()
        return forward
