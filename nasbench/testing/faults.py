"""A search of toys on a cluster of real processes, to be killed at random moments.

    with Cluster(num_workers=2) as cluster:
        with Driver(cluster.address, url, seed=0) as driver: ...

What a search finds here is known beforehand (`expected_trials`), whatever dies on the way.
"""

import importlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from nasbench.errors import NasbenchError
from nasbench.search import ALGORITHMS
from nasbench.search.loop import Evaluate, run_search
from nasbench.store import TrialStore
from nasbench.testing.toys import MOBILE_SPACE, ToyProblem, ToyRecipe
from nasbench.trials import Trial

NUM_TRIALS = 48
_BATCH_SIZE = 8
_SECONDS = 0.02  # of an evaluation
_PATIENCE_S = 5.0  # with an evaluation
_TIMEOUT_S = 240.0

# What a cluster of its own needs to notice death in seconds instead of minutes.
_ENVIRONMENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_enable_metrics_collection": "0",
}


def open_store(url: str | None) -> TrialStore:
    """The store of the search of toys."""
    problem = ToyProblem(MOBILE_SPACE).problem
    return TrialStore(url, problem.space, problem.objectives, heartbeat_s=1.0, patience_s=60.0)


def search(store: TrialStore, evaluate: Evaluate, seed: int) -> list[Trial]:
    """The search: an algorithm that learns from every batch."""
    problem = ToyProblem(MOBILE_SPACE).problem
    return run_search(
        problem,
        ALGORITHMS["nsga2"](problem, seed=seed, population=_BATCH_SIZE),
        store,
        evaluate,
        num_trials=NUM_TRIALS,
        batch_size=_BATCH_SIZE,
    )


def expected_trials(seed: int) -> list[Trial]:
    """What an uninterrupted search finds, in this process."""
    recipe = ToyRecipe()

    def evaluate(trials: Any) -> Any:
        for trial in trials:
            yield trial.completed(recipe.evaluate(trial.architecture).measurements)

    return search(open_store(None), evaluate, seed)


def differences(found: list[Trial], expected: list[Trial]) -> dict[str, int]:
    """How many trials are missing, there twice, invented (never proposed otherwise), or other."""
    numbers = [trial.number for trial in found]
    by_number = {trial.number: trial for trial in found}
    known = {trial.architecture for trial in expected}
    return {
        "missing": sum(trial.number not in by_number for trial in expected),
        "twice": len(numbers) - len(set(numbers)) + _num_repeated(found),
        "invented": sum(trial.architecture not in known for trial in found),
        "other": sum(by_number.get(trial.number, trial) != trial for trial in expected),
    }


def _num_repeated(trials: list[Trial]) -> int:
    return len(trials) - len({trial.architecture for trial in trials})


_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["nasbench.distributed.pool", __name__])  # once, not per driver


class Driver:
    """The process that searches; a context manager that leaves none behind."""

    def __init__(self, address: str, url: str, seed: int) -> None:
        self._said, saying = _PROCESSES.Pipe(duplex=False)
        self.process = _PROCESSES.Process(target=_drive, args=(address, url, seed, saying))
        self.process.start()
        saying.close()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self._said.close()

    def wait(self) -> tuple[int | None, str]:
        """The exit code (None where it does not end) and what it said."""
        self.process.join(_TIMEOUT_S)
        try:
            errors = str(self._said.recv()) if self._said.poll() else ""
        except EOFError:
            errors = ""
        return self.process.exitcode, errors


class Cluster:
    """A head without CPUs and nodes of one CPU each, all on this machine; a context manager."""

    def __init__(self, num_nodes: int = 2) -> None:
        importlib.import_module("nasbench.distributed")  # prepares Ray's environment, and drivers'
        os.environ.update(_ENVIRONMENT)
        from ray.cluster_utils import Cluster as RayCluster

        self._ray = RayCluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(num_nodes):
            self.add_node()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in [*self._ray.worker_nodes, self._ray.head_node]:
            self._signal(node, signal.SIGKILL)
        for node in [*self._ray.worker_nodes, self._ray.head_node]:
            self._ray.remove_node(node, allow_graceful=False)

    @property
    def address(self) -> str:
        """Where drivers connect."""
        return str(self._ray.address)

    def add_node(self, **options: Any) -> None:
        """Start a node and wait until it has joined."""
        self._ray.add_node(**{"num_cpus": 1, **options})

    def kill_worker(self, rng: random.Random) -> bool:
        """SIGKILL to one evaluation actor; whether there was one."""
        workers = [
            pid
            for node in self._nodes
            for pid in _processes(node)
            if b"EvaluationWorker" in _command(pid)
        ]
        if workers:
            _send(rng.choice(workers), signal.SIGKILL)
        return bool(workers)

    def kill_node(self, rng: random.Random) -> None:
        """SIGKILL to all processes of a node, and another one in its place."""
        self._replace(rng.choice(self._nodes))

    def hang_node(self, rng: random.Random) -> Callable[[], None]:
        """SIGSTOP to all processes of a node; what wakes them up and then replaces the node."""
        node = rng.choice(self._nodes)
        stopped = self._signal(node, signal.SIGSTOP)

        def wake() -> None:
            for pid in stopped:
                _send(pid, signal.SIGCONT)
            time.sleep(1.0)  # for late answers
            self._replace(node)

        return wake

    def _replace(self, node: Any) -> None:
        self._signal(node, signal.SIGKILL)
        self._ray.remove_node(node, allow_graceful=False)
        self.add_node()

    def kill_head(self) -> None:
        """SIGKILL to all processes of the head; the cluster is of no use after it."""
        self._signal(self._ray.head_node, signal.SIGKILL)

    @property
    def _nodes(self) -> list[Any]:
        return sorted(self._ray.worker_nodes, key=lambda node: str(node.unique_id))

    def _signal(self, node: Any, number: int) -> list[int]:
        pids = _processes(node)
        for pid in pids:
            _send(pid, number)
        return pids


def _processes(node: Any) -> list[int]:
    """A node's own processes and all that they started."""
    found = [info.process.pid for infos in node.all_processes.values() for info in infos]
    for pid in found:  # which grows
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            found += [int(child) for child in children.split()]
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def num_finished(store: TrialStore) -> int:
    """How many trials the store has seen the end of, asked beside the process that writes it."""
    try:
        return sum(trial.state.is_finished for trial in store.trials())
    except NasbenchError:  # a server that restarts
        return 0


def play(
    kind: str, cluster: Cluster, url: str, seed: int, restart_server: Callable[[], None]
) -> dict[str, Any]:
    """One round: a search that something happens to at a random moment, to its end.

    Args:
        kind: what is killed: "worker", "node", "driver", "head" or "server"; or "hang", a node that
            is stopped for longer than an evaluation may take.
        cluster: ends with the head where this is killed; a driver then goes on on another one.
        url: of a new store.
        seed: of the search and of the moment.
        restart_server: kills the store's server and starts it again.

    Returns:
        "differences" to the uninterrupted search, "at" (trials finished when it happened), and
        "num_drivers" that it took.
    """
    rng = random.Random(seed)
    moment, delay = rng.randrange(NUM_TRIALS - _BATCH_SIZE), rng.uniform(0, 0.1)
    num_drivers = 1
    store = open_store(url)
    with Driver(cluster.address, url, seed) as driver:
        while num_finished(store) < moment and driver.process.is_alive():
            time.sleep(0.02)
        time.sleep(delay)
        at = num_finished(store)
        if kind == "worker":
            cluster.kill_worker(rng)
        elif kind == "node":
            cluster.kill_node(rng)
        elif kind == "driver":
            driver.process.kill()
        elif kind == "head":
            cluster.kill_head()
        elif kind == "server":
            restart_server()
        elif kind == "hang":
            wake = cluster.hang_node(rng)
            time.sleep(1.5 * _PATIENCE_S)
            wake()
        code, errors = driver.wait()
    if kind in ("driver", "head"):
        assert code != 0, "the driver goes with what it needs"
        if kind == "head":
            cluster.__exit__(None, None, None)
            cluster.__init__()  # type: ignore[misc]
        num_drivers += 1
        with Driver(cluster.address, url, seed) as driver:
            code, errors = driver.wait()
    if code != 0:
        raise RuntimeError(f"the driver of a round '{kind}' (seed {seed}) failed: {errors}")
    return {
        "differences": differences(store.trials(), expected_trials(seed)),
        "at": at,
        "num_drivers": num_drivers,
    }


def _drive(address: str, url: str, seed: int, saying: Connection) -> None:
    from nasbench.config import ResourcesConfig
    from nasbench.distributed.cluster import connected
    from nasbench.distributed.pool import RayPool

    resources = ResourcesConfig(workers=2, address=address, trial_timeout_s=_PATIENCE_S)
    recipe = ToyRecipe(seconds=_SECONDS)
    try:
        with connected(resources), RayPool(recipe, None, resources) as pool:
            search(open_store(url), pool.evaluate, seed)
    except NasbenchError as error:
        saying.send(str(error))
        raise SystemExit(1) from None
