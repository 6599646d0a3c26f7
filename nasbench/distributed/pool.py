"""The pool: persistent workers that evaluate trials, and one that measures latency.

Each worker loads the supernet and the data once and then answers architectures. Latency is measured
by an actor that holds its node's latency slot, and only while no evaluation runs on that node, so
a measurement never shares a machine with anything of this run. A worker that dies or hangs is
replaced and its trial tried again.

A trial's numbers depend on its architecture alone, not on which worker evaluates it or when.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import ray

from nasbench.config import ResourcesConfig
from nasbench.distributed.clock import Failure, LatencyWorker, check_device, latency_actor
from nasbench.errors import RequestError, WorkError
from nasbench.evaluation import Evaluated, EvaluatorRecipe
from nasbench.hardware import LatencyMeasurement, LatencyProtocol
from nasbench.space import Architecture
from nasbench.supernet.threads import torch_threads
from nasbench.trials import FULL, Trial

_START_TIMEOUT_S = 120.0


class Evaluates(Protocol):
    """What answers architectures, as `Evaluator` does."""

    def evaluate(self, architecture: Architecture, *, fidelity: str) -> Evaluated:
        """Measurements on the validation data, and the compiled network."""


class Recipe(Protocol):
    """What an evaluator is built from, as `EvaluatorRecipe` is."""

    @property
    def engine(self) -> str | None:
        """The inference engine to compile for; None where no latency is asked for."""

    @property
    def num_threads(self) -> int:
        """Torch threads of an evaluation."""

    def build(self) -> Evaluates:
        """The evaluator."""


class EvaluationWorker:
    """Answers architectures; lives in an actor or in the calling process."""

    def __init__(self, recipe: Recipe) -> None:
        self._evaluator = recipe.build()

    def node(self) -> str:
        """The Ray node that this worker runs on."""
        return ray.get_runtime_context().get_node_id()

    def evaluate(
        self, architecture: Architecture, fidelity: str = FULL
    ) -> tuple[Mapping[str, float], Any] | Failure:
        """Measurements on the validation data, and the compiled network."""
        try:
            found = self._evaluator.evaluate(architecture, fidelity=fidelity)
        except Exception as error:  # recorded with the trial; the search decides what it means
            return Failure.of(error)
        return found.measurements, found.artifact


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
        """Yield each trial finished, in the given order."""
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
    """A Ray actor that can be started anew, with the task it is working on."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self.task: _Task | None = None
        self.deadline = 0.0
        self.node = ""
        self.handle = start()

    def restart(self) -> None:
        """Start another actor in its place, and wait for it."""
        self.handle = self._start()
        self.wait()

    def wait(self) -> None:
        """Wait until the actor answers, and learn where it is.

        Raises:
            WorkError: if the cluster has no room for it.
        """
        try:
            self.node = ray.get(self.handle.node.remote(), timeout=_START_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError:
            raise WorkError(
                f"a worker did not start within {_START_TIMEOUT_S:g} s; other work holds the "
                "cluster's CPUs or its latency slot"
            ) from None
        except ray.exceptions.RayActorError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise WorkError(f"a worker cannot start: {reason}") from None

    def kill(self) -> None:
        """End the actor."""
        ray.kill(self.handle)


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
    """

    def __init__(
        self,
        recipe: EvaluatorRecipe,
        protocol: LatencyProtocol | None,
        resources: ResourcesConfig,
        device: str | None = None,
    ) -> None:
        self._resources = resources
        self._check_cpus()
        if recipe.engine is not None and protocol is not None:
            check_device(device)
        stored = ray.put(recipe)
        evaluator = ray.remote(num_cpus=resources.cpus_per_worker)(EvaluationWorker)
        self._evaluators = [
            _Actor(lambda: evaluator.remote(stored)) for _ in range(resources.workers)
        ]
        self._timer = None
        if recipe.engine is not None and protocol is not None:
            timer, engine = latency_actor(recipe.engine, device), recipe.engine
            self._timer = _Actor(lambda: timer.remote(engine, protocol))
        for actor in self._actors():
            actor.wait()

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors():
            actor.kill()
        self._evaluators, self._timer = [], None

    def _actors(self) -> list[_Actor]:
        return [*self._evaluators, *([self._timer] if self._timer else [])]

    def _check_cpus(self) -> None:
        offered = ray.cluster_resources()
        workers, size = self._resources.workers, self._resources.cpus_per_worker
        if offered.get("CPU", 0) < workers * size:
            raise RequestError(
                f"{workers} workers of {size} CPUs each need {workers * size} CPUs, but the "
                f"cluster has {offered.get('CPU', 0):g}; lower resources.workers or add nodes"
            )

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial finished, in the order in which workers finish them."""
        to_evaluate = deque(_Task(trial) for trial in trials)
        to_time: deque[_Task] = deque()
        in_flight: dict[Any, _Actor] = {}
        while to_evaluate or to_time or in_flight:
            self._dispatch(to_evaluate, to_time, in_flight)
            for actor, task, answer in self._answers(in_flight):
                if answer is _DIED:
                    actor.restart()
                    task.num_deaths += 1
                    if task.num_deaths > self._resources.max_retries:
                        yield task.trial.failed(f"its worker died {task.num_deaths} times")
                    else:
                        (to_evaluate if task.measurements is None else to_time).appendleft(task)
                elif isinstance(answer, Failure):
                    yield task.trial.failed(answer.reason)
                elif task.measurements is not None:
                    yield _finished(task.trial, task.measurements, answer)
                else:
                    task.measurements, task.artifact = answer
                    if self._timer is None:
                        yield _finished(task.trial, task.measurements, None)
                    else:
                        to_time.append(task)

    def _dispatch(
        self, to_evaluate: deque[_Task], to_time: deque[_Task], in_flight: dict[Any, _Actor]
    ) -> None:
        """Give idle actors work, evaluations first; a node evaluates or measures, never both."""
        timer = self._timer
        for actor in self._evaluators:
            is_quiet = timer is not None and timer.task is not None and timer.node == actor.node
            if to_evaluate and actor.task is None and not is_quiet:
                task = to_evaluate.popleft()
                call = actor.handle.evaluate.remote(task.trial.architecture, task.trial.fidelity)
                self._started(call, actor, task, in_flight)
        if timer is None or timer.task is not None or not to_time:
            return
        if all(actor.task is None or actor.node != timer.node for actor in self._evaluators):
            task = to_time.popleft()
            self._started(timer.handle.measure.remote(task.artifact), timer, task, in_flight)

    def _started(self, call: Any, actor: _Actor, task: _Task, in_flight: dict[Any, _Actor]) -> None:
        actor.task = task
        actor.deadline = time.monotonic() + self._resources.trial_timeout_s
        in_flight[call] = actor

    def _answers(self, in_flight: dict[Any, _Actor]) -> Iterator[tuple[_Actor, _Task, Any]]:
        """Wait for an answer, a death or a deadline; afterwards those actors are idle."""
        patience = min(actor.deadline for actor in in_flight.values()) - time.monotonic()
        ready, silent = ray.wait(list(in_flight), timeout=max(0.0, patience))
        overdue = [call for call in silent if in_flight[call].deadline <= time.monotonic()]
        for call in [*ready, *overdue]:
            actor = in_flight.pop(call)
            task, actor.task = actor.task, None
            assert task is not None, "an actor in flight has a task"
            if call in overdue:
                actor.kill()
                yield actor, task, _DIED
                continue
            try:
                yield actor, task, ray.get(call)
            except ray.exceptions.RayActorError:
                yield actor, task, _DIED
