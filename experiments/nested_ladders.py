"""What a searched chain is worth, and what a bundle costs.

    python experiments/nested_ladders.py chains --folder runs/nested_ladders
    python experiments/nested_ladders.py bundle

`chains` trains a supernet on digits by the sandwich rule, measures the members of 100 random chains
from the smallest sub-network to the largest, and lets `best_chain` find the best of all measured
sub-networks, with as many members as each random chain has. Hypervolume is that of validation
error and MACs, below the reference, as a share of the reference's box. The chain that all
dimensions grow together (the diagonal), the best random chain and the searched one are then
measured on test data, which chose nothing.

`bundle` writes bundles of random weights, and the same members as separate files, and times
switching against loading another file. Neither depends on what the weights are.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from study import build, found_once

from nasbench.config import EvaluationConfig, SupernetConfig, TaskConfig, TrainingConfig
from nasbench.evaluation import Evaluator
from nasbench.hardware.engine import cpu_name
from nasbench.objectives import Objective
from nasbench.pareto import hypervolume
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS, Supernet, calibrate
from nasbench.supernet.nested import NestedChain, NestedModel, best_chain, write_bundle
from nasbench.supernet.training.trainer import train_supernet

NUM_CHAINS, NUM_MEMBERS = 100, 8
TRAINING = TrainingConfig(
    epochs=30, batch_size=64, learning_rate=0.02, num_threads=1, monitor_every=0, device="cpu"
)
EVALUATION = EvaluationConfig(calibration_samples=512, batch_size=360)


def random_chain(supernet: Supernet[Any], rng: np.random.Generator) -> NestedChain:
    """From the smallest to the largest by random single steps, of which some are members."""
    space, ranked = supernet.space, {d.name: d.rising for d in supernet.space}
    steps = [space.smallest]
    while steps[-1] != space.largest:
        (is_active,) = space.active(space.to_genome(steps[-1])[None])
        at = {name: of.index(steps[-1][name]) for name, of in ranked.items()}
        open_names = [
            name
            for (name, of), active in zip(ranked.items(), is_active, strict=True)
            if active and at[name] < len(of) - 1
        ]
        name = open_names[rng.integers(len(open_names))]
        steps.append(space.canonical({**steps[-1], name: ranked[name][at[name] + 1]}))
    inside = np.sort(rng.choice(np.arange(1, len(steps) - 1), NUM_MEMBERS - 2, replace=False))
    return NestedChain(supernet, [steps[0], *(steps[i] for i in inside), steps[-1]])


def compare_chains(folder: Path, seed: int) -> dict[str, Any]:
    """Train, measure, search, and test."""
    task, supernet = build(
        TaskConfig(name="digits"), SupernetConfig(family="mobilenet_v3", preset="tiny"), seed
    )
    train_supernet(supernet, task, TRAINING, seed=seed, folder=folder, fingerprint=folder.name)
    evaluator = Evaluator(supernet, task, EVALUATION)
    known: dict[tuple[str, Architecture], list[float]] = {}

    def losses(members: Any, split: Any = "validation") -> np.ndarray:
        for member in members:
            if (split, member) not in known:
                measured = evaluator.evaluate(member, split).measurements
                known[split, member] = [measured["top1_error"], measured["num_macs"]]
        return np.array([known[split, member] for member in members])

    reference = np.array([1.0, 1.05 * supernet.count(supernet.largest)["num_macs"]])

    def share(members: Any, split: Any = "validation") -> float:
        return float(hypervolume(losses(members, split), reference) / reference.prod())

    rng = np.random.default_rng(seed)
    random_chains = [random_chain(supernet, rng) for _ in range(NUM_CHAINS)]
    shares = [share(chain) for chain in random_chains]
    pool = list(dict.fromkeys(member for chain in random_chains for member in chain))
    start = time.process_time()
    limited = best_chain(supernet, pool, losses(pool), reference, max_members=NUM_MEMBERS)
    seconds = time.process_time() - start
    chains: dict[str, list[Architecture]] = {
        "diagonal": list(NestedChain.grown(supernet, NUM_MEMBERS)),
        "best random": list(random_chains[int(np.argmax(shares))]),
        "searched": [pool[i] for i in limited],
        "searched, any length": [
            pool[i] for i in best_chain(supernet, pool, losses(pool), reference)
        ],
    }
    return {
        "seed": seed,
        "num_measured": len(pool),
        "search_cpu_seconds": seconds,
        "reference": reference.tolist(),
        "random": {"mean": float(np.mean(shares)), "std": float(np.std(shares))},
        "chains": {
            name: {
                "num_members": len(members),
                "validation": share(members),
                "test": share(members, "test"),
            }
            for name, members in chains.items()
        },
    }


def median_ms(work: Callable[[int], object], repeats: int) -> float:
    """Median time of `work(repeat)`, after as many warm-ups as a tenth."""
    times = []
    for repeat in range(repeats + repeats // 10):
        start = time.perf_counter_ns()
        work(repeat)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(times[repeats // 10 :]))


def compare_files(num_members: int) -> dict[str, float]:
    """One bundle against separate files of the same members."""
    supernet = SUPERNETS["mobilenet_v3"].build("fashion_fine", seed=0).eval()
    chain = NestedChain.grown(supernet, num_members)
    inputs = supernet.example_inputs(4)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        statistics, modules = [], []
        for number, member in enumerate(chain):
            supernet.activate(member)
            statistics.append(calibrate(supernet, inputs))
            modules.append(supernet.extract(member))
            save_file(modules[-1].state_dict(), folder / f"{number}.safetensors")
        nothing: list[dict[str, Any]] = [{}] * num_members
        measured = [{"top1_accuracy": 0.0}] * num_members
        bundle = folder / "bundle"
        write_bundle(
            bundle, supernet, chain, statistics=statistics, validation=measured, test=measured,
            latency=nothing, quality=Objective.of("top1_accuracy"), description={},
        )  # fmt: skip
        model = NestedModel.load(bundle)
        separate = sum((folder / f"{n}.safetensors").stat().st_size for n in range(num_members))

        def load_another(repeat: int) -> object:
            number = repeat * 7 % num_members
            return modules[number].load_state_dict(load_file(folder / f"{number}.safetensors"))

        return {
            "num_members": num_members,
            "bundle_kb": (bundle / "weights.safetensors").stat().st_size / 1e3,
            "manifest_kb": (bundle / "manifest.json").stat().st_size / 1e3,
            "separate_kb": separate / 1e3,
            "switch_ms": median_ms(lambda repeat: model.at(repeat * 7 % num_members), 200),
            "load_another_ms": median_ms(load_another, 60),
            "load_bundle_ms": median_ms(lambda _: NestedModel.load(bundle), 3),
        }


def main() -> None:
    """Do what is asked; print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("chains", "bundle"))
    parser.add_argument("--folder", type=Path, default=Path("runs/nested_ladders"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "bundle":
        for num_members in (16, 160):
            found = compare_files(num_members)
            print(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    else:
        folder = asked.folder / f"seed{asked.seed}"
        found = found_once(folder / "result.json", partial(compare_chains, folder, asked.seed))
        for name, value in found.items():
            print(name, value)
    print(f"{cpu_name()}, {os.cpu_count()} cores, {platform.platform()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
