"""How much an earlier search, on another device or data set, shortens a new one.

    python experiments/earlier_search.py docs/results

Problems and score are those of `search_benchmark.py`. The earlier search is one of `auto` with 200
evaluations and another seed; `auto` then searches the new problem with 150, with and without it.
Writes `search_earlier.csv` into the folder and prints the table of medians. Takes ten minutes of
processor time; data is read from the folder in NASBENCH_DATA.
"""

import argparse
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from search_benchmark import BATCH_SIZE, Floats, build

from nasbench.objectives import Objective
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.earlier import EarlierTrials

PAIRS = (  # new, earlier
    ("cifar10/raspi4", "cifar10/pixel3"),
    ("cifar100/edgegpu", "cifar100/raspi4"),
    ("imagenet16_120/pixel3", "cifar10/raspi4"),
    ("cifar10/fpga", "cifar100/1080ti_1"),
    ("gpt/rtx3080", "gpt/cpu_meta"),
)
VARIANTS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "first proposals": {"transfer": False},
    "first proposals, reduced": {"transfer": False, "reduce_below": 0.01},
    "transfer": {},
    "transfer, reduced": {"reduce_below": 0.01},
}
NUM_EARLIER = 200
BUDGETS = (20, 50, 100, 150)


def search(problem: str, seed: int, num_evaluations: int, **options: Any) -> Floats:
    """Choice indices and losses of everything that `auto` evaluates, of shape (N, D + 2)."""
    benchmark = build(problem)
    objectives = [Objective("first", "minimize"), Objective("second", "minimize")]
    algorithm = ALGORITHMS["auto"](SearchProblem(benchmark.space, objectives), seed, **options)
    batches = []
    for _ in range(num_evaluations // BATCH_SIZE):
        architectures = algorithm.ask(BATCH_SIZE)
        genomes = benchmark.space.to_genomes(architectures)
        losses = benchmark.evaluate(genomes)
        algorithm.tell(architectures, losses)
        batches.append(np.column_stack([genomes, losses]))
    return np.concatenate(batches)


@cache
def earlier_trials(problem: str, seed: int) -> EarlierTrials:
    """What an earlier search completed; its seed is one that no new search has."""
    found = search(problem, 1_000 + seed, NUM_EARLIER)
    completed = found[np.isfinite(found).all(axis=1)]
    return EarlierTrials(completed[:, :-2].astype(np.int64), completed[:, -2:])


def main() -> None:
    """Run all, and write what was reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for seed, (new, earlier), name in product(range(arguments.seeds), PAIRS, VARIANTS):
        options = VARIANTS[name]
        if options is not None:
            options = {"earlier": earlier_trials(earlier, seed), **options}
        losses = search(new, seed, max(BUDGETS), **(options or {}))[:, -2:]
        reached = {b: round(build(new).relative_hypervolume(losses[:b]), 4) for b in BUDGETS}
        rows.append({"new": new, "earlier": earlier, "variant": name, "seed": seed, **reached})
        print(*rows[-1].values(), flush=True)
    found = pd.DataFrame(rows)
    found.to_csv(arguments.folder / "search_earlier.csv", index=False)
    medians = found.groupby(["new", "earlier", "variant"], sort=False)[list(BUDGETS)].median()
    print(medians.reset_index().to_markdown(index=False, floatfmt=".3f"))


if __name__ == "__main__":
    main()
