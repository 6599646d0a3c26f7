"""How many measurements search algorithms need, on public tables of measured architectures.

    python experiments/search_benchmark.py RESULTS.jsonl [--seeds 10] [--at-most SECONDS]

Every line of the file is one search (a cell: problem, algorithm, seed), so a stopped run carries
on, and a part of a run is a fair part of it. `search_results.py` beside this file reads it. Data
is read from the folder in NASBENCH_DATA.

Problems are "DATA_SET/DEVICE" of NAS-Bench-201, looked up (an architecture that the device cannot
run or that nobody measured there is a failed trial, and counts), and "gpt/DEVICE": HW-GPT-Bench
small, predicted by boosted trees fitted to all 10,000 rows on logarithms, which are the same for
all algorithms.

The score is the hypervolume of all evaluated so far relative to that of the true front (for
HW-GPT-Bench the best known one), in the box of that front (of errors: of its part within 10
points of the best), with the reference point at 1.1 in both coordinates. Every evaluation
counts, repeated ones too. `seconds` is processor time in the algorithm, proposing and learning.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import optuna
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from nasbench.objectives import Objective
from nasbench.pareto import hypervolume, non_dominated
from nasbench.predictors import PREDICTORS
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.inner_search import evolve_candidates
from nasbench.space import Genomes, SearchSpace
from nasbench.tasks.tables import TABLES, MeasuredTable

NUM_EVALUATIONS = 400
BUDGETS = (50, 100, 150, 200, 400)
TARGETS = (0.90, 0.95, 0.98, 0.99)
BATCH_SIZE = 10
POINTS = 0.10  # within which of the least error a front counts
PENALTY = 1e6  # what pymoo's users give a failed evaluation
FRONT_EVALUATIONS = 20_000  # of each of three searches for the best known front

Floats = np.ndarray
Evaluate = Callable[[Genomes], Floats]
"""Genomes (N, D) -> losses (N, 2), NaN where the trial fails."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One search."""

    problem: str
    algorithm: str
    seed: int
    batch_size: int = BATCH_SIZE
    num_pending: int = 0

    @property
    def num_evaluations(self) -> int:
        """Asking for one at a time takes ten times as long."""
        return 150 if self.batch_size == 1 else NUM_EVALUATIONS


# -- problems -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A space, what can be evaluated in it, and the front to be found.

    Args:
        front: its part that counts, of shape (any number, 2).
    """

    space: SearchSpace
    evaluate: Evaluate
    front: Floats

    def relative_hypervolume(self, losses: Floats) -> float:
        """Of everything evaluated, losses of shape (N, 2), rows with NaN left out."""
        reference = np.array([1.1, 1.1])
        found = self._scaled(losses[np.isfinite(losses).all(axis=1)])
        return hypervolume(found, reference) / hypervolume(self._scaled(self.front), reference)

    def _scaled(self, losses: Floats) -> Floats:
        lowest = self.front.min(axis=0)
        return (losses - lowest) / (self.front.max(axis=0) - lowest)


def counted_front(losses: Floats, points: float) -> Floats:
    """The part of the front within so many points of the best first loss."""
    losses = losses[np.isfinite(losses).all(axis=1)]
    front = losses[non_dominated(losses)]
    return front[front[:, 0] <= front[:, 0].min() + points]


@cache
def read_table(name: str) -> MeasuredTable:
    """From the folder in NASBENCH_DATA."""
    folder = os.environ.get("NASBENCH_DATA")
    return TABLES[name](Path(folder) if folder else None)


@cache
def build(problem: str) -> Benchmark:
    """The problem of that name."""
    data, device = problem.split("/")
    if data == "gpt":
        return _predicted(device)
    table = read_table("nas_bench_201")
    metrics = (f"{data}.top1_error", f"{device}.latency_ms")
    losses = np.column_stack([table.metrics[name] for name in metrics])
    row_of = {genome.tobytes(): row for row, genome in enumerate(table.genomes)}

    def evaluate(genomes: Genomes) -> Floats:
        return losses[[row_of[genome.tobytes()] for genome in genomes]]

    return Benchmark(table.space, evaluate, counted_front(losses, POINTS))


@cache
def _fitted(metric: str) -> Callable[[Genomes], Floats]:
    """The frozen surrogate of one metric of HW-GPT-Bench."""
    table = read_table("hw_gpt_bench")
    predictor = PREDICTORS["lightgbm"](table.space, 0, encoding="totals")
    predictor.fit(table.genomes, np.log(table.metrics[metric]))
    return lambda genomes: np.exp(predictor.predict_mean(genomes))


def _predicted(device: str) -> Benchmark:
    table = read_table("hw_gpt_bench")
    models = [_fitted("openwebtext.perplexity"), _fitted(f"{device}.latency_ms")]

    def evaluate(genomes: Genomes) -> Floats:
        return np.column_stack([model(genomes) for model in models])

    known = [evaluate(table.genomes)]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start = np.concatenate([table.genomes[non_dominated(known[0])], table.genomes[:100]])
        found = evolve_candidates(
            table.space,
            lambda genomes: (evaluate(genomes), np.zeros(len(genomes))),
            start,
            FRONT_EVALUATIONS,
            rng,
        )
        known.append(found.losses)
    front = counted_front(np.concatenate(known), np.inf)
    return Benchmark(table.space, evaluate, front)


# -- algorithms ---------------------------------------------------------------------------------

Search = Callable[[Benchmark, Cell], tuple[Floats, float]]
"""-> losses (NUM_EVALUATIONS, 2) in the order evaluated, and seconds in the algorithm."""


def search_ours(benchmark: Benchmark, cell: Cell) -> tuple[Floats, float]:
    """An entry of ALGORITHMS: a batch told and one asked, perhaps while others are pending."""
    objectives = [Objective("first", "minimize"), Objective("second", "minimize")]
    seconds = -time.process_time()
    algorithm = ALGORITHMS[cell.algorithm](
        SearchProblem(benchmark.space, objectives), seed=cell.seed
    )
    losses = np.empty((0, 2))
    pending = []
    while len(losses) < cell.num_evaluations:
        while len(pending) < cell.num_pending + cell.batch_size:
            pending += algorithm.ask(cell.batch_size)
        batch, pending = pending[: cell.batch_size], pending[cell.batch_size :]
        seconds += time.process_time()
        found = benchmark.evaluate(benchmark.space.to_genomes(batch))
        seconds -= time.process_time()
        algorithm.tell(batch, found)
        losses = np.concatenate([losses, found])
    return losses, seconds + time.process_time()


def search_pymoo(benchmark: Benchmark, cell: Cell) -> tuple[Floats, float]:
    """NSGA-II by pymoo's guide for integer variables, a population of 50."""
    repair = RoundingRepair()
    algorithm = NSGA2(
        pop_size=50,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=repair),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=repair),
        eliminate_duplicates=True,
    )
    space = benchmark.space
    problem = Problem(n_var=len(space), n_obj=2, xl=0, xu=space.num_choices - 1, vtype=int)
    seconds = -time.process_time()
    algorithm.setup(problem, seed=cell.seed, verbose=False)
    losses = np.empty((0, 2))
    while len(losses) < NUM_EVALUATIONS:
        population = algorithm.ask()
        seconds += time.process_time()
        found = benchmark.evaluate(space.canonical_genomes(population.get("X").astype(np.int64)))
        seconds -= time.process_time()
        population.set("F", np.where(np.isfinite(found), found, PENALTY))
        algorithm.tell(infills=population)
        losses = np.concatenate([losses, found])
    return losses[:NUM_EVALUATIONS], seconds + time.process_time()


def _search_optuna(
    benchmark: Benchmark, sampler: optuna.samplers.BaseSampler
) -> tuple[Floats, float]:
    """A study with a suggestion per dimension, inactive ones left out; a failure is told as one."""
    space = benchmark.space
    losses = np.empty((NUM_EVALUATIONS, 2))
    seconds = -time.process_time()
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for row in range(NUM_EVALUATIONS):
        trial = study.ask()
        choices = {d.name: d.choices[0] for d in space}
        for dimension in space:
            when = dimension.active_when
            if when is None or choices[when.dimension] in when.choices:
                choices[dimension.name] = trial.suggest_categorical(
                    dimension.name, dimension.choices
                )
        genome = space.to_genome(choices)
        seconds += time.process_time()
        losses[row] = benchmark.evaluate(genome[None])[0]
        seconds -= time.process_time()
        if np.isfinite(losses[row]).all():
            study.tell(trial, losses[row].tolist())
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return losses, seconds + time.process_time()


def search_optuna_tpe(benchmark: Benchmark, cell: Cell) -> tuple[Floats, float]:
    """Optuna's TPE with its defaults."""
    return _search_optuna(benchmark, optuna.samplers.TPESampler(seed=cell.seed))


def search_optuna_nsga2(benchmark: Benchmark, cell: Cell) -> tuple[Floats, float]:
    """Optuna's NSGA-II with its defaults."""
    return _search_optuna(benchmark, optuna.samplers.NSGAIISampler(seed=cell.seed))


AS_USERS_RUN_THEM: dict[str, Search] = {
    "pymoo NSGA-II": search_pymoo,
    "Optuna TPE": search_optuna_tpe,
    "Optuna NSGA-II": search_optuna_nsga2,
}

# -- what there is to run -----------------------------------------------------------------------

MAIN = ("cifar10/raspi4", "gpt/rtx3080")
CHEAP = ("random", "pymoo NSGA-II", "Optuna NSGA-II", "nsga2", "regularized_evolution",
         "local_search")  # fmt: skip
WITH_PENDING = ("auto", "linas", "nsga2")  # one batch of ten evaluated while the next is proposed
DEVICES = ("imagenet16_120/pixel3", "cifar100/edgegpu", "cifar10/fpga", "gpt/cpu_meta",
           "imagenet16_120/edgetpu", "cifar100/1080ti_1", "cifar10/silver_4114", "gpt/a100",
           "cifar100/eyeriss", "imagenet16_120/samsung_a50")  # fmt: skip


NUM_WIDE_SEEDS = 3
WIDE = ("pymoo NSGA-II", "local_search")  # beside `auto` and `linas`


def other_problems() -> list[str]:
    """Every data set on every device of the tables that is not among those above."""
    devices = _devices("nas_bench_201")
    data_sets = ("cifar10", "cifar100", "imagenet16_120")
    cells_of_201 = [f"{data}/{device}" for device in devices for data in data_sets]
    found = cells_of_201 + [f"gpt/{device}" for device in _devices("hw_gpt_bench")]
    return [problem for problem in found if problem not in (*MAIN, *DEVICES)]


def _devices(table: str) -> list[str]:
    metrics = read_table(table).metrics
    return [name.removesuffix(".latency_ms") for name in metrics if name.endswith(".latency_ms")]


def cells(num_seeds: int) -> Iterator[Cell]:
    """What there is to run, the most telling first; `linas` by its own batch of 50, too."""
    seeds = range(num_seeds)
    yield from (Cell(p, a, s) for p in MAIN for a in CHEAP for s in seeds)
    for s in seeds:
        for p in MAIN:
            yield from (Cell(p, "auto", s), Cell(p, "linas", s, batch_size=50))
        yield Cell(MAIN[0], "Optuna TPE", s)
    for p in DEVICES:
        yield from (Cell(p, "auto", s) for s in seeds)
        yield from (Cell(p, "linas", s, batch_size=50) for s in seeds)
        yield from (Cell(p, a, s) for a in CHEAP for s in seeds)
    for s in range(min(NUM_WIDE_SEEDS, num_seeds)):
        for p in other_problems():
            yield from (Cell(p, "auto", s), Cell(p, "linas", s, batch_size=50))
            yield from (Cell(p, a, s) for a in WIDE)
    for few in (range(min(4, num_seeds)), range(4, num_seeds)):
        yield from (Cell(p, "linas", s) for p in MAIN for s in few)
        yield from (Cell(p, a, s, num_pending=10) for p in MAIN for a in WITH_PENDING for s in few)
        yield from (Cell(MAIN[0], "auto", s, 1, num_pending=9) for s in few)
        yield from (Cell(p, "weaknas", s) for p in MAIN for s in few)
        yield from (Cell(MAIN[1], "Optuna TPE", s) for s in few)


def run(cell: Cell) -> dict[str, object]:
    """Search, and judge all that was evaluated after every budget."""
    benchmark = build(cell.problem)
    search = AS_USERS_RUN_THEM.get(cell.algorithm, search_ours)
    losses, seconds = search(benchmark, cell)
    first = np.unique(losses, axis=0, return_index=True)[1]
    trace = []
    for count in range(1, len(losses) + 1):
        is_new = count - 1 in first
        trace.append(benchmark.relative_hypervolume(losses[:count]) if is_new else trace[-1])
    return {
        **asdict(cell),
        "hypervolume": {b: round(trace[b - 1], 5) for b in BUDGETS if b <= len(trace)},
        "reached": {
            target: next((i + 1 for i, value in enumerate(trace) if value >= target), None)
            for target in TARGETS
        },
        "trace": [round(value, 4) for value in trace[9::10]],
        "num_failed": int((~np.isfinite(losses).all(axis=1)).sum()),
        "num_distinct": len(np.unique(losses[np.isfinite(losses).all(axis=1)], axis=0)),
        "seconds": round(seconds, 3),
    }


def main() -> None:
    """Run what is missing in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--at-most", type=float, default=np.inf, help="seconds of processor time")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.touch()
    lines = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    fields = list(Cell.__dataclass_fields__)
    done = {Cell(**{name: line[name] for name in fields}) for line in lines}
    for cell in cells(arguments.seeds):
        if time.process_time() > arguments.at_most:
            break
        if cell not in done:
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(run(cell)) + "\n")


if __name__ == "__main__":
    main()
