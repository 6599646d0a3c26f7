"""The pool: persistent workers that evaluate trials, and one that measures latency.

Each worker loads the supernet and the data once and then answers architectures. Latency is measured
by an actor that holds its node's latency slot. Where the other nodes have room for the workers they
are kept off that node; else a node evaluates or measures, never both at once. So a measurement
never shares a machine with anything of this run.

A worker that dies or hangs is replaced, its trial tried again, and meanwhile the others go on. Of a
search's trials no more than a few per worker are on their way at any time.

A trial's numbers depend on its architecture alone, not on which worker evaluates it or when.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ray

from nasbench.config import ResourcesConfig
from nasbench.distributed.clock import LatencyWorker, check_device, latency_actor
from nasbench.distributed.worker import EvaluationWorker, Failure, Recipe
from nasbench.errors import RequestError, WorkError
from nasbench.hardware import LatencyMeasurement, LatencyProtocol
from nasbench.supernet.threads import torch_threads
from nasbench.trials import Trial

_START_TIMEOUT_S = 120.0
_MAX_WAITING = 2  # evaluated trials per worker that wait to be timed; each holds a network


def _finished(
    trial: Trial, measurements: Mapping[str, float], latency: LatencyMeasurement | None
) -> Trial:
    """The trial with what was measured; FAILED where that is no number."""
    found = {**measurements, **(latency.to_metrics() if latency else {})}
    for name, value in found.items():
        if not math.isfinite(value):
            return trial.failed(f"its {name} is {value}")
    return trial.completed(found, latency.to_provenance() if latency else {})


class LocalPool:
    """Evaluates in the calling process, one trial after the other (`workers: 0`)."""

    def __init__(self, recipe: Recipe, protocol: LatencyProtocol | None) -> None:
        self._num_threads = recipe.num_threads
        with torch_threads(recipe.num_threads):
            self._evaluator = EvaluationWorker(recipe)
        self._timer = LatencyWorker(recipe.engine, protocol) if recipe.engine and protocol else None

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial finished, in the given order; more may be appended meanwhile."""
        for trial in trials:
            with torch_threads(self._num_threads):
                finished = self._evaluate(trial)
            yield finished

    def _evaluate(self, trial: Trial) -> Trial:
        evaluated = self._evaluator.evaluate(trial.architecture, trial.fidelity)
        if isinstance(evaluated, Failure):
            return trial.failed(evaluated.reason)
        measurements, artifact = evaluated
        latency = self._timer.measure(artifact) if self._timer else None
        if isinstance(latency, Failure):
            return trial.failed(latency.reason)
        return _finished(trial, measurements, latency)


@dataclass
class _Task:
    """A trial on its way: first to be evaluated, then (with measurements) to be timed."""

    trial: Trial
    measurements: Mapping[str, float] | None = None
    artifact: Any = None
    num_deaths: int = 0


class _Actor:
    """A Ray actor that can be started anew, with the task it is working on.

    Attributes:
        node: where it runs; empty until it answered.
        deadline: by when it must have answered what it was asked last.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self.task: _Task | None = None
        self.num_failures = 0  # to start, in a row
        self.launch()

    def launch(self) -> Any:
        """Start an actor, in place of an earlier one; the call that it answers first."""
        self.node = ""
        self.handle = self._start()
        self.deadline = time.monotonic() + _START_TIMEOUT_S
        self.greeting = self.handle.node.remote()
        return self.greeting

    @property
    def is_idle(self) -> bool:
        """Whether it runs and has nothing to do."""
        return self.node != "" and self.task is None

    def wait(self) -> None:
        """Wait until the actor answers, and learn where it is.

        Raises:
            WorkError: if it cannot start, or the cluster has no room for it.
            _KilledError: if its process or its node died meanwhile.
        """
        try:
            self.node = ray.get(self.greeting, timeout=self.deadline - time.monotonic())
            self.num_failures = 0
        except ray.exceptions.GetTimeoutError:
            raise WorkError(
                f"a worker did not start within {_START_TIMEOUT_S:g} s; other work holds the "
                "cluster's CPUs or its latency slot"
            ) from None
        except ray.exceptions.RayError as error:
            is_own_fault = "error raised in its creation task" in str(error)
            kind = WorkError if is_own_fault else _KilledError
            raise kind(f"a worker cannot start: {_last_line(error)}") from None

    def kill(self) -> None:
        """End the actor."""
        ray.kill(self.handle)


class _KilledError(WorkError):
    """A worker died before it answered, for reasons outside of it."""


_DIED: Final = "died"


class RayPool:
    """Evaluates on Ray actors. Use as a context manager, or `close` it.

    Args:
        recipe: put into the object store once; every worker builds its evaluator from it.
        protocol: how latency is measured; None where it is not asked for.
        resources: how many workers, of which size, and how patient to be with them.
        device: the target device that measures latency; None takes any node with a latency slot.

    Raises:
        RequestError: if the cluster does not offer these resources.
        WorkError: if a worker cannot start, or the object store has no room for the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        protocol: LatencyProtocol | None,
        resources: ResourcesConfig,
        device: str | None = None,
    ) -> None:
        self._resources = resources
        _check_room(resources)
        self._evaluators: list[_Actor] = []
        self._timer: _Actor | None = None
        self._starting: dict[Any, _Actor] = {}
        engine = recipe.engine if protocol is not None else None
        if engine is not None:
            check_device(device)
        try:
            stored = _stored(recipe)
            if engine is not None:
                timer = latency_actor(engine, device)
                self._timer = _Actor(lambda: timer.remote(engine, protocol))
                self._await(self._timer)
            self._evaluators = [
                _Actor(lambda: self._evaluation_actor().remote(stored))
                for _ in range(resources.workers)
            ]
            for actor in self._evaluators:
                self._await(actor)
        except BaseException:
            self.close()
            raise

    def _await(self, actor: _Actor) -> None:
        """Wait until an actor runs; where it is killed meanwhile, start another."""
        while True:
            try:
                actor.wait()
                return
            except _KilledError:
                actor.num_failures += 1
                if actor.num_failures > self._resources.max_retries:
                    raise
                actor.launch()

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all actors."""
        for actor in [*self._evaluators, *([self._timer] if self._timer else [])]:
            actor.kill()
        self._evaluators, self._timer, self._starting = [], None, {}

    def _evaluation_actor(self) -> Any:
        """The class of the workers' actors, to be placed as the cluster is now."""
        options: dict[str, Any] = {
            "num_cpus": self._resources.cpus_per_worker,
            "num_gpus": self._resources.gpus_per_worker,
        }
        timer_node = self._timer.node if self._timer else ""
        if timer_node and _room(self._resources, but=timer_node) >= self._resources.workers:
            options["label_selector"] = {"ray.io/node-id": f"!{timer_node}"}
        return ray.remote(**options)(EvaluationWorker)

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial finished, in the order in which workers finish them.

        Args:
            trials: more may be appended until the last is yielded.

        Raises:
            WorkError: if no worker is left, or Ray has no room for what they answer.
        """
        num_taken = 0
        to_evaluate: deque[_Task] = deque()
        to_time: deque[_Task] = deque()
        in_flight: dict[Any, _Actor] = {}
        while num_taken < len(trials) or to_evaluate or to_time or in_flight:
            to_evaluate.extend(_Task(trial) for trial in trials[num_taken:])
            num_taken = len(trials)
            self._dispatch(to_evaluate, to_time, in_flight)
            finished: list[Trial] = []
            try:
                for actor, task, answer in self._answers(in_flight):
                    if answer is _DIED:
                        self._replace(actor)
                        task.num_deaths += 1
                        if task.num_deaths > self._resources.max_retries:
                            reason = f"its worker died {task.num_deaths} times"
                            finished.append(task.trial.failed(reason))
                        else:
                            waiting = to_evaluate if task.measurements is None else to_time
                            waiting.appendleft(task)
                    elif isinstance(answer, Failure):
                        finished.append(task.trial.failed(answer.reason))
                    elif task.measurements is not None:
                        finished.append(_finished(task.trial, task.measurements, answer))
                    else:
                        task.measurements, task.artifact = answer
                        if self._timer is None:
                            finished.append(_finished(task.trial, task.measurements, None))
                        else:
                            to_time.append(task)
                # Workers go on while the trials are written to the store.
                self._dispatch(to_evaluate, to_time, in_flight)
            finally:  # what was measured is kept, also where no worker is left
                yield from finished

    def _dispatch(
        self, to_evaluate: deque[_Task], to_time: deque[_Task], in_flight: dict[Any, _Actor]
    ) -> None:
        """Give idle actors work, evaluations first; a node evaluates or measures, never both."""
        timer = self._timer
        for actor in self._evaluators:
            if len(to_time) >= _MAX_WAITING * len(self._evaluators):
                break
            is_quiet = timer is not None and timer.task is not None and timer.node == actor.node
            if to_evaluate and actor.is_idle and not is_quiet:
                task = to_evaluate.popleft()
                call = actor.handle.evaluate.remote(task.trial.architecture, task.trial.fidelity)
                self._started(call, actor, task, in_flight)
        if timer is None or not timer.is_idle or not to_time:
            return
        if all(actor.task is None or actor.node != timer.node for actor in self._evaluators):
            task = to_time.popleft()
            with _sentences():
                call = timer.handle.measure.remote(task.artifact)
            self._started(call, timer, task, in_flight)

    def _started(self, call: Any, actor: _Actor, task: _Task, in_flight: dict[Any, _Actor]) -> None:
        actor.task = task
        actor.deadline = time.monotonic() + self._resources.trial_timeout_s
        in_flight[call] = actor

    def _answers(self, in_flight: dict[Any, _Actor]) -> Iterator[tuple[_Actor, _Task, Any]]:
        """Wait for answers, deaths or a deadline; afterwards those actors are idle."""
        calls = {**in_flight, **self._starting}
        patience = min(actor.deadline for actor in calls.values()) - time.monotonic()
        ready, silent = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        if not ready:
            ready, silent = ray.wait(list(calls), timeout=max(0.0, patience))
        overdue = {call for call in silent if calls[call].deadline <= time.monotonic()}
        for call in [*ready, *overdue]:
            actor = calls[call]
            if self._starting.pop(call, None) is not None:
                self._greet(actor)
                continue
            del in_flight[call]
            task, actor.task = actor.task, None
            assert task is not None, "an actor in flight has a task"
            yield actor, task, _DIED if call in overdue else _answer(call)

    def _replace(self, actor: _Actor) -> None:
        """Start another actor in the place of one that died or hangs; the others go on."""
        actor.kill()
        self._starting[actor.launch()] = actor

    def _greet(self, actor: _Actor) -> None:
        """Learn where a new actor is; where it did not start, try again or do without it."""
        try:
            actor.wait()
        except WorkError:
            actor.num_failures += 1
            if actor.num_failures <= self._resources.max_retries:
                self._replace(actor)
            elif actor is self._timer or self._evaluators == [actor]:
                raise
            else:
                actor.kill()
                self._evaluators.remove(actor)


def _answer(call: Any) -> Any:
    """What a call gave: an answer, a `Failure`, or that its actor died."""
    try:
        with _sentences():
            return ray.get(call)
    except ray.exceptions.RayTaskError as error:  # an answer that cannot be sent, say
        return Failure.of(error.cause)
    except ray.exceptions.RayError:  # the actor's process, its node, or the answer on the way
        return _DIED


def _stored(recipe: Recipe) -> Any:
    """The recipe in the object store, from where each node fetches it once."""
    with _sentences():
        return ray.put(recipe)


@contextmanager
def _sentences() -> Iterator[None]:
    """Say it where Ray has no room for something; other errors pass."""
    try:
        yield
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise WorkError(
            f"Ray has no room for the supernet, the data or an answer: {_last_line(error)}; give "
            "it more with ray start --object-store-memory, or free its disk; what is finished is "
            "kept, and the same command carries on"
        ) from None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _room(resources: ResourcesConfig, but: str = "") -> int:
    """How many workers fit into the cluster, without one of its nodes, if nothing else runs."""
    num_workers = 0
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != but:
            has = node["Resources"]
            fits = has.get("CPU", 0) // resources.cpus_per_worker
            if resources.gpus_per_worker:
                fits = min(fits, has.get("GPU", 0) / resources.gpus_per_worker)
            num_workers += int(fits)
    return num_workers


def _check_room(resources: ResourcesConfig) -> None:
    if _room(resources) >= resources.workers:
        return
    size = f"{resources.cpus_per_worker} CPUs"
    if resources.gpus_per_worker:
        size += f" and {resources.gpus_per_worker:g} GPUs"
    offered = ray.cluster_resources()
    raise RequestError(
        f"{resources.workers} workers of {size} each do not fit on the nodes of the cluster, which "
        f"has {offered.get('CPU', 0):g} CPUs and {offered.get('GPU', 0):g} GPUs; lower "
        "resources.workers or add nodes"
    )
