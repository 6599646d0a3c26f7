"""A run's ladder: a chain of nested sub-networks, maybe fine-tuned, measured, in one bundle."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasbench import plots
from nasbench.config import DistillationConfig, TrainingConfig
from nasbench.errors import RequestError, WorkError
from nasbench.evaluation import Evaluator
from nasbench.experiment.measuring import latency_entry
from nasbench.experiment.parts import (
    build_recipe,
    latency_protocol,
    load_trained,
    training_fingerprint,
)
from nasbench.experiment.progress import SILENT, Progress
from nasbench.experiment.run import Run
from nasbench.folders import replace_folder
from nasbench.hardware import ENGINES, measure_latency
from nasbench.objectives import Objective, losses_of
from nasbench.supernet.base import Supernet
from nasbench.supernet.nested import NestedChain, NestedModel, best_chain, write_bundle
from nasbench.supernet.nested.bundle import keep_latency
from nasbench.supernet.training.checkpoint import latest_step
from nasbench.supernet.training.checks import check_training, training_device
from nasbench.supernet.training.sorted import SortedChain
from nasbench.supernet.training.strategies import build_strategy
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import Task

_NUM_COMPARED = 64  # test samples on which the bundle's members are compared with the supernet's


def nest(run: Run, progress: Progress = SILENT) -> NestedModel:
    """Make the bundle of a trained run, in its folder `nest`; draw `ladder.png`.

    Raises:
        RequestError: if the run is not trained, or the chain or its fine-tuning is impossible.
        WorkError: if a member of the bundle computes something else than the supernet does.
    """
    if not run.is_done("train"):
        raise RequestError(f"the supernet of '{run.folder}' is not trained; run: nasbench train")
    supernet, task = load_trained(run)
    chain = chain_of(run, supernet, task)
    num_epochs = _finetune(run, supernet, task, chain, progress) if run.config.nest.finetune else 0
    evaluator = build_recipe(run, supernet, task, with_latency=True).build()
    inputs = task.load("test", torch.arange(min(_NUM_COMPARED, len(task.splits["test"])))).inputs
    measured, outputs = _measured(run, evaluator, chain, inputs, progress)
    unverified = run.folder / ".nest.unverified"
    write_bundle(
        unverified,
        evaluator.supernet,
        chain,
        **measured,
        quality=Objective.of(task.metrics[0]),
        description={
            "run": run.config.name,
            "task": task.name,
            "seed": run.config.seed,
            "strategy": run.config.training.strategy,
            "finetuning_epochs": num_epochs,
            "validation_samples": run.config.evaluation.validation_samples,
        },
    )
    try:
        _verify(_load(run, unverified), inputs, outputs, run.config.export.tolerance)
        with suppress(RequestError):  # where there is none, or a damaged one, nothing is kept
            load_bundle(run)
            keep_latency(run.bundle, unverified)
        replace_folder(unverified, run.bundle)
    finally:
        shutil.rmtree(unverified, ignore_errors=True)
    draw_ladder(run)
    return load_bundle(run)


def chain_of(run: Run, supernet: Supernet[Any], task: Task) -> NestedChain:
    """The chain that the run was trained on; else the best of its trials; else a grown one.

    The best covers the most of the plane of the task's first metric against latency, or against
    multiply-accumulates where the search measured no latency. What it leaves of the asked number of
    members, steps between them fill. The smallest and the largest sub-network are always there, so
    that there is one for every budget.

    Raises:
        RequestError: for more members than there are.
    """
    training, asked = run.config.training, run.config.nest.num_members
    if training.strategy == "sorted":
        strategy = build_strategy("sorted", supernet, training.options)
        assert isinstance(strategy, SortedChain)
        return _thinned(strategy.chain, asked)
    found = run.completed if "search" in run.record else []
    if not found:
        return NestedChain.grown(supernet, asked)
    cost = "latency_ms" if "latency_ms" in found[0].measurements else "num_macs"
    objectives = [Objective.of(task.metrics[0]), Objective.of(cost)]
    losses = losses_of(objectives, [trial.measurements for trial in found])
    reference = losses.max(axis=0) + 0.1 * np.ptp(losses, axis=0) + np.finfo(float).eps
    architectures = [trial.architecture for trial in found]
    limit = None if asked is None else max(1, asked - 2)
    best = best_chain(supernet, architectures, losses, reference, max_members=limit)
    stops = [architectures[i] for i in best]
    smallest, largest = supernet.smallest, supernet.largest
    stops = [smallest, *(a for a in stops if a not in (smallest, largest)), largest]
    return NestedChain.through(supernet, stops, asked)


def _thinned(chain: NestedChain, count: int | None) -> NestedChain:
    """So many members of the chain, evenly, with both ends."""
    if count is None or count == len(chain):
        return chain
    if count > len(chain):
        raise RequestError(
            f"nest.num_members={count}, but the run was trained on a chain of {len(chain)}"
        )
    positions = np.linspace(0, len(chain) - 1, count).round().astype(int)
    return NestedChain(chain.subnetworks, [chain[int(position)] for position in positions])


def _finetune(
    run: Run, supernet: Supernet[Any], task: Task, chain: NestedChain, progress: Progress
) -> int:
    """Train the supernet further on the chain, from its last checkpoint; the number of epochs."""
    asked, before = run.config.nest, run.config.training
    epochs = asked.epochs or max(1, before.epochs // 4)
    settings = {
        **before.model_dump(mode="json"),
        "strategy": "sorted",
        "options": {**asked.options, "members": [member.to_json() for member in chain]},
        "distillation": DistillationConfig().model_dump(),
        "epochs": epochs,
        "learning_rate": asked.learning_rate_factor * before.learning_rate,
        "warmup_epochs": min(before.warmup_epochs, 0.1 * epochs),
        "monitor_every": 0,
        "num_workers": 1,
    }
    config = TrainingConfig.model_validate(settings)
    check_training(supernet, task, config, training_device(config))
    identity = [training_fingerprint(run.config, supernet, task), config.identity()]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = run.folder / "supernet" / f"nested-{digest}"
    progress.start("finetune", epochs * task.num_batches(config.batch_size), latest_step(folder))
    train_supernet(
        supernet, task, config, seed=run.config.seed, folder=folder, fingerprint=digest,
        on_step=lambda step: progress.advance(f"epoch {step.epoch} of {epochs}, {step.loss:.3f}"),
    )  # fmt: skip
    return epochs


def _measured(
    run: Run,
    evaluator: Evaluator,
    chain: NestedChain,
    inputs: tuple[Tensor, ...],
    progress: Progress,
) -> tuple[dict[str, list[Any]], list[Tensor]]:
    """What the bundle says of each member, and what each computes of the inputs."""
    config, task = run.config, evaluator.task
    engine, protocol = ENGINES[config.latency.engine](), latency_protocol(run.config)
    found: dict[str, list[Any]] = {
        name: [] for name in ("statistics", "validation", "test", "latency")
    }
    outputs = []
    progress.start("nest", len(chain), 0)
    for member in chain:
        evaluated = evaluator.evaluate(member)
        with torch.inference_mode():
            outputs.append(evaluator.supernet(*inputs))
        tested = task.evaluate(evaluator.supernet, "test", config.evaluation.batch_size)
        timed = measure_latency(engine, evaluated.artifact, protocol)
        on_validation = {name: evaluated.measurements[name] for name in task.metrics}
        found["statistics"].append(evaluator.statistics)
        found["validation"].append(on_validation)
        found["test"].append({name: tested[name] for name in task.metrics})
        found["latency"].append(latency_entry(timed))
        quality = task.metrics[0]
        progress.advance(f"{quality} {on_validation[quality]:.4g}, {timed.median_ms:.3g} ms")
    return found, outputs


def _verify(
    model: NestedModel, inputs: tuple[Tensor, ...], outputs: Sequence[Tensor], tolerance: float
) -> None:
    for number, expected in enumerate(outputs):
        with torch.inference_mode():
            difference = float((model.at(number)(*inputs) - expected).abs().max())
        if not difference <= tolerance:
            raise WorkError(
                f"member {number} of the bundle differs from the supernet's sub-network by up to "
                f"{difference:.3g}, more than the tolerance {tolerance:g}; nothing was written"
            )


def load_bundle(run: Run) -> NestedModel:
    """The run's bundle; RequestError if it has none."""
    if not run.bundle.exists():
        raise RequestError(f"'{run.folder}' has no nested sub-networks yet; run: nasbench nest")
    return _load(run, run.bundle)


def _load(run: Run, folder: Any) -> NestedModel:
    _, supernet = run.config.network_sections()
    return NestedModel.load(folder, own_families=(supernet.family,))


def draw_ladder(run: Run) -> None:
    """Draw the members of the run's bundle: `ladder.png`."""
    model = load_bundle(run)
    device, quality = model.devices[0], model.quality.metric
    ax = plots.plot_ladder(
        np.array([member.latency[device]["latency_ms"] for member in model.members]),
        np.array([member.validation[quality] for member in model.members]),
        cost="latency_ms",
        quality=quality,
        tested=np.array([member.test[quality] for member in model.members]),
    )
    conditions = model.members[0].latency[device]["conditions"]
    plots.add_title(ax, f"{conditions['engine']} on {device}")
    plots.save(ax, run.folder / "ladder.png")
