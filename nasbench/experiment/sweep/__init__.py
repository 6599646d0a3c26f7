"""Sweeps: many runs that differ in a few settings, on Ray Tune, in one folder.

`settings` reads what is asked and makes its members, `place` is where they lie, `member` does one,
`sweep` does all of them, `outcome` says what came of it.
"""

from nasbench.experiment.sweep.outcome import HYPERVOLUME, Outcome, conclude
from nasbench.experiment.sweep.place import Place
from nasbench.experiment.sweep.settings import Sweep, load_sweep
from nasbench.experiment.sweep.sweep import check_sweep, execute_sweep, read_statuses

__all__ = [
    "HYPERVOLUME",
    "Outcome",
    "Place",
    "Sweep",
    "check_sweep",
    "conclude",
    "execute_sweep",
    "load_sweep",
    "read_statuses",
]
