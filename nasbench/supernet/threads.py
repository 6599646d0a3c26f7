"""How many threads torch computes with, for a block of code."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with `count` threads (None leaves it as it is), then with as many as before.

    The number of threads decides the order of floating-point sums, so results that must be the same
    everywhere are computed with a stated number.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
