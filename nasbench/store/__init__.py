"""The trial store: every trial of a search, kept as an Optuna trial.

Dive in by `trial_store.py` (what a search sees), then `places.py` (which URLs there are),
`records.py` and `sql.py` (how a trial is written), and `lease.py` (one process writes at a time).
"""

from nasbench.store.trial_store import TrialStore

__all__ = ["TrialStore"]
