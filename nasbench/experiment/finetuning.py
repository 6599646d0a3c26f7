"""Training the extracted network by itself before it is shipped.

Once-for-all (Cai et al., ICLR 2020) fine-tunes the chosen sub-network from the weights it inherits;
HAT (Wang et al., ACL 2020) trains it anew.
"""

import copy
from typing import Any

from torch import nn

from nasbench.config import DistillationConfig, TrainingConfig
from nasbench.experiment.parts import digest, training_fingerprint
from nasbench.experiment.progress import Progress
from nasbench.experiment.run import Run
from nasbench.space import Architecture
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.base import Supernet
from nasbench.supernet.training.checkpoint import latest_step
from nasbench.supernet.training.checks import check_training, training_device
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import Task


def train_alone(
    run: Run,
    supernet: Supernet[Any],
    task: Task,
    architecture: Architecture,
    inherited: nn.Module,
    progress: Progress,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network as `export.finetune` or `export.retrain` asks for it, and what was done.

    A process that is killed carries on from its last checkpoint, in the run's `supernet/alone-*`.

    Args:
        inherited: the extracted sub-network; it is left as it is.

    Raises:
        RequestError: if it cannot be trained as configured.
        WorkError: if training fails.
    """
    config = _training(run)
    name = "retrain" if run.config.export.retrain else "finetune"
    if name == "retrain":
        network = NetworkAlone.of(supernet, architecture, seed=run.config.seed)
    else:
        network = NetworkAlone.wrapping(supernet, architecture, copy.deepcopy(inherited))
    check_training(network, task, config, training_device(config))
    before = training_fingerprint(run.config, supernet, task)
    fingerprint = digest([before, architecture.id, name, config.identity()])
    folder = run.folder / "supernet" / f"alone-{fingerprint}"
    num_steps = config.epochs * task.num_batches(config.batch_size)
    progress.start(name, num_steps, latest_step(folder))
    train_supernet(
        network, task, config, seed=run.config.seed, folder=folder, fingerprint=fingerprint,
        on_step=lambda at: progress.advance(f"epoch {at.epoch} of {config.epochs}, {at.loss:.3f}"),
    )  # fmt: skip
    facts = {
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "from": "fresh weights" if name == "retrain" else "inherited weights",
    }
    return network.network.eval(), facts


def _training(run: Run) -> TrainingConfig:
    """As the supernet was trained, but for what concerns several sub-networks."""
    asked, before = run.config.export, run.config.training
    epochs = asked.retrain or asked.finetune
    assert epochs is not None
    factor = 1.0 if asked.retrain else asked.learning_rate_factor
    return TrainingConfig.model_validate(
        {
            **before.model_dump(mode="json"),
            "strategy": "single_path",
            "options": {},
            "distillation": DistillationConfig().model_dump(),
            "epochs": epochs,
            "learning_rate": factor * before.learning_rate,
            "warmup_epochs": min(before.warmup_epochs, 0.1 * epochs),
            "monitor_every": 0,
            "num_workers": 1,
        }
    )
