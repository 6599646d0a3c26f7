"""Sweeps: pieces of work on Ray Tune, each in a process with resources of its own.

A piece of work keeps its own results where it can find them again; Tune decides which runs when and
which training is stopped early, and starts again what died. Its own state is pickled, and pickles
are never read from a folder that somebody else may have written: it lies in this user's
`~/.local/state/nasbench/sweeps` (or below `XDG_STATE_HOME`) on the machine that drives the sweep.
Where that state is lost, nothing is but the ranks of trainings for early stopping.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_REPORT_EVERY_S = 2.0
_END = "end"


class Work(Protocol):
    """What is done for each name, in a process of its own; it is pickled on its way there."""

    def __call__(self, name: str, tell: "Tell") -> str | None:
        """Do it, or carry on with it; returns why that failed, or None where it did not.

        Only where its process or node dies is it tried again.
        """


class Tell:
    """How a piece of work says where it is."""

    def __init__(self) -> None:
        self._last = 0.0

    def progress(self, stage: str, done: int, total: int, text: str = "") -> None:
        """What is being done; told to whoever watches every now and then."""
        now = time.monotonic()
        if done in (0, total) or now - self._last >= _REPORT_EVERY_S:
            self._last = now
            tune.report({"stage": stage, "num_done": done, "num_total": total, "text": text})

    def quality(self, epoch: int, quality: float) -> None:
        """How good what is being trained is, larger is better; training may end with this call."""
        tune.report({"epoch": epoch, "quality": quality})


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """ASHA over what `Tell.quality` says."""

    grace_epochs: int
    reduction_factor: float
    max_epochs: int


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How pieces of work are done.

    Args:
        bundles: name -> resources: the first are its own, the others its further processes'.
        max_concurrent: how many are done at once; None takes as many as there is room for.
        max_retries: how often one is started again after its process or node died.
    """

    bundles: Mapping[str, Sequence[Mapping[str, float]]]
    max_concurrent: int | None
    max_retries: int
    early_stopping: EarlyStopping | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened to a piece of work: "running" (with what it told), "done", "stopped" (early) or
    "failed" (with a reason).
    """

    name: str
    state: str
    told: Mapping[str, Any]
    reason: str = ""


def run_on_tune(
    work: Work,
    names: Sequence[str],
    key: str,
    settings: TuneSettings,
    on_event: Callable[[Event], None],
) -> None:
    """Do all pieces of work; one that fails does not stop the others.

    Where an earlier call of the same key was interrupted, Tune carries on from its state.

    Args:
        names: of what is still to be done.
        key: of this set of work, in letters that a file's name may have.
        on_event: called with all that happens, by name; the last event of a name is final.
    """
    if not ray.util.client.ray.is_connected():
        _drive(work, names, key, settings, on_event)
        return
    # Tune's driver belongs into the cluster, beside the server of the Ray client.
    events = Queue()
    node = ray.get(ray.remote(num_cpus=0)(_node).remote())
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    drive = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_drive)

    def listen() -> None:
        while (event := events.get()) != _END:
            on_event(event)

    listener = threading.Thread(target=listen, name="sweep-events", daemon=True)
    listener.start()
    try:
        ray.get(drive.remote(work, names, key, settings, events.put))
    finally:
        events.put(_END)
        listener.join()


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _drive(
    work: Work,
    names: Sequence[str],
    key: str,
    settings: TuneSettings,
    on_event: Callable[[Event], None],
) -> None:
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # plug-ins and data lie where the user works
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # each run has its own log
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a quality is told now and then
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is one for all commands
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # what prints although it is told to be silent
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told as events
    state = _state_folder() / key
    trainable = tune.with_resources(_trainable(work), _resources(settings.bundles))
    _Watch.on_event = on_event
    if set(names) <= _unfinished(state):
        tuner = tune.Tuner.restore(str(state), trainable, restart_errored=True)
    else:
        shutil.rmtree(state, ignore_errors=True)
        tuner = tune.Tuner(
            trainable,
            param_space={"name": tune.grid_search(list(names))},
            tune_config=tune.TuneConfig(
                scheduler=_scheduler(settings.early_stopping),
                max_concurrent_trials=settings.max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=_dirname,
            ),
            run_config=tune.RunConfig(
                name=state.name,
                storage_path=str(state.parent),
                failure_config=tune.FailureConfig(max_failures=settings.max_retries),
                callbacks=[_Watch()],
                verbose=0,
            ),
        )
    tuner.fit()
    shutil.rmtree(state, ignore_errors=True)  # nothing is left to carry on with


def _state_folder() -> Path:
    """Where Tune's state is kept: below this user's, for nobody else to write to."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(home).expanduser() / "nasbench" / "sweeps"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _unfinished(state: Path) -> set[str]:
    """Names that Tune would go on with; none where there is no state."""
    if not tune.Tuner.can_restore(str(state)):
        return set()
    try:
        trials = tune.ExperimentAnalysis(str(state)).trials
    except ValueError:  # killed before its first snapshot
        return set()
    return {trial.config["name"] for trial in trials if trial.status != "TERMINATED"}


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


def _trainable(work: Work) -> Callable[[Mapping[str, Any]], None]:
    def sweep_member(config: Mapping[str, Any]) -> None:
        reason = work(config["name"], Tell())
        tune.report({"ended": "done" if reason is None else "failed", "reason": reason or ""})

    return sweep_member


def _resources(
    bundles: Mapping[str, Sequence[Mapping[str, float]]],
) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    def of_member(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([dict(bundle) for bundle in bundles[config["name"]]])

    return of_member


def _scheduler(asked: EarlyStopping | None) -> Any:
    if asked is None:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        metric="quality",
        mode="max",
        max_t=max(asked.max_epochs, asked.grace_epochs),
        grace_period=asked.grace_epochs,
        reduction_factor=asked.reduction_factor,
        stop_last_trials=False,  # what is trained goes on to be searched
    )


class _Watch(tune.Callback):
    """Tells of what happens. It is pickled with Tune's state, so it holds nothing."""

    on_event: Callable[[Event], None]

    def on_trial_start(self, **info: Any) -> None:
        _tell(info["trial"], "running")

    def on_trial_result(self, **info: Any) -> None:
        if "ended" not in info["result"]:
            _tell(info["trial"], "running", told=info["result"])

    def on_trial_complete(self, **info: Any) -> None:
        last = info["trial"].last_result
        _tell(info["trial"], last.get("ended", "stopped"), last.get("reason", ""), told=last)

    def on_trial_error(self, **info: Any) -> None:
        trial = info["trial"]
        again = f" {trial.num_failures} times" if trial.num_failures > 1 else ""
        _tell(trial, "failed", f"its process died{again}")


def _tell(trial: Any, state: str, reason: str = "", told: Mapping[str, Any] | None = None) -> None:
    kept = ("stage", "num_done", "num_total", "text", "epoch", "quality")
    told = {key: value for key, value in (told or {}).items() if key in kept}
    event = Event(name=trial.config["name"], state=state, told=told, reason=reason)
    _Watch.on_event(event)
