"""Tasks: the data, its splits, the loss and the metrics of what a network is trained for.

`TASKS[name](data_dir)` gives a `Task`. The three splits are fixed and disjoint: *train* for weights
and normalization statistics, *validation* for the search, *test* for what is reported.
"""

from collections.abc import Callable
from pathlib import Path

from nasbench.registry import Registry
from nasbench.tasks.base import Split, Task

TaskBuilder = Callable[[Path | None], Task]

TASKS: Registry[TaskBuilder] = Registry("task", {"digits": "nasbench.tasks.digits:digits"})

__all__ = ["TASKS", "Task", "TaskBuilder", "Split"]
