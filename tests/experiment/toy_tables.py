"""A table of measured architectures for tests of sweeps, named `tests.experiment.toy_tables:toy`.

Conditions: `good`, `other` (another device), `broken` (a device that runs nothing) and `deadly`
(which ends the process that looks anything up). With TOY_SECONDS in the environment, looking up
takes so long.
"""

import os
import signal
import time

import numpy as np

from nasbench.tasks.tables import MeasuredTable
from tests.experiment.searched import SPACE, measurements_of


class _Slow(MeasuredTable):
    def look_up(self, architecture, metric):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        if metric.startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().look_up(architecture, metric)


def toy(data_dir):
    architectures = list(SPACE.enumerate())
    rng = np.random.default_rng(0)
    found = [measurements_of(architecture, rng) for architecture in architectures]
    latency = np.array([each["latency_ms"] for each in found])
    return _Slow(
        name="tests.experiment.toy_tables:toy",
        space=SPACE,
        genomes=SPACE.to_genomes(architectures),
        metrics={
            "top1_error": np.array([each["top1_error"] for each in found]),
            "good.latency_ms": latency,
            "other.latency_ms": 5 * latency,
            "broken.latency_ms": latency,
            "deadly.latency_ms": latency,
        },
        unsupported={"broken.latency_ms": np.ones(len(found), dtype=bool)},
    )
