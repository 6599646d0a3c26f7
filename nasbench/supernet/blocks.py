"""Blocks: the pieces of sub-networks that a look-up table of latency adds up.

Sub-networks of one space are made of few different pieces (Cai et al., ProxylessNAS, ICLR 2019):
387 in a space of half a billion architectures. A family names its pieces by what decides how long
they take, so that two pieces of one key are measured once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a sub-network.

    Args:
        key: says everything that decides its latency; readable, since tables are read by people.
        input_shape: of what it is given, without the batch.
        make: builds it as a plain module.
    """

    key: str
    input_shape: tuple[int, ...]
    make: Callable[[], nn.Module] = field(compare=False, repr=False)

    @torch.no_grad()
    def module(self) -> nn.Module:
        """The plain module, in eval mode."""
        return self.make().eval()

    def example_inputs(self, batch_size: int) -> tuple[Tensor, ...]:
        """Standard normal numbers, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        return (torch.randn((batch_size, *self.input_shape), generator=generator),)


def by_key(blocks: Iterable[Block]) -> dict[str, Block]:
    """The first block of every key."""
    found: dict[str, Block] = {}
    for block in blocks:
        found.setdefault(block.key, block)
    return found
