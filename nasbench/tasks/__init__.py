"""Tasks: the data, its splits, the loss and the metrics of what a network is trained for.

`TASKS[name](data_dir, **options)` gives a `Task`. The three splits are fixed and disjoint: *train*
for weights and normalization statistics, *validation* for the search, *test* for what is reported.
"""

from collections.abc import Callable

from nasbench.registry import Registry
from nasbench.tasks.base import Batch, Split, SplitName, Task

TaskBuilder = Callable[..., Task]
"""(data_dir, **options) -> Task; the options are the task's own settings."""

TASKS: Registry[TaskBuilder] = Registry(
    "task",
    {
        "digits": "nasbench.tasks.digits:digits",
        "fashion_mnist": "nasbench.tasks.fashion_mnist:fashion_mnist",
        "image_folder": "nasbench.tasks.image_folder:image_folder",
        "sst2": "nasbench.tasks.sst2:sst2",
        "language_model": "nasbench.tasks.language_model:language_model",
        "multi30k": "nasbench.tasks.multi30k:multi30k",
    },
)

__all__ = ["TASKS", "Batch", "Split", "SplitName", "Task", "TaskBuilder"]
