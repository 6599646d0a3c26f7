"""Everything that can be known to be wrong with a request before anything is written.

Names, options, data, packages, the cluster's address and the constraints are looked at here, so
that bad input costs a second and leaves no trace.
"""

from nasbench.distributed.cluster import check_address
from nasbench.errors import RequestError
from nasbench.experiment.exporting import check_export
from nasbench.experiment.measured import build_measured, check_measured
from nasbench.experiment.parts import (
    LATENCY_METRICS,
    PREDICTED_METRIC,
    build_algorithm,
    build_problem,
    build_supernet,
    build_task,
    check_reachable,
    counts_of,
    needs_latency,
    training_fingerprint,
)
from nasbench.experiment.run import Run
from nasbench.experiment.shapes import check_shapes
from nasbench.export import EXPORTERS
from nasbench.hardware import ENGINES
from nasbench.hardware.files import with_sequence_length
from nasbench.search import ALGORITHMS
from nasbench.supernet import SUPERNETS
from nasbench.supernet.training.checkpoint import load_latest
from nasbench.supernet.training.checks import check_training, training_device
from nasbench.supernet.training.strategies import STRATEGIES
from nasbench.tasks import TASKS, Task


def check(run: Run) -> None:
    """See that a run can be done as asked.

    Raises:
        RequestError: the first thing that is wrong, in one sentence.
    """
    config = run.config
    if config.table is not None:
        _check_search_of_table(run)
        return
    task_section, supernet_section = config.network_sections()
    for registry, name in (
        (TASKS, task_section.name),
        (SUPERNETS, supernet_section.family),
        (STRATEGIES, config.training.strategy),
        (ALGORITHMS, config.search.algorithm),
        (ENGINES, config.latency.engine),
        *((EXPORTERS, target) for target in config.export.targets),
    ):
        registry[name]  # type: ignore[index]
    run.check_folder()
    if config.resources.address is not None:
        check_address(config.resources.address)
    engine = ENGINES[config.latency.engine]()
    if config.resources.address is None and needs_latency(run):
        engine.check_machine()
    task = build_task(config)
    _check_metrics(run, task)
    _check_screening(run, task)
    if config.latency.batch_size > len(task.splits["train"]):
        raise RequestError(
            f"latency.batch_size={config.latency.batch_size} exceeds the "
            f"{len(task.splits['train'])} training samples that it is taken from"
        )
    if config.latency.device is not None and config.resources.workers == 0:
        raise RequestError(
            f"latency.device={config.latency.device} is a node of a Ray cluster, which "
            "resources.workers=0 does without; set resources.workers to 1 or more"
        )
    with_sequence_length(task.example_inputs(1), config.latency.sequence_length)
    supernet = build_supernet(config, task)
    if config.shape_search is not None:
        check_shapes(run, supernet, task)
        return
    check_training(supernet, task, config.training, training_device(config.training))
    smallest = counts_of(supernet, supernet.smallest)
    largest = counts_of(supernet, supernet.largest)
    for constraint in run.constraints:
        check_reachable(constraint, smallest, largest)
    check_export(run, supernet, task)
    load_latest(run.checkpoints, training_fingerprint(config, supernet, task))
    known = [c.resolve(largest) for c in run.constraints if c.metric in largest]
    build_algorithm(run, build_problem(run, supernet, known))


def _check_search_of_table(run: Run) -> None:
    ALGORITHMS[run.config.search.algorithm]
    run.check_folder()
    measured = build_measured(run.config)
    check_measured(run, measured)
    build_algorithm(run, measured.problem(run))


def _check_screening(run: Run, task: Task) -> None:
    """A cheap evaluation must be cheaper, and must say all that a trial is judged by."""
    evaluation = run.config.evaluation
    if evaluation.screening is None:
        return
    if needs_latency(run):
        raise RequestError(
            "evaluation.screening judges by what is counted, predicted or measured on data, and "
            "latency_ms needs a clock; optimize predicted_latency_ms instead (see "
            "latency.predictor), or leave screening away"
        )
    full = evaluation.validation_samples or len(task.splits["validation"])
    if evaluation.screening.validation_samples >= full:
        raise RequestError(
            f"evaluation.screening.validation_samples={evaluation.screening.validation_samples} is "
            f"no less than the {full} of a full evaluation"
        )


def _check_metrics(run: Run, task: Task) -> None:
    """What is to be optimized must be something that an evaluation measures."""
    possible = (*task.metrics, "num_parameters", "num_macs", *LATENCY_METRICS)
    for name in [o.metric for o in run.objectives] + [c.metric for c in run.constraints]:
        if name == PREDICTED_METRIC:
            if run.config.latency.predictor is None:
                raise RequestError(
                    f"'{name}' is what a file says; name the file in latency.predictor, and make "
                    "it with: nasbench lut build, or nasbench device fit"
                )
        elif name not in possible:
            raise RequestError(f"'{name}' is not measured; possible: {', '.join(possible)}")
