"""The training log: numbers over steps, in the format of TensorBoard.

tensorboard --logdir runs/NAME/supernet
"""

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class TrainingLog:
    """Scalars over optimizer steps; what an earlier process logged from `step` on is dropped.

    Args:
        folder: where the event files are kept.
        step: the first step to be logged.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step, flush_secs=10)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the numbers after this many steps."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
