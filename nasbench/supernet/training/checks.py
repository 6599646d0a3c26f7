"""What is checked before training: that device, family, task, strategy and numbers fit."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nasbench.config import DistillationConfig, TrainingConfig
from nasbench.errors import RequestError
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import ElasticBatchNorm2d
from nasbench.supernet.training.phases import Teacher, phases_of, prepare_weights
from nasbench.supernet.training.strategies import (
    Exits,
    Phase,
    TrainingStrategy,
    build_strategy,
)
from nasbench.tasks import Task


def training_device(config: TrainingConfig) -> torch.device:
    """The configured device; RequestError if this machine has none of that name.

    Where several workers train, the machine that starts them needs no GPU.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        if config.num_workers == 1 or device.type != "cuda":
            float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError, ImportError) as error:  # what torch says without it
        reason = str(error).partition("\n")[0]
        raise RequestError(f"training.device is '{config.device}', but: {reason}") from None
    return device


def check_training(
    supernet: Supernet[Any],
    task: Task,
    config: TrainingConfig,
    device: torch.device,
    teacher: Teacher | None = None,
) -> TrainingStrategy:
    """See that a supernet can be trained as configured, by the strategy that is returned.

    Weights and random state stay as they are.

    Raises:
        RequestError: the first thing that is wrong.
    """
    if config.precision == "float16" and device.type != "cuda":
        raise RequestError(
            f"training.precision float16 needs a GPU, and the device is '{device}'; "
            "use bfloat16 or float32"
        )
    task.num_batches(config.batch_size)
    num_pieces = config.accumulation_steps * (1 if config.sync_batch_norm else config.num_workers)
    piece = config.batch_size // num_pieces
    if piece < 2 and any(isinstance(m, ElasticBatchNorm2d) for m in supernet.modules()):
        raise RequestError(
            "batch normalization needs pieces of at least 2 samples, but batch_size="
            f"{config.batch_size} in {num_pieces} pieces, each normalized by itself, has {piece}"
        )
    strategy = build_strategy(config.strategy, supernet, config.options)
    phases = phases_of(strategy, config, teacher)
    _check_phases(phases, config)
    prepared = [phase for phase in phases if phase.preparations]
    rehearsal = copy.deepcopy(supernet) if prepared else supernet
    for phase in prepared:
        prepare_weights(rehearsal, phase)
    if config.distillation.feature_weight:
        supernet.output_layer  # noqa: B018 - says where a family has none
    was_training = rehearsal.training
    try:
        with torch.inference_mode():
            rehearsal.eval()(*task.example_inputs(2))
            if _has_exits(phases):
                rehearsal.forward_exits(*task.example_inputs(2))
    except (RuntimeError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(
            f"the family '{supernet.settings['family']}' cannot read the samples of task "
            f"'{task.name}': {reason}"
        ) from error
    finally:
        rehearsal.train(was_training)
    return strategy


def _check_phases(phases: Sequence[Phase], config: TrainingConfig) -> None:
    """RequestError unless the phases fill the epochs, and distil where that is configured."""
    num_epochs = sum(phase.num_epochs for phase in phases)
    if num_epochs != config.epochs or any(phase.num_epochs < 1 for phase in phases):
        raise RequestError(
            f"the phases of training strategy '{config.strategy}' last {num_epochs} epochs, but "
            f"training.epochs is {config.epochs}"
        )
    rng = np.random.default_rng(0)
    drawn = [a for phase in phases for _ in range(8) for a in phase.assign(rng)]
    distils = any(assignment.largest or assignment.teacher for assignment in drawn)
    if config.distillation != DistillationConfig() and not distils:
        raise RequestError(
            f"training.distillation is set, but training strategy '{config.strategy}' with these "
            "options distils nothing; leave it away, or see training.options.label_weight"
        )


def _has_exits(phases: Sequence[Phase]) -> bool:
    """Whether a step trains all depths of a sub-network in one pass."""
    rng = np.random.default_rng(0)
    drawn = [assignment for phase in phases for assignment in phase.assign(rng)]
    return any(isinstance(assignment.architecture, Exits) for assignment in drawn)
