"""Experiments: a configuration becomes objects, and objects do the stages of a run.

The composition root: train, search, report, export. What a run left on disk is read with
`load_run`.
"""

from nasbench.experiment.run import Run, load_run

__all__ = ["Run", "load_run"]
