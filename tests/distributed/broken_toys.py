"""Toys that misbehave, in a module that Ray's workers can import."""

import os
import signal
import threading
from dataclasses import dataclass

from nasbench.errors import WorkError
from nasbench.testing.toys import ToyEvaluated, ToyRecipe


def segfault_at_the_smallest_kernel(architecture):
    if architecture["stage0.block0.kernel_size"] == 3:
        os.kill(os.getpid(), signal.SIGSEGV)


@dataclass(frozen=True)
class Unbuildable(ToyRecipe):
    def build(self):
        raise WorkError("the weights do not fit the supernet")


@dataclass(frozen=True)
class Unsendable(ToyRecipe):
    def evaluate(self, architecture, *, fidelity):
        return ToyEvaluated({"loss0": 0.0, "loss1": threading.Lock()})
