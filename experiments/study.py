"""What the studies of this folder share: parts that are found once, and the objects they train.

A part of a study has a result file of its own in the study's folder, so the same command carries
on where it was stopped.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench.config import EvaluationConfig, SupernetConfig, TaskConfig, TrainingConfig
from nasbench.evaluation import Evaluator
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS, Supernet
from nasbench.supernet.training.phases import Teacher
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import TASKS, Task


def found_once(result: Path, find: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What a part of a study finds, or found before."""
    if not result.exists():
        found = find()
        result.parent.mkdir(parents=True, exist_ok=True)
        partial = result.with_name(f".{result.name}.partial")
        partial.write_text(json.dumps(found, indent=1))
        partial.replace(result)
    return json.loads(result.read_text())


def build(
    task_config: TaskConfig, supernet_config: SupernetConfig, seed: int, **changes: Any
) -> tuple[Task, Supernet[Any]]:
    """The task, and the supernet with fresh weights and changed settings."""
    data_dir = task_config.data_dir or os.environ.get("NASBENCH_DATA")
    task = TASKS[task_config.name](Path(data_dir) if data_dir else None, **task_config.options)
    family = SUPERNETS[supernet_config.family]
    settings = {**supernet_config.options, **task.network_settings, **changes}
    return task, family.build(supernet_config.preset, seed=seed, **settings)


def train_and_test(
    network: Supernet[Any],
    task: Task,
    training: Mapping[str, Any],
    evaluation: EvaluationConfig,
    architectures: Sequence[Architecture],
    *,
    seed: int,
    folder: Path,
    teacher: Teacher | None = None,
) -> dict[str, Any]:
    """Train, from the last checkpoint in the folder, and measure on test data.

    Args:
        teacher: what the network learns from beside the labels.

    Returns:
        "cpu_seconds" of training, None where it was resumed; "losses" of each epoch; and "test",
        the measurements of each architecture.
    """
    config = TrainingConfig.model_validate(training)
    is_resumed = folder.exists()
    start = time.process_time()
    history = train_supernet(
        network, task, config, seed=seed, folder=folder, fingerprint=folder.name, teacher=teacher
    )
    cpu_seconds = None if is_resumed else time.process_time() - start
    evaluator = Evaluator(network, task, evaluation)
    return {
        "cpu_seconds": cpu_seconds,
        "losses": [record["loss"] for record in history],
        "test": [dict(evaluator.evaluate(a, "test").measurements) for a in architectures],
    }
