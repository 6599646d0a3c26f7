"""What a trial costs beside its evaluation, and how that grows.

    python -m experiments.scaling overhead --store journal     (memory, sqlite, postgresql)
    python -m experiments.scaling algorithm --algorithm nsga2
    python -m experiments.scaling busy --batch 640 --concurrent 2
    python -m experiments.scaling workers
    python -m experiments.scaling memory
    python -m experiments.scaling copies
    python -m experiments.scaling table

Each part has its file under runs/scaling, with the load of the machine before and after. Times are
of the wall clock ("ms") and of the driver's processor ("cpu_ms"), which other work on the machine
disturbs less.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.study import found_once
from nasbench.config import EvaluationConfig, ResourcesConfig
from nasbench.distributed.cluster import connected
from nasbench.distributed.pool import RayPool, ray
from nasbench.distributed.worker import EvaluationWorker
from nasbench.evaluation import EvaluatorRecipe
from nasbench.search import ALGORITHMS
from nasbench.search.loop import run_search
from nasbench.store import TrialStore
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS, Task
from nasbench.testing.postgresql import PostgreSQLServer, find_programs
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem, ToyRecipe
from nasbench.trials import Trial

FOLDER = Path("runs/scaling")
STORES = ("memory", "journal", "sqlite", "postgresql")
NUM_TRIALS = 10_000
PROBLEM = ToyProblem(MOBILE_SPACE).problem
EARLY, LATE = slice(100, 600), slice(-500, None)  # trials whose cost is compared


@contextmanager
def new_store(kind: str) -> Iterator[TrialStore]:
    """An empty store; that of PostgreSQL waits for the disk at each commit, as one should."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        if kind == "postgresql":
            programs = find_programs()
            if programs is None:
                raise SystemExit("this needs PostgreSQL's server")
            with PostgreSQLServer(programs, is_durable=True) as server:
                yield TrialStore(server.new_store(), PROBLEM.space, PROBLEM.objectives)
            return
        url = None if kind == "memory" else f"{kind}:///{folder}/study"
        yield TrialStore(url, PROBLEM.space, PROBLEM.objectives)


def evaluated_here(trials: Sequence[Trial]) -> Iterator[Trial]:
    """The toys' losses, in this process."""
    recipe = ToyRecipe()
    for trial in trials:
        yield trial.completed(recipe.evaluate(trial.architecture).measurements)


def per_trial_ms(
    store: TrialStore,
    evaluate: Callable[[Sequence[Trial]], Iterable[Trial]],
    algorithm: str,
    num_trials: int,
    batch_size: int,
) -> dict[str, Any]:
    """Median and total cost of a trial, early and late in a search.

    A batch's proposals are made for all its trials at once, so medians are of batches' averages.
    """
    walls, cpus = [time.perf_counter()], [time.process_time()]

    def note(_: Trial) -> None:
        walls.append(time.perf_counter())
        cpus.append(time.process_time())

    run_search(
        PROBLEM,
        ALGORITHMS[algorithm](PROBLEM, seed=0),
        store,
        evaluate,
        num_trials=num_trials,
        batch_size=batch_size,
        on_trial=note,
    )
    found: dict[str, Any] = {"num_trials": num_trials, "batch_size": batch_size}
    for name, clock in (("ms", walls), ("cpu_ms", cpus)):
        costs = 1000 * np.diff(clock)
        for part, chosen in (("early", EARLY), ("late", LATE)):
            some = costs[chosen]
            batches = some[: len(some) // batch_size * batch_size].reshape(-1, batch_size)
            found[f"{part}_{name}"] = float(np.median(batches.mean(axis=1)))
        found[f"mean_{name}"] = float(costs.mean())
    return found


def overhead(kind: str) -> dict[str, Any]:
    """Pool, store and algorithm together, with an evaluation that costs nothing."""
    resources = ResourcesConfig(workers=2)
    with connected(resources), RayPool(ToyRecipe(), None, resources) as pool, new_store(kind) as at:
        return per_trial_ms(at, pool.evaluate, "nsga2", NUM_TRIALS, 20)


def algorithm(name: str) -> dict[str, Any]:
    """An algorithm alone: in memory, evaluated in this process."""
    refits = name in ("auto", "linas", "weaknas")
    with new_store("memory") as store:
        return per_trial_ms(store, evaluated_here, name, 1_200 if refits else NUM_TRIALS, 20)


class VirtualPool(RayPool):
    """A pool of many workers that live in a few processes; for evaluations that only sleep."""

    num_processes = 4

    def _evaluation_actor(self) -> Any:
        pool, size = self, self._resources.workers // self.num_processes
        processes: list[Any] = self.__dict__.setdefault("_processes", [])
        made = self.__dict__.setdefault("_made", [0])

        class Virtual:
            @staticmethod
            def remote(stored: Any) -> Any:
                place = made[0] % pool.num_processes
                if place == len(processes):
                    actor = ray.remote(num_cpus=0, max_concurrency=size)(EvaluationWorker)
                    processes.append(actor.remote(stored))
                made[0] += 1
                return processes[place]

        return Virtual


def busy(batch_size: int, concurrent_batches: int) -> dict[str, Any]:
    """Share of the time that 64 sleeping workers sleep, which a pool without cost would make 1.

    Evaluations take one second, or from 0.8 to 1.2 s: then a batch waits for its slowest.
    """
    resources = ResourcesConfig(workers=64)
    found: dict[str, Any] = {"batch_size": batch_size, "concurrent_batches": concurrent_batches}
    for name, spread in (("equal", 0.0), ("varied", 0.2)):
        recipe = ToyRecipe(seconds=1.0, spread=spread)
        num_trials = 20 * 64
        with (
            connected(resources),
            VirtualPool(recipe, None, resources) as pool,
            new_store("journal") as store,
        ):
            start = time.perf_counter()
            trials = run_search(
                PROBLEM,
                ALGORITHMS["nsga2"](PROBLEM, seed=0),
                store,
                pool.evaluate,
                num_trials=num_trials,
                batch_size=batch_size,
                concurrent_batches=concurrent_batches,
            )
            seconds = time.perf_counter() - start
        asleep = sum(recipe.seconds_of(trial.architecture) for trial in trials)
        found[name] = asleep / (64 * seconds)
    return found


def workers() -> dict[str, Any]:
    """Throughput of two workers of one CPU over that of one, on real evaluations, in turns."""
    supernet = SUPERNETS["mobilenet_v3"].build()
    recipe = EvaluatorRecipe(
        supernet_settings=supernet.settings,
        weights={name: tensor.numpy() for name, tensor in supernet.state_dict().items()},
        task=TASKS["digits"](None),
        config=EvaluationConfig(),
    )
    rng = np.random.default_rng(0)
    trials = [Trial(number=n, architecture=supernet.space.sample(rng)) for n in range(60)]
    ratios, seconds = [], []
    with connected(ResourcesConfig(workers=3)):  # both pools are there all the time
        pools = [RayPool(recipe, None, ResourcesConfig(workers=1))]
        pools.append(RayPool(recipe, None, ResourcesConfig(workers=2)))
        for pool in pools:
            list(pool.evaluate(trials[:6]))
        for _ in range(7):
            took = []
            for pool in pools:
                start = time.perf_counter()
                list(pool.evaluate(trials))
                took.append(time.perf_counter() - start)
            seconds.append(took)
            ratios.append(took[0] / took[1])
    return {"ratios": ratios, "seconds": seconds, "median": float(np.median(ratios))}


def memory() -> dict[str, Any]:
    """The driver's memory and pace over 100,000 trials."""
    with new_store("memory") as store:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = per_trial_ms(store, evaluated_here, "nsga2", 100_000, 100)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "before_MiB": before / 1024, "peak_MiB": peak / 1024}


def copies() -> dict[str, Any]:
    """What each worker of a node has for itself, with 55 MB of images and with hardly any."""
    tasks = {"digits": None, "fashion_mnist": Path(os.environ["NASBENCH_DATA"])}
    return {name: _private_mib(TASKS[name](data_dir)) for name, data_dir in tasks.items()}


def _private_mib(task: Task) -> list[float]:
    supernet = SUPERNETS["mobilenet_v3"].build()
    recipe = EvaluatorRecipe(
        supernet_settings=supernet.settings,
        weights={name: tensor.numpy() for name, tensor in supernet.state_dict().items()},
        task=task,
        config=EvaluationConfig(),
    )
    resources = ResourcesConfig(workers=2)
    with connected(resources), RayPool(recipe, None, resources):
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            if b"EvaluationWorker" in command.read_bytes():
                text = command.with_name("smaps_rollup").read_text()
                kinds = dict(line.split()[:2] for line in text.splitlines()[1:])
                private = int(kinds["Private_Clean:"]) + int(kinds["Private_Dirty:"])
                found.append(private / 1024)
    return found


def measured(part: str, find: Callable[[], dict[str, Any]]) -> None:
    """Find a part once, with the machine's load around it."""

    def with_load() -> dict[str, Any]:
        before = os.getloadavg()[0]
        return {**find(), "load": [round(before, 1), round(os.getloadavg()[0], 1)]}

    print(part, json.dumps(found_once(FOLDER / f"{part}.json", with_load)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("--store", choices=STORES, default="memory")
    parser.add_argument("--algorithm", default="nsga2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--concurrent", type=int, default=1, help="batches at a time")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.part == "overhead":
        measured(f"overhead-{arguments.store}", lambda: overhead(arguments.store))
    elif arguments.part == "algorithm":
        measured(f"algorithm-{arguments.algorithm}", lambda: algorithm(arguments.algorithm))
    elif arguments.part == "busy":
        batch, concurrent = arguments.batch, arguments.concurrent
        measured(f"busy-{batch}-{concurrent}", lambda: busy(batch, concurrent))
    elif arguments.part == "table":
        for path in sorted(FOLDER.glob("*.json")):
            print(path.stem, path.read_text().replace("\n", ""))
    else:
        parts = {"workers": workers, "memory": memory, "copies": copies}
        measured(arguments.part, parts[arguments.part])
