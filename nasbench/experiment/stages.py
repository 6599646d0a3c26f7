"""The stages of a run: train, search, report, export. Each carries on where it was stopped."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nasbench import plots
from nasbench.distributed.cluster import connected
from nasbench.distributed.data_parallel import TrainingRecipe, train_on_ray
from nasbench.distributed.pool import LocalPool, RayPool
from nasbench.errors import RequestError, WorkError
from nasbench.evaluation import EvaluatorRecipe
from nasbench.experiment.earlier import keep_earlier
from nasbench.experiment.exporting import export
from nasbench.experiment.html_report import write_html_report
from nasbench.experiment.measured import build_measured
from nasbench.experiment.nesting import draw_ladder
from nasbench.experiment.parts import (
    build_algorithm,
    build_problem,
    build_recipe,
    build_supernet,
    build_task,
    counts_of,
    latency_predictor,
    latency_protocol,
    load_trained,
    needs_latency,
    search_fingerprint,
    training_fingerprint,
    with_prediction,
)
from nasbench.experiment.progress import SILENT, Progress
from nasbench.experiment.report import write_pareto_csv
from nasbench.experiment.run import STAGES, Run
from nasbench.experiment.shapes import build_evaluator, search_shapes, train_unpruned
from nasbench.objectives import Constraint
from nasbench.search import SearchProblem
from nasbench.search.loop import Evaluate, run_search
from nasbench.search.screening import Screening
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet
from nasbench.supernet.training.checkpoint import checkpoint_folder, latest_step
from nasbench.supernet.training.monitor import quality
from nasbench.supernet.training.trainer import StepReport
from nasbench.trials import FULL, Trial, TrialState


def train(run: Run, progress: Progress = SILENT) -> dict[str, Any]:
    """Train the supernet, from its last checkpoint where there is one."""
    config = run.config
    if config.shape_search is not None:
        return train_unpruned(run, progress)
    task = build_task(config)
    supernet = build_supernet(config, task)
    num_steps = config.training.epochs * task.num_batches(config.training.batch_size)
    progress.start("train", num_steps, latest_step(run.checkpoints))

    looks: Mapping[str, Mapping[str, float]] = {}

    def show(report: StepReport) -> None:
        nonlocal looks
        progress.advance(_described_step(report, config.training.epochs, task.metrics[0]))
        if report.looks != looks:
            looks = report.looks
            progress.looked(report.epoch, quality(task, looks))

    recipe = TrainingRecipe(
        supernet_settings=supernet.settings,
        task=task,
        config=config.training,
        seed=config.seed,
        folder=run.checkpoints.absolute(),
        fingerprint=training_fingerprint(config, supernet, task),
        log_folder=run.checkpoints.absolute().with_name("log"),
    )
    num_workers = config.training.num_workers
    if num_workers == 1:
        history = recipe.train(show)
    else:
        with connected(config.resources, num_workers):
            history = train_on_ray(recipe, config.resources, show)
    return {
        "data": task.digests(),
        "final_loss": history[-1]["loss"],
        "checkpoint": checkpoint_folder(run.checkpoints, num_steps).name,
    }


def _described_step(report: StepReport, num_epochs: int, metric: str) -> str:
    """Epoch, loss, and what was last measured of the largest, the smallest and a random one."""
    text = f"epoch {report.epoch} of {num_epochs}, loss {report.loss:.3f}"
    if not report.looks:
        return text
    looks = ", ".join(f"{name} {found[metric]:.4g}" for name, found in report.looks.items())
    return f"{text}; {metric}: {looks}"


def search(run: Run, progress: Progress = SILENT) -> dict[str, Any]:
    """Measure sub-networks until the budget is spent; finished trials of before are kept."""
    if run.config.table is not None:
        measured = build_measured(run.config)
        run.begin_search(measured.table.space, measured.fingerprint, run.constraints)
        return _spend_budget(
            run,
            measured.problem(run),
            measured.evaluate,
            progress,
            max_consecutive_failures=run.config.search.num_trials,
        )
    if run.config.shape_search is not None:
        return search_shapes(run, progress)
    supernet, task = load_trained(run)
    recipe = build_recipe(
        run,
        supernet,
        task,
        with_latency=needs_latency(run),
        on_workers=run.config.resources.workers > 0,
    )
    with _pool(run, recipe) as measure:
        evaluate = with_prediction(measure, latency_predictor(run, supernet))
        constraints = _resolved_constraints(run, supernet, evaluate)
        run.begin_search(
            supernet.space, search_fingerprint(run.config, supernet, task), constraints
        )
        problem = build_problem(run, supernet, constraints)
        initial = (supernet.largest, supernet.smallest)  # they bound the front
        if run.config.evaluation.screening is not None:
            evaluate = Screening(
                problem,
                evaluate,
                run.open_store().trials,
                num_initial=len(initial),
                batch_size=run.config.search.batch_size,
                concurrent_batches=run.config.search.concurrent_batches,
            ).evaluate
        return _spend_budget(
            run,
            problem,
            evaluate,
            progress,
            initial=initial,
            max_consecutive_failures=run.config.search.max_consecutive_failures,
        )


def _spend_budget(
    run: Run,
    problem: SearchProblem,
    evaluate: Evaluate,
    progress: Progress,
    *,
    initial: Sequence[Architecture] = (),
    max_consecutive_failures: int,
) -> dict[str, Any]:
    """Search with the run's algorithm, and say what came of it."""
    config = run.config.search
    keep_earlier(run, problem)
    store = run.open_store()
    finished = [trial for trial in store.trials() if trial.state.is_finished]
    progress.start("search", config.num_trials, len(finished))
    trials = run_search(
        problem,
        build_algorithm(run, problem),
        store,
        evaluate,
        num_trials=config.num_trials,
        batch_size=config.batch_size,
        concurrent_batches=config.concurrent_batches,
        initial=initial,
        max_consecutive_failures=max_consecutive_failures,
        on_trial=lambda trial: progress.advance(_described(run, trial)),
    )
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    conditions = completed[-1].conditions if completed else {}
    found = {"num_completed": len(completed), "num_failed": len(trials) - len(completed)}
    if run.config.evaluation.screening is not None:
        found["num_screened"] = sum(trial.fidelity != FULL for trial in completed)
    return found | ({"latency_conditions": conditions} if conditions else {})


def _described(run: Run, trial: Trial) -> str:
    if trial.state is TrialState.FAILED:
        return f"failed: {trial.error}"
    found = ", ".join(f"{o.metric} {trial.measurements[o.metric]:.4g}" for o in run.objectives)
    return found if trial.fidelity == FULL else f"{found} (screened)"


@contextmanager
def _pool(run: Run, recipe: EvaluatorRecipe) -> Iterator[Evaluate]:
    """Workers for the duration of the block."""
    protocol = latency_protocol(run.config)
    resources = run.config.resources
    if resources.workers == 0:
        yield LocalPool(recipe, protocol).evaluate
        return
    device = run.config.latency.device
    with connected(resources), RayPool(recipe, protocol, resources, device) as pool:
        yield pool.evaluate


def _resolved_constraints(
    run: Run, supernet: Supernet[Any], evaluate: Evaluate
) -> list[Constraint]:
    """The run's constraints in absolute terms; what is not counted is measured of the largest."""
    constraints = run.constraints
    largest = counts_of(supernet, supernet.largest)
    if any(c.is_relative and c.metric not in largest for c in constraints):
        (trial,) = evaluate([Trial(number=0, architecture=supernet.largest)])
        if trial.state is TrialState.FAILED:
            raise WorkError(f"the largest sub-network cannot be measured: {trial.error}")
        largest = dict(trial.measurements)
    return [constraint.resolve(largest) for constraint in constraints]


def report(run: Run, progress: Progress = SILENT) -> dict[str, Any]:
    """Measure the front on test data; write `pareto.csv` and `pareto.png`."""
    front = run.pareto_front()
    if not front:
        raise WorkError(f"no completed trial of '{run.folder}' respects the constraints")
    progress.start("report", len(front), 0)
    if run.config.table is not None:
        measured = build_measured(run.config)
        found_on_test = {trial.number: measured.test(trial.architecture) for trial in front}
        _write_report(run, found_on_test, list(measured.test_columns))
        return {"num_front": len(front)}
    evaluator = build_evaluator(run)
    tested = {}
    for trial in front:
        found = evaluator.evaluate(trial.architecture, "test").measurements
        tested[trial.number] = found
        metric = evaluator.task.metrics[0]
        progress.advance(f"test {metric} {found[metric]:.4g}")
    _write_report(run, tested, evaluator.task.metrics)
    conditions = evaluator.task.conditions()
    return {"num_front": len(front)} | ({"metric_conditions": conditions} if conditions else {})


def _write_report(
    run: Run, tested: Mapping[int, Mapping[str, float]], metrics: Sequence[str]
) -> None:
    write_pareto_csv(run, tested, metrics)
    if len(run.objectives) == 2:
        plots.save(plots.plot_pareto_front(run), run.folder / "pareto.png")
    if run.bundle.exists():
        draw_ladder(run)


_STAGES: dict[str, Callable[[Run, Progress], dict[str, Any]]] = {
    "train": train,
    "search": search,
    "report": report,
    "export": export,
}


def execute(run: Run, stages: Iterable[str] = STAGES, progress: Progress = SILENT) -> None:
    """Do the given stages in order, leaving out what is done already.

    Raises:
        RequestError: if another process works on the run, or it was never trained and shall
            not be now.
    """
    stages = tuple(stages)
    run.check_stages(stages)
    if "train" in run.stages and "train" not in stages and not run.is_done("train"):
        raise RequestError(f"the supernet of '{run.folder}' is not trained; run: nasbench train")
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.exclusive():
        run.create()
        for stage in stages:
            if run.is_done(stage):
                continue
            start = time.monotonic()
            facts = _STAGES[stage](run, progress)
            run.mark_done(stage, seconds=time.monotonic() - start, **facts)
            if stage == "report":  # its page shows what was just recorded
                write_html_report([run], run.page)
