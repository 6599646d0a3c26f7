"""Resizing images by products of matrices, for runtimes that cannot resize as torch does.

OpenVINO converts no antialiased resize, and ExecuTorch's kernel for it fails on any batch but the
largest. Both multiply matrices well.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.export.programs import Program
from nasbench.supernet.plain import ResizeImages


def resizing_by_products(program: Program) -> Program:
    """The same program; the module that it was made of stays as it is."""
    return replace(program, module=module_resizing_by_products(program.module, program.examples))


def module_resizing_by_products(module: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """A module that computes the same of inputs with these sizes of images."""
    resizes = {n: part for n, part in module.named_modules() if isinstance(part, ResizeImages)}
    if not resizes:
        return module
    sides: dict[str, int] = {}

    def note(name: str, given: Tensor) -> None:
        sides[name] = given.shape[-1]

    handles = [
        part.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
        for name, part in resizes.items()
    ]
    try:
        with torch.inference_mode():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    module = deepcopy(module)
    for name, side in sides.items():
        module.set_submodule(name, _ResizeByProducts(side, resizes[name]))
    return module


class _ResizeByProducts(nn.Module):
    """`ResizeImages` of square images of one size: rows and columns are weighted sums of theirs."""

    weights: Tensor

    def __init__(self, side: int, resize: nn.Module) -> None:
        super().__init__()
        columns = torch.eye(side)[:, None, :, None].expand(-1, -1, -1, side)
        # Every column of the image of a unit vector is resized alike.
        self.register_buffer("weights", resize(columns)[:, 0, :, 0].T.contiguous())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCWH = F.linear(x_BCHW, self.weights).transpose(2, 3)
        return F.linear(x_BCWH, self.weights).transpose(2, 3)
