"""Tasks whose training goes wrong; in a module that Ray's workers can import."""

import os
import signal
from pathlib import Path

from nasbench.errors import WorkError
from nasbench.supernet.replicas import replica
from tests.supernet.training.toy_translation import Backwards


class Dies(Backwards):
    """Kills the process that prepares the third epoch, during the second; once, or always."""

    def __init__(self, marker, *, once):
        super().__init__()
        self.marker, self.once = str(marker), once

    def epoch(self, batch_size, *, seed, epoch):
        marker = Path(self.marker)
        if epoch == 2 and not (self.once and marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().epoch(batch_size, seed=seed, epoch=epoch)


class Unreadable(Backwards):
    """Has samples that one process alone cannot load, in the middle of training."""

    def load(self, split, indices_B, draws_BR=None):
        if draws_BR is not None and replica() == 1 and self.num_loads >= 3:
            raise WorkError("sample 7 cannot be read")
        self.num_loads += draws_BR is not None
        return super().load(split, indices_B, draws_BR)

    num_loads = 0


class Overflows(Backwards):
    """Has targets that no network can be trained on."""

    def num_targets(self, indices_B):
        return 0
