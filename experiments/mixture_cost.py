"""What a mixture of experts costs: against the same supernet with plain slices.

    python experiments/mixture_cost.py                         a preset of each family
    python experiments/mixture_cost.py vit/fashion --experts 4

Three supernets of the same sizes are timed in turn, in a new random order in every repetition, in
one process with one thread: slices, a layer-wise and a neuron-wise mixture. A time is a median of
processor time, which other jobs on the machine lengthen less than that of a clock, and a ratio is
the median of the repetitions' own ratios, with the 10th and 90th percentiles beside it.

    training    one optimizer step (AdamW) on the largest, two random and the smallest sub-network,
                each with a forward and a backward pass; every repetition draws others
    evaluation  a forward pass without gradients of a random sub-network, after the one that
                followed its activation

Memory is counted: of what training holds (parameters, their gradients and the optimizer's state),
and of the mixed weights that are kept while evaluating the largest sub-network.
"""

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from elastic_overhead import Run, Spread, forward_step, machine, ratio
from rich import box
from rich.console import Console
from rich.table import Table

from nasbench.supernet import SUPERNETS, Supernet
from nasbench.supernet.mixture import MixedWeight

GOALS = {"training": 1.10, "evaluation": 1.02}
SHARINGS = ("slice", "mixture_layerwise", "mixture_neuronwise")
NETWORKS = {  # with the samples of a batch
    "mobilenet_v3/fashion": 64,
    "resnet/fashion": 64,
    "vit/fashion": 64,
    "encoder/sst2": 32,
    "decoder/shakespeare": 16,
    "seq2seq/multi30k": 64,
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one supernet with one kind of sharing, beside the same one with slices.

    Args:
        times_ms, ratios: by what is timed: "training" and "evaluation".
        training_bytes: what training holds.
        kept_bytes: mixed weights that are kept while evaluating.
    """

    network: str
    sharing: str
    num_experts: int
    batch_size: int
    num_repetitions: int
    num_parameters: int
    times_ms: dict[str, Spread]
    ratios: dict[str, Spread]
    training_bytes: int
    kept_bytes: int


def processor_times(
    runs: Mapping[str, tuple[Run, Run]], num_repetitions: int, *, num_untimed: int
) -> dict[str, list[float]]:
    """Milliseconds of each run in each repetition; one more comes first and does not count.

    Args:
        runs: name -> (prepare, run); preparing is not timed.
        num_untimed: how often it is run between preparing and timing.
    """
    rng, names = random.Random(0), list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-1, num_repetitions):
        rng.shuffle(names)
        for name in names:
            prepare, run = runs[name]
            prepare()
            for _ in range(num_untimed):
                run()
            start = time.process_time()
            run()
            if repetition >= 0:
                times[name].append(1e3 * (time.process_time() - start))
    return times


class TrainingStep:
    """Prepares and makes optimizer steps of one supernet."""

    def __init__(self, supernet: Supernet[Any], batch_size: int) -> None:
        self.supernet, self.inputs = supernet.train(), supernet.example_inputs(batch_size)
        self.optimizer = torch.optim.AdamW(supernet.parameters(), lr=1e-4)
        self._rng = np.random.default_rng(0)

    def prepare(self) -> None:
        """Draw the sub-networks of the next step, the same for every supernet of this space."""
        space = self.supernet.space
        drawn = [space.sample(self._rng) for _ in range(2)]
        self.architectures = [space.largest, *drawn, space.smallest]
        self.supernet.train()

    def __call__(self) -> None:
        """Make it."""
        self.optimizer.zero_grad(set_to_none=True)
        for architecture in self.architectures:
            self.supernet.activate(architecture)
            self.supernet(*self.inputs).float().logsumexp(-1).mean().backward()
        self.optimizer.step()

    def num_bytes(self) -> int:
        """Of parameters, gradients and optimizer state."""
        parameters = list(self.supernet.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        states = [t for state in self.optimizer.state.values() for t in state.values()]
        return sum(t.nbytes for t in (*parameters, *gradients, *states))


def evaluation(supernet: Supernet[Any], batch_size: int) -> tuple[Run, Run]:
    """Prepare and run a forward pass."""
    rng, space = np.random.default_rng(0), supernet.space
    run = forward_step(supernet, supernet.example_inputs(batch_size))

    def prepare() -> None:
        supernet.eval()
        supernet.activate(space.sample(rng))

    return prepare, run


def kept_bytes(supernet: Supernet[Any], batch_size: int) -> int:
    """Of the mixed weights after an evaluation of the largest sub-network."""
    supernet.activate(supernet.largest)
    forward_step(supernet, supernet.example_inputs(batch_size))()
    with torch.no_grad():
        kept = [
            tensor
            for module in supernet.modules()
            if isinstance(module, MixedWeight)
            for tensor in module.leading(*module.weights[0].shape[:2])
            if tensor is not None
        ]
    return sum(tensor.nbytes for tensor in kept)


def measure(network: str, num_experts: int, batch_size: int, num_repetitions: int) -> list[Cost]:
    """All kinds of sharing in turn."""
    family, preset = network.split("/")
    of_mixture = {"num_experts": num_experts}
    supernets = {
        sharing: SUPERNETS[family].build(
            preset, sharing=sharing, **({} if sharing == "slice" else of_mixture)
        )
        for sharing in SHARINGS
    }
    steps = {sharing: TrainingStep(s, batch_size) for sharing, s in supernets.items()}
    training = {sharing: (step.prepare, step) for sharing, step in steps.items()}
    times = {"training": processor_times(training, num_repetitions, num_untimed=0)}
    held = {sharing: step.num_bytes() for sharing, step in steps.items()}
    passes = {sharing: evaluation(s, batch_size) for sharing, s in supernets.items()}
    times["evaluation"] = processor_times(passes, 3 * num_repetitions, num_untimed=1)
    return [
        Cost(
            network=network,
            sharing=sharing,
            num_experts=1 if sharing == "slice" else num_experts,
            batch_size=batch_size,
            num_repetitions=num_repetitions,
            num_parameters=sum(p.numel() for p in supernet.parameters()),
            times_ms={what: Spread.of(of[sharing]) for what, of in times.items()},
            ratios={what: ratio(of, sharing, "slice") for what, of in times.items()},
            training_bytes=held[sharing],
            kept_bytes=kept_bytes(supernet, batch_size),
        )
        for sharing, supernet in supernets.items()
    ]


def table_of(costs: Sequence[Cost]) -> Table:
    """One row per supernet."""
    table = Table(box=box.MARKDOWN)
    headings = ("network", "batch", "sharing", "training [ms]", "ratio", "evaluation [ms]", "ratio")
    for number, heading in enumerate((*headings, "parameters", "training [MB]", "kept [MB]")):
        table.add_column(heading, justify="left" if number in (0, 2) else "right")
    for cost in costs:
        times = [
            text
            for what in GOALS
            for text in (f"{cost.times_ms[what].median:.1f}", str(cost.ratios[what]))
        ]
        table.add_row(
            cost.network,
            str(cost.batch_size),
            cost.sharing,
            *times,
            f"{cost.num_parameters:,}",
            f"{cost.training_bytes / 1e6:.1f}",
            f"{cost.kept_bytes / 1e6:.1f}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="FAMILY/PRESET")
    parser.add_argument("--experts", type=int, default=2)
    parser.add_argument("--batch-size", type=int, help="default: as suits the preset")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    costs: list[Cost] = []
    for network in asked.networks:
        batch_size = asked.batch_size or NETWORKS.get(network, 64)
        costs += measure(network, asked.experts, batch_size, asked.repetitions)
    about = machine()
    console = Console(width=160)
    console.print(f"{asked.experts} experts; goals: ratios of at most {GOALS}", highlight=False)
    console.print(about, highlight=False)
    console.print(table_of(costs))
    if asked.json is not None:
        numbers = {"machine": about, "costs": [asdict(cost) for cost in costs]}
        asked.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
