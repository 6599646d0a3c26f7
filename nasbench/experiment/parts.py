"""The parts of a run, built from its configuration."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.config import RunConfig, SupernetConfig
from nasbench.errors import RequestError, WorkError
from nasbench.evaluation import EvaluatorRecipe
from nasbench.experiment.device_files import read_device_file
from nasbench.experiment.earlier import earlier_trials
from nasbench.experiment.run import Run
from nasbench.hardware import LatencyProtocol
from nasbench.objectives import METRICS, Constraint
from nasbench.search import ALGORITHMS, SearchAlgorithm, SearchProblem
from nasbench.search.loop import Evaluate
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS
from nasbench.supernet.base import Supernet
from nasbench.supernet.convert import convert
from nasbench.supernet.training.checkpoint import load_latest
from nasbench.tasks import TASKS, Task
from nasbench.trials import Trial, TrialState

LATENCY_METRICS = ("latency_ms", "latency_p10_ms", "latency_p90_ms")


def build_task(config: RunConfig) -> Task:
    """The task, from `task.data_dir` or the environment's NASBENCH_DATA.

    With a pre-trained network a task of text reads with its tokenizer, unless it has another.

    Raises:
        RequestError: for data that is missing or wrong, an option that the task does not know,
            or a run that searches a table.
    """
    task, supernet = config.network_sections()
    builder = TASKS[task.name]
    options = dict(task.options)
    if supernet.pretrained is not None and "tokenizer" in signature(builder).parameters:
        options.setdefault("tokenizer", str(supernet.pretrained / "tokenizer.json"))
    try:
        return builder(public_data(task.data_dir), **options)
    except TypeError as error:
        raise RequestError(f"task.options do not fit '{task.name}': {error}") from error


def public_data(data_dir: Path | None) -> Path | None:
    """The folder of the public data: a section's `data_dir`, or the environment's NASBENCH_DATA."""
    folder = data_dir or os.environ.get("NASBENCH_DATA")
    return Path(folder) if folder else None


def build_supernet(config: RunConfig, task: Task) -> Supernet[Any]:
    """The supernet with fresh weights, for the task's inputs and outputs.

    Raises:
        RequestError: if the family is for other data than the task's, or an option is unknown.
    """
    asked = config.network_sections()[1]
    name, from_data = asked.family, task.network_settings
    family = SUPERNETS[name]
    if not set(from_data) <= set(family.settings):
        fitting = [n for n in SUPERNETS if set(from_data) <= set(SUPERNETS[n].settings)]
        raise RequestError(
            f"the family '{name}' is not for data such as that of task '{task.name}', which "
            f"decides {', '.join(from_data)}; possible: {', '.join(fitting) or 'none'}"
        )
    if asked.pretrained is not None:
        return _converted(asked, config.seed, from_data)
    options = asked.options
    for own in ("preset", "sharing", "seed"):
        if own in options:
            place = "seed" if own == "seed" else f"supernet.{own}"
            raise RequestError(f"supernet.options cannot set {own}; set {place}")
    decided = sorted(set(options) & set(from_data))
    if decided:
        raise RequestError(f"supernet.options cannot set {decided[0]}, which the data decides")
    return family.build(
        preset=asked.preset,
        sharing=asked.sharing,
        seed=config.seed,
        **{**options, **from_data},
    )


def _converted(asked: SupernetConfig, seed: int, from_data: Mapping[str, Any]) -> Supernet[Any]:
    """The pre-trained network as a supernet, which has to be of the family that is named."""
    assert asked.pretrained is not None
    supernet = convert(
        asked.pretrained,
        elastic=asked.elastic or None,
        order=asked.order,
        seed=seed,
        **from_data,
    )
    family = supernet.settings["family"]
    if family != asked.family:
        raise RequestError(
            f"the network in '{asked.pretrained}' becomes a supernet of the family '{family}', "
            f"not '{asked.family}'"
        )
    return supernet


def training_fingerprint(config: RunConfig, supernet: Supernet[Any], task: Task) -> str:
    """Of everything that the trained weights depend on."""
    return digest(
        [
            config.seed,
            supernet.fingerprint,
            task.digests(),
            config.network_sections()[0].options,
            config.training.identity(),
            *_pretrained_weights(supernet),
        ]
    )


def _pretrained_weights(supernet: Supernet[Any]) -> list[str]:
    """What names the weights that training starts from, and their order, if they are given."""
    origin = supernet.settings.get("pretrained")
    return [] if origin is None else [origin["digest"], origin["order"]]


def search_fingerprint(config: RunConfig, supernet: Supernet[Any], task: Task) -> str:
    """Of everything that a trial's measurements depend on."""
    latency = config.latency.model_dump(mode="json")
    if config.latency.predictor is not None:  # what it says, wherever it lies
        latency["predictor"] = read_device_file(config.latency.predictor).model_dump(mode="json")
    shapes = config.shape_search
    evaluation = config.evaluation.model_dump(mode="json")
    if evaluation["screening"] is None:  # as before there was any
        del evaluation["screening"]
    return digest(
        [
            training_fingerprint(config, supernet, task),
            evaluation,
            latency,
            *([] if shapes is None else [shapes.model_dump(mode="json")]),
        ]
    )


def digest(value: object) -> str:
    """A name for plain values, which changes when any of them does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def load_trained(run: Run) -> tuple[Supernet[Any], Task]:
    """The run's trained supernet and its task.

    Raises:
        WorkError: if training is not finished.
        RequestError: if the checkpoint is damaged, or each of the run's networks has weights of
            its own.
    """
    if run.config.shape_search is not None:
        raise RequestError(
            f"'{run.folder}' learned shapes by gradient, each of which has weights of its own, so "
            "there is no supernet that holds them all"
        )
    task = build_task(run.config)
    supernet = build_supernet(run.config, task)
    fingerprint = training_fingerprint(run.config, supernet, task)
    checkpoint = load_latest(run.checkpoints, fingerprint)
    if checkpoint is None or not checkpoint.is_final:
        raise WorkError(f"the supernet of '{run.folder}' is not trained yet; run: nasbench train")
    supernet.load_weights(checkpoint.trained_weights)
    return supernet, task


def build_recipe(
    run: Run,
    supernet: Supernet[Any],
    task: Task,
    *,
    with_latency: bool = False,
    on_workers: bool = False,
) -> EvaluatorRecipe:
    """What a process needs to evaluate the run's trained sub-networks.

    Args:
        with_latency: whether networks are compiled for a clock as well.
        on_workers: whether the process has the GPUs that `resources` asks for.
    """
    config = run.config
    return EvaluatorRecipe(
        supernet_settings=supernet.settings,
        weights={name: tensor.numpy() for name, tensor in supernet.state_dict().items()},
        task=task,
        config=config.evaluation,
        engine=config.latency.engine if with_latency else None,
        latency_batch_size=config.latency.batch_size,
        latency_sequence_length=config.latency.sequence_length,
        num_threads=config.resources.cpus_per_worker,
        device="cuda" if on_workers and config.resources.gpus_per_worker else "cpu",
    )


def latency_protocol(config: RunConfig) -> LatencyProtocol:
    """The conditions under which the run measures latency."""
    elsewhere = {"engine", "device", "predictor"}
    return LatencyProtocol(**config.latency.model_dump(exclude=elsewhere))


PREDICTED_METRIC = "predicted_latency_ms"


def latency_predictor(run: Run, supernet: Supernet[Any]) -> Callable[[Architecture], float] | None:
    """What `predicted_latency_ms` is of an architecture; None where no file is given.

    Raises:
        RequestError: if the file is missing, damaged or about another supernet.
    """
    path = run.config.latency.predictor
    if path is None:
        return None
    predictor = read_device_file(path).fitted(supernet)

    def predicted_ms(architecture: Architecture) -> float:
        genome = supernet.space.to_genome(architecture)
        return float(predictor.predict(genome[None]).mean[0])

    return predicted_ms


def with_prediction(
    measure: Evaluate, predicted_ms: Callable[[Architecture], float] | None
) -> Evaluate:
    """The same, and what a file predicts, if there is one, stands beside what was measured."""
    if predicted_ms is None:
        return measure

    def evaluate(trials: Sequence[Trial]) -> Iterator[Trial]:
        for trial in measure(trials):
            if trial.state is TrialState.COMPLETE:
                found = {PREDICTED_METRIC: predicted_ms(trial.architecture)}
                trial = trial.completed({**trial.measurements, **found}, trial.provenance)
            yield trial

    return evaluate


def needs_latency(run: Run) -> bool:
    """Whether an objective or a constraint asks for a clock."""
    asked = [o.metric for o in run.objectives] + [c.metric for c in run.constraints]
    return any(metric in LATENCY_METRICS for metric in asked)


def build_problem(
    run: Run, supernet: Supernet[Any], constraints: Sequence[Constraint]
) -> SearchProblem:
    """What the search optimizes; counted metrics come with the function that counts them.

    Args:
        constraints: the run's, in absolute terms.
    """

    def counted(metric: str) -> Any:
        return lambda architecture: float(supernet.count(architecture)[metric])

    counts = {name: counted(name) for name in supernet.count(supernet.smallest)}
    predicted_ms = latency_predictor(run, supernet)
    if predicted_ms is not None:
        counts[PREDICTED_METRIC] = predicted_ms
    return SearchProblem(supernet.space, run.objectives, constraints=constraints, counted=counts)


def build_algorithm(run: Run, problem: SearchProblem) -> SearchAlgorithm:
    """The algorithm with its options; RequestError if it does not know one of them."""
    search = run.config.search
    if "earlier" in search.options:
        raise RequestError("search.options cannot set earlier; set search.earlier")
    options = dict(search.options)
    if search.earlier is not None:
        options["earlier"] = earlier_trials(run, problem)
    try:
        return ALGORITHMS[search.algorithm](problem, seed=run.config.seed, **options)
    except TypeError as error:
        raise RequestError(f"search.options do not fit '{search.algorithm}': {error}") from error


def check_reachable(
    constraint: Constraint, smallest: Mapping[str, float], largest: Mapping[str, float]
) -> None:
    """Refuse a constraint that no sub-network can meet.

    Args:
        smallest: what is counted of the smallest sub-network.
        largest: what is counted of the largest one.
    """
    extremes = {"<=": smallest, ">=": largest}[constraint.operator]
    best = extremes.get(constraint.metric)
    if METRICS[constraint.metric].unit == "fraction":
        best = 0.0 if constraint.operator == "<=" else 1.0
    if best is None:  # only a clock can tell
        best = np.nextafter(0.0, 1.0) if constraint.operator == "<=" else np.inf
    absolute = constraint.resolve(largest) if constraint.metric in largest else constraint
    if not absolute.is_relative and absolute.violation(float(best)) > 0:
        raise RequestError(
            f"no sub-network can have {constraint}; the "
            f"{'smallest' if constraint.operator == '<=' else 'largest'} possible is {best:,.6g}"
        )


def counts_of(supernet: Supernet[Any], architecture: Architecture) -> dict[str, float]:
    """Exact counts as measurements."""
    return {name: float(value) for name, value in supernet.count(architecture).items()}
