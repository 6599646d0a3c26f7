"""Data-parallel training: several processes on Ray share each batch of one supernet.

Every process draws the same sub-networks and loads its own part of the batch; gradients, losses and
batch statistics are summed over all of them, so training is that of one process, to rounding.
Checkpoints lie in the run's folder, which all processes see. When one dies, Ray Train starts all of
them again, and they carry on from the last checkpoint.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue

from nasbench.config import ResourcesConfig, TrainingConfig
from nasbench.errors import NasbenchError, WorkError
from nasbench.supernet import build_supernet
from nasbench.supernet.training.checkpoint import load_latest
from nasbench.supernet.training.checks import training_device
from nasbench.supernet.training.trainer import EpochRecord, StepReport, train_supernet
from nasbench.tasks import Task

_END = "end"


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that each process needs to train its part.

    Args:
        supernet_settings: what `Supernet.settings` said.
        folder: where checkpoints are kept; the same path on every node.
        fingerprint: of everything that training depends on.
        log_folder: where the log is kept; None writes none.
    """

    supernet_settings: Mapping[str, Any]
    task: Task
    config: TrainingConfig
    seed: int
    folder: Path
    fingerprint: str
    log_folder: Path | None = None

    def train(self, on_step: Callable[[StepReport], None] | None = None) -> list[EpochRecord]:
        """Build the supernet and train it, as one replica or as the only one."""
        return train_supernet(
            build_supernet(self.supernet_settings),
            self.task,
            self.config,
            seed=self.seed,
            folder=self.folder,
            fingerprint=self.fingerprint,
            log_folder=self.log_folder,
            on_step=on_step,
        )


def train_on_ray(
    recipe: TrainingRecipe, resources: ResourcesConfig, on_step: Callable[[StepReport], None]
) -> list[EpochRecord]:
    """Train with `num_workers` processes on the connected cluster.

    Args:
        recipe: the folder must be an absolute path that all nodes see.
        resources: CPUs of a process, and how often all are started again after one died.
        on_step: called here after each step, with what the first process reports.

    Returns:
        One record per epoch, as `train_supernet` does; the weights are in the last checkpoint.

    Raises:
        NasbenchError: what the processes raised; and WorkError if one died too often.
    """
    reports = Queue()
    config = recipe.config
    on_gpu = training_device(config).type == "cuda"
    scratch = recipe.folder.with_name("ray_train")
    trainer = ray.train.torch.TorchTrainer(
        _train_replica,
        train_loop_config={
            "recipe": ray.put(recipe),
            "reports": reports,
            "failed": str(scratch / "failed"),
        },
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=on_gpu,
            resources_per_worker={
                "CPU": resources.cpus_per_worker,
                **({"GPU": 1} if on_gpu else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(scratch),
            failure_config=ray.train.FailureConfig(max_failures=resources.max_retries),
        ),
    )
    failed: list[NasbenchError] = []

    def listen() -> None:
        while (message := reports.get()) != _END:
            if isinstance(message, StepReport):
                on_step(message)
            else:
                failed.append(message)

    listener = threading.Thread(target=listen, name="training-reports", daemon=True)
    listener.start()
    died: ray.train.TrainingFailedError | None = None
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        died = error
    finally:
        reports.put(_END)
        listener.join()
        reports.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        raise failed[0]
    if died is not None:
        reason = " ".join(str(died).split())
        raise WorkError(
            f"a training process died more than {resources.max_retries} times; what is finished "
            f"is kept, so the same command carries on ({reason})"
        ) from died
    checkpoint = load_latest(recipe.folder, recipe.fingerprint)
    assert checkpoint is not None, "training ends with a checkpoint"
    return list(checkpoint.history)


def _train_replica(config: Mapping[str, Any]) -> None:
    """What each process does.

    An error that trying again cannot mend is sent to whoever started the training. It is raised
    as well, which ends the other processes: they may be waiting for this one. Those that Ray then
    starts in their place find the mark, and leave.
    """
    mark = Path(config["failed"])
    if mark.exists():
        return
    recipe: TrainingRecipe = ray.get(config["recipe"])
    is_first = ray.train.get_context().get_world_rank() == 0
    try:
        recipe.train(config["reports"].put if is_first else None)
    except NasbenchError as error:
        config["reports"].put(error)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        raise
