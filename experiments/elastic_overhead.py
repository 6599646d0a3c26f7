"""What elasticity costs: supernets against the plain networks that they contain.

    python experiments/elastic_overhead.py                       each family's small presets
    python experiments/elastic_overhead.py vit/tiny resnet/tiny  these alone
    python experiments/elastic_overhead.py --peer modelopt       NVIDIA Model Optimizer's, too

For each supernet four networks are timed in turn, in a new random order in every repetition, in
one process with one thread:

    a  the largest sub-network, extracted: a plain network
    b  the supernet with the largest sub-network active
    c  the supernet with the smallest sub-network active
    d  the smallest sub-network, extracted

b/a and c/d are what elasticity costs. A *forward* is one pass in eval mode without gradients, as
in the middle of an evaluation: a pass of the same network comes before it. A *training* step is
one pass in train mode with its backward pass, and changes the sub-network each time; the
optimizer's update, which is that of the whole supernet whichever sub-network is active, is left
out. A time is a median, with the 10th and 90th percentiles beside it. A ratio is the median of
the repetitions' own ratios.
"""

import argparse
import copy
import gc
import json
import platform
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from nasbench.supernet import SUPERNETS, Supernet

SMALL = ("tiny", "fashion", "cifar_resnet20")  # presets that are timed unless others are named
GOALS = {"b/a": 1.05, "c/d": 1.15}
CANDIDATE_GOAL_MS = 5.0

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the 10th and 90th percentiles beside it."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value per repetition."""
        p10, median, p90 = np.percentile(values, (10, 50, 90)).tolist()
        return cls(median, p10, p90)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.p10:.2f}-{self.p90:.2f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """One kind of step of one supernet."""

    network: str
    step: str
    batch_size: int
    num_repetitions: int
    times_ms: Mapping[str, Spread]
    ratios: Mapping[str, Spread]


# -- timing -------------------------------------------------------------------------------------


def forward_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    """One pass in eval mode, without gradients."""

    def run() -> None:
        with torch.no_grad():
            network(*inputs)

    network.eval()
    return run


def training_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    """One pass in train mode and its backward pass."""
    parameters = list(network.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        network(*inputs).float().logsumexp(-1).mean().backward()

    network.train()
    return run


STEPS = {"forward": forward_step, "training": training_step}


def _nothing() -> None:
    """A plain network needs no preparation."""


def time_interleaved(
    runs: Mapping[str, tuple[Run, Run]],
    num_repetitions: int,
    *,
    num_untimed: int,
    num_warmup: int = 5,
) -> dict[str, list[float]]:
    """Milliseconds of each run in each repetition.

    Args:
        runs: name -> (prepare, run); preparing is not timed.
        num_untimed: how often it is run between preparing and timing.
        num_warmup: repetitions that come first and do not count.
    """
    rng = random.Random(0)
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for repetition in range(num_warmup + num_repetitions):
            rng.shuffle(names)
            for name in names:
                prepare, run = runs[name]
                prepare()
                for _ in range(num_untimed):
                    run()
                start = time.perf_counter()
                run()
                if repetition >= num_warmup:
                    times[name].append(1e3 * (time.perf_counter() - start))
    finally:
        gc.enable()
    return times


def ratio(times: Mapping[str, list[float]], elastic: str, plain: str) -> Spread:
    """The elastic time over the plain one of the same repetition."""
    return Spread.of([e / p for e, p in zip(times[elastic], times[plain], strict=True)])


def measure_overhead(
    name: str, supernet: Supernet[Any], step: str, batch_size: int, num_repetitions: int
) -> Overhead:
    """Time a to d on a supernet."""
    inputs = tuple(map(_channels_last, supernet.example_inputs(batch_size)))
    largest, smallest = supernet.largest, supernet.smallest
    make = STEPS[step]
    elastic = make(supernet, inputs)
    runs = {
        "a": (_nothing, make(supernet.extract(largest), inputs)),
        "b": (lambda: supernet.activate(largest), elastic),
        "c": (lambda: supernet.activate(smallest), elastic),
        "d": (_nothing, make(supernet.extract(smallest), inputs)),
    }
    return overhead_of(name, step, runs, batch_size, num_repetitions)


def overhead_of(
    name: str,
    step: str,
    runs: Mapping[str, tuple[Run, Run]],
    batch_size: int,
    num_repetitions: int,
) -> Overhead:
    """Time the runs a to d."""
    times = time_interleaved(runs, num_repetitions, num_untimed=int(step == "forward"))
    return Overhead(
        network=name,
        step=step,
        batch_size=batch_size,
        num_repetitions=num_repetitions,
        times_ms={key: Spread.of(values) for key, values in sorted(times.items())},
        ratios={"b/a": ratio(times, "b", "a"), "c/d": ratio(times, "c", "d")},
    )


def _channels_last(x: Tensor) -> Tensor:
    """Images in the order of memory that suits all four networks best."""
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x


# -- a candidate's fixed costs --------------------------------------------------------------------


def measure_candidate(family: str, preset: str, num_candidates: int = 200) -> Spread:
    """Milliseconds to activate and count one candidate of a preset."""
    supernet = _weightless(family, preset)
    rng = np.random.default_rng(0)
    times = []
    for _ in range(num_candidates):
        architecture = supernet.space.sample(rng)
        start = time.perf_counter()
        supernet.activate(architecture)
        supernet.count(architecture)
        times.append(1e3 * (time.perf_counter() - start))
    return Spread.of(times)


def largest_space() -> tuple[str, str]:
    """The family and preset with most architectures."""
    sizes = {
        (family, preset): _weightless(family, preset).space.size
        for family in SUPERNETS
        for preset in SUPERNETS[family].presets
    }
    return max(sizes, key=lambda name: sizes[name])


def _weightless(family: str, preset: str) -> Supernet[Any]:
    """Counting and activating touch no weight."""
    with torch.device("meta"):
        return SUPERNETS[family].build(preset=preset)


def memory_of(supernet: Supernet[Any], num_visited: int = 30) -> dict[str, int]:
    """Bytes of the supernet, of its largest sub-network, and what visiting others adds."""
    forward = forward_step(supernet, supernet.example_inputs())
    rng = np.random.default_rng(0)

    def bytes_after(num_visits: int) -> int:
        for _ in range(num_visits):
            supernet.activate(supernet.space.sample(rng))
            forward()
        gc.collect()
        return _num_bytes(o for o in gc.get_objects() if issubclass(type(o), Tensor))

    after_few = bytes_after(3)
    return {
        "supernet_bytes": _num_bytes(supernet.state_dict().values()),
        "largest_bytes": _num_bytes(supernet.extract(supernet.largest).state_dict().values()),
        "growth_bytes": bytes_after(num_visited) - after_few,
    }


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    """What the tensors hold, where views of one storage count once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


# -- the peer -------------------------------------------------------------------------------------


def measure_modelopt(
    name: str, supernet: Supernet[Any], batch_size: int, num_repetitions: int
) -> list[Overhead]:
    """AutoNAS made of the same largest network: a forward of what it makes of a to d.

    Its space is its own, and so is its smallest sub-network. In train mode it draws a sub-network
    itself at every pass, so a training step of a given one cannot be timed. Nothing comes of a
    network that it cannot trace.
    """
    try:
        import modelopt.torch.nas as peer
        from modelopt.torch.opt.utils import named_hparams
    except ImportError as error:
        raise SystemExit(f"--peer modelopt needs the package nvidia-modelopt: {error}") from error

    inputs = tuple(map(_channels_last, supernet.example_inputs(batch_size)))
    plain = supernet.extract(supernet.largest)
    warnings.filterwarnings("ignore", module="modelopt")  # it lists what it cannot trace
    try:
        elastic = peer.convert(copy.deepcopy(plain), mode=[("autonas", {})])
    except Exception as error:  # whatever its tracer stumbles over
        print(f"modelopt cannot convert {name}: {error!r}", file=sys.stderr)
        return []
    dimensions = dict(named_hparams(elastic, configurable=True))
    largest = {name: max(dimension.choices) for name, dimension in dimensions.items()}
    smallest = {name: min(dimension.choices) for name, dimension in dimensions.items()}
    peer.select(elastic, smallest)
    exported = peer.export(copy.deepcopy(elastic))
    run = forward_step(elastic, inputs)
    runs = {
        "a": (_nothing, forward_step(plain, inputs)),
        "b": (lambda: peer.select(elastic, largest), run),
        "c": (lambda: peer.select(elastic, smallest), run),
        "d": (_nothing, forward_step(exported, inputs)),
    }
    return [overhead_of(f"{name} in modelopt", "forward", runs, batch_size, num_repetitions)]


# -- the report -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The conditions of the measurement."""
    return {
        "cpu": _cpu_model(),
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def overhead_table(results: Sequence[Overhead]) -> Table:
    """One row per network and step."""
    table = Table(title="ms per step, and ratios: median (10th-90th percentile)", box=box.MARKDOWN)
    for column in ("network", "step", "a", "b", "c", "d", *GOALS):
        table.add_column(column, no_wrap=True)
    for result in results:
        times = (str(result.times_ms[key]) for key in "abcd")
        ratios = (
            f"{result.ratios[name]}{'' if result.ratios[name].median <= goal else ' !'}"
            for name, goal in GOALS.items()
        )
        table.add_row(result.network, result.step, *times, *ratios)
    table.caption = "! misses the goal: " + ", ".join(f"{n} at most {g}" for n, g in GOALS.items())
    return table


def memory_table(memory: Mapping[str, Mapping[str, int]]) -> Table:
    """One row per network."""
    table = Table(title="bytes held", box=box.MARKDOWN)
    table.add_column("network", no_wrap=True)
    for column in ("supernet", "largest sub-network", "added by visiting 30 others"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, sizes in memory.items():
        table.add_row(name, *(f"{size:,}" for size in sizes.values()))
    return table


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="FAMILY/PRESET; default: the small ones")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--peer", choices=["modelopt"], help="measure this package too")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and maybe write."""
    asked = arguments()
    torch.set_num_threads(1)
    small = [f"{name}/{p}" for name in SUPERNETS for p in SUPERNETS[name].presets if p in SMALL]
    results, memory = [], {}
    for name in track(asked.networks or small, "measuring", console=Console(stderr=True)):
        family, preset = name.split("/")
        supernet = SUPERNETS[family].build(preset=preset)
        memory[name] = memory_of(supernet)
        size = (asked.batch_size, asked.repetitions)
        results += [measure_overhead(name, supernet, step, *size) for step in STEPS]
        if asked.peer == "modelopt":
            results += measure_modelopt(name, supernet, *size)
    family, preset = largest_space()
    candidate = measure_candidate(family, preset)
    report(results, memory, f"{family}/{preset}", candidate)
    if asked.json:
        numbers = {
            "machine": machine(),
            "overheads": [asdict(result) for result in results],
            "memory": memory,
            "candidate_ms": {f"{family}/{preset}": asdict(candidate)},
        }
        asked.json.write_text(json.dumps(numbers, indent=2) + "\n")


def report(
    results: Sequence[Overhead],
    memory: Mapping[str, Mapping[str, int]],
    largest: str,
    candidate: Spread,
) -> None:
    """Print all numbers with their conditions."""
    console = Console(width=200)
    conditions = ", ".join(f"{name} {value}" for name, value in machine().items())
    batches = f"batch {results[0].batch_size}, {results[0].num_repetitions} repetitions"
    console.print(f"{conditions}, {batches}\n", highlight=False)
    console.print(overhead_table(results), memory_table(memory), highlight=False)
    console.print(
        f"activate and count a candidate of {largest}, the largest space: {candidate} ms "
        f"(goal: {CANDIDATE_GOAL_MS})",
        highlight=False,
    )


if __name__ == "__main__":
    main()
