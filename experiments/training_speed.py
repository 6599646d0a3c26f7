"""How fast a supernet is trained, and what that time is spent on.

    python experiments/training_speed.py                         mobilenet_v3, resnet and vit
    python experiments/training_speed.py --parallel              two processes against one, too

Ratios, each a median of the repetitions' own ratios, in one process with one thread:

    sandwich   a sandwich step (largest, two random, smallest; distilled in place) against four
               training steps of plain networks of the same sizes
    loader     loading a batch against that step; the trainer does it beside the step
    parallel   samples per second of two processes, each with half of the batch, against one;
    apart      the same with `sync_batch_norm: false`
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from rich.console import Console
from rich.table import Table

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS, Supernet, build_supernet
from nasbench.supernet.training.strategies import build_strategy
from nasbench.supernet.training.trainer import _Training
from nasbench.tasks import TASKS, Batch, Task
from nasbench.tasks.base import summed_cross_entropy
from nasbench.tasks.images import Augmentation, ImageClassification, ImagesInMemory

GOALS = {"sandwich": 0.95, "loader": 0.05, "parallel": 0.85}
CONFIG = TrainingConfig(num_threads=1, monitor_every=0, device="cpu")


def images(count: int = 1024) -> ImageClassification:
    """Fashion-MNIST where it is, and noise of its sizes elsewhere: what is timed is the same."""
    data_dir = os.environ.get("NASBENCH_DATA")
    if data_dir:
        return TASKS["fashion_mnist"](Path(data_dir), train_size=count)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    split = ImagesInMemory(pixels, torch.arange(count) % 10)
    splits = {"train": split, "validation": split, "test": split}
    return ImageClassification("noise", 10, splits, Augmentation(shift=2, flip=True))


def training(supernet: Supernet[Any], task: Task, batch_size: int, **settings: Any) -> _Training:
    """Training that has not begun."""
    config = CONFIG.model_copy(update={"batch_size": batch_size, **settings})
    strategy = build_strategy("sandwich", supernet, {})
    device = torch.device("cpu")
    return _Training(supernet, task, config, strategy, device, 0, Path("unused"), "speed")


def seconds(work: Callable[..., object], *arguments: Any) -> float:
    """Of processor time, which other jobs on the machine lengthen less than that of a clock."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def static_step(network: torch.nn.Module, batch: Batch) -> None:
    """A plain training step: loss, gradients, clipping and update."""
    network.train()
    optimizer = network.optimizer
    optimizer.zero_grad(set_to_none=True)
    inputs = [x.to(memory_format=torch.channels_last) for x in batch.inputs]
    loss = summed_cross_entropy(network(*inputs), batch.targets, CONFIG.label_smoothing)
    (loss / len(batch.targets)).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CONFIG.gradient_clip_norm or 1.0)
    optimizer.step()


def measure(family: str, batch_size: int, repetitions: int) -> dict[str, float]:
    """The ratios *sandwich* and *loader*, and milliseconds of the step."""
    task = images()
    supernet = SUPERNETS[family].build("fashion", **task.network_settings)
    under_way = training(supernet, task, batch_size)
    (phase,) = under_way.phases
    supernet.train()
    epoch = task.epoch(batch_size, seed=0, epoch=0)
    ratios: dict[str, list[float]] = {"sandwich": [], "loader": [], "ms": []}
    for repetition in range(-1, repetitions):
        under_way.step = repetition + 1
        rng = np.random.default_rng([0, under_way.step])
        chosen = [a.architecture for a in phase.assign(rng)]
        networks = [supernet.extract(a).train() for a in chosen]  # type: ignore[arg-type]
        for network in networks:
            network.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        batch = epoch.load(0)
        loading = seconds(epoch.load, 1)
        for network in networks:  # an optimizer's first step allocates its state
            static_step(network, batch)
        elastic = seconds(under_way._update, phase, [batch], batch_size)
        static = sum(seconds(static_step, network, batch) for network in networks)
        if repetition >= 0:  # the first is a warm-up
            ratios["sandwich"].append(static / elastic)
            ratios["loader"].append(loading / elastic)
            ratios["ms"].append(1e3 * elastic)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _replica(
    rank: int, world: int, folder: str, settings: dict[str, Any], batch: int, is_synchronized: bool
) -> None:
    """Time sandwich steps as one of `world` processes; the first writes how long they took."""
    torch.set_num_threads(1)
    if world > 1:
        meeting = f"file://{folder}/meeting-{is_synchronized}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    task = images()
    under_way = training(build_supernet(settings), task, batch, sync_batch_norm=is_synchronized)
    (phase,) = under_way.phases
    under_way.supernet.train()
    epoch, times = task.epoch(batch, seed=0, epoch=0), []
    for step in range(9):
        under_way.step = step
        piece = epoch.load(step % len(epoch), rank, world)
        start = time.perf_counter()
        under_way._update(phase, [piece], batch)
        times.append(time.perf_counter() - start)
    if world > 1:
        dist.destroy_process_group()
    if rank == 0:
        Path(folder, f"{world}-{is_synchronized}.json").write_text(json.dumps(times[1:]))


def measure_parallel(family: str, batch_size: int) -> tuple[float, float]:
    """Samples per second of two processes of one thread against one, per process; the second is
    without synchronized batch normalization.
    """
    task = images()
    supernet = SUPERNETS[family].build("fashion", **task.network_settings)
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for world, is_synchronized in ((1, True), (2, True), (2, False)):
            arguments = (world, folder, supernet.settings, batch_size, is_synchronized)
            multiprocessing.spawn(_replica, arguments, nprocs=world)
            written = Path(folder, f"{world}-{is_synchronized}.json").read_text()
            times.append(np.array(json.loads(written)))
    one, joint, apart = times
    return float(np.median(one / joint) / 2), float(np.median(one / apart) / 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=["mobilenet_v3", "resnet", "vit"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--parallel", action="store_true", help="two processes against one, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("family", "sandwich step [ms]", "sandwich", "loader", "parallel", "apart")
    for family in asked.families:
        found = measure(family, asked.batch_size, asked.repetitions)
        parallel = measure_parallel(family, asked.batch_size) if asked.parallel else ()
        table.add_row(
            family,
            f"{found['ms']:.0f}",
            f"{found['sandwich']:.2f}",
            f"{found['loader']:.3f}",
            *(f"{efficiency:.2f}" for efficiency in parallel),
        )
    console = Console(width=120)
    console.print(
        f"{platform.platform()}, {os.cpu_count()} cores, torch {torch.__version__}, batch "
        f"{asked.batch_size}; goals: sandwich at least {GOALS['sandwich']}, loader at most "
        f"{GOALS['loader']}, parallel at least {GOALS['parallel']}",
        highlight=False,
    )
    console.print(table)


if __name__ == "__main__":
    main()
