"""What is counted of a plain module: parameters and multiply-accumulates.

FLOPs = 2 x MACs. MACs are those of convolutions and matrix products; normalization, activations
and biases are not counted.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """The number of parameters; normalization statistics are no parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one forward pass on these inputs, as torch's flop counter sees it.

    Runs on torch's meta device, so nothing is computed and the module is left alone.
    """
    shapes_only = copy.deepcopy(module).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes_only(*(x.to("meta") for x in example_inputs))
    return int(counter.get_total_flops()) // 2
