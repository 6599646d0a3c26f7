"""A look at a few sub-networks while the supernet is trained.

Each is calibrated on training data and measured on the first samples of the validation split.
Nothing that training depends on changes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nasbench.config import TrainingConfig
from nasbench.objectives import METRICS
from nasbench.supernet.base import Supernet
from nasbench.supernet.replicas import alone
from nasbench.supernet.training.calibration import calibrate
from nasbench.supernet.training.strategies import random_architectures
from nasbench.tasks import Task
from nasbench.tasks.base import device_of

_CALIBRATION_SAMPLES = 512
_BATCH_SIZE = 256


def look(
    supernet: Supernet[Any], task: Task, config: TrainingConfig, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """The task's metrics of the largest, the smallest and a random sub-network.

    Args:
        rng: draws the random one.
    """
    active, was_training = supernet.architecture, supernet.training
    (drawn,) = random_architectures(supernet.space, 1, rng)
    chosen = {"largest": supernet.largest, "smallest": supernet.smallest, "random": drawn}
    device = device_of(supernet)
    inputs = task.calibration_batches(_CALIBRATION_SAMPLES, _BATCH_SIZE)
    found = {}
    with alone():
        for name, architecture in chosen.items():
            supernet.activate(architecture)
            calibrate(supernet, (batch.to(device) for batch in inputs))
            supernet.eval()
            found[name] = task.evaluate(
                supernet, "validation", _BATCH_SIZE, num_samples=config.monitor_samples
            )
    supernet.activate(active)
    supernet.train(was_training)
    return found


def quality(task: Task, found: Mapping[str, Mapping[str, float]]) -> float:
    """The mean of the task's first metric over the sub-networks looked at; larger is better."""
    name = task.metrics[0]
    mean = float(np.mean([measured[name] for measured in found.values()]))
    return mean if METRICS[name].direction == "maximize" else -mean
