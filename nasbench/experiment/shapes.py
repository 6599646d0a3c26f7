"""Runs that learn shapes by gradient: the unpruned network, a shape per target, each trained alone.

    runs/NAME/
      supernet/checkpoints/   of the unpruned network, which is trained first
      shapes/target-0.5/      of the search for half of its cost
      shapes/ARCHITECTURE_ID/ of the shape that was found, trained with fresh weights of its own

The unpruned network and every shape are trials like any others, but each has weights of its own in
place of its share of a supernet's. Two searches that find the same shape share a trial.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nasbench.config import DistillationConfig, RunConfig, ShapeSearchConfig, TrainingConfig
from nasbench.distributed.pool import LocalPool
from nasbench.errors import RequestError, WorkError, unknown_name
from nasbench.evaluation import Evaluated, Evaluator
from nasbench.experiment.device_files import LookupFile, read_device_file
from nasbench.experiment.parts import (
    PREDICTED_METRIC,
    build_recipe,
    build_supernet,
    build_task,
    digest,
    latency_predictor,
    latency_protocol,
    load_trained,
    needs_latency,
    search_fingerprint,
    training_fingerprint,
    with_prediction,
)
from nasbench.experiment.progress import Progress
from nasbench.experiment.run import Run
from nasbench.space import Architecture
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.base import Supernet
from nasbench.supernet.blocks import Block
from nasbench.supernet.layers import Counts
from nasbench.supernet.shape_search import (
    COSTS,
    ExpectedCost,
    FoundShape,
    TransformableNetwork,
    search_shape,
)
from nasbench.supernet.shape_search.searcher import ShapeRecord
from nasbench.supernet.training.checkpoint import checkpoint_folder, latest_step, load_latest
from nasbench.supernet.training.checks import check_training, training_device
from nasbench.supernet.training.phases import Teacher
from nasbench.supernet.training.trainer import StepReport, train_supernet
from nasbench.tasks import Task
from nasbench.tasks.base import SplitName
from nasbench.trials import FULL, TrialState


def settings_of(config: RunConfig) -> ShapeSearchConfig:
    """The section of a run that has one."""
    assert config.shape_search is not None
    return config.shape_search


# -- what is asked ------------------------------------------------------------------------------


def check_shapes(run: Run, supernet: Supernet[Any], task: Task) -> None:
    """See that shapes can be learned as asked; nothing is written.

    Raises:
        RequestError: if the family does not support it, a target is below the smallest shape, the
            cost is unknown or has no look-up table, or the training does not fit.
    """
    config, settings = run.config, settings_of(run.config)
    if config.latency.device is not None:
        raise RequestError(
            f"latency.device={config.latency.device} is a node of a Ray cluster, but a shape "
            "search measures in the calling process; leave it away, and let latency.predictor name "
            "a look-up table of the device"
        )
    cost = expected_cost(run, supernet)
    smallest = cost.smallest() / cost.largest()
    if smallest <= 0:
        raise RequestError(
            f"'{config.latency.predictor}' says that the smallest shape costs nothing, so no "
            "expected cost can be brought to a target; measure the device again"
        )
    for target in settings.targets:
        if target < smallest:
            raise RequestError(
                f"no shape costs {target:.1%} of the unpruned network's {settings.cost}, as "
                f"shape_search.targets asks; the smallest costs {smallest:.1%}"
            )
    training, device = _training_alone(config), training_device(config.training)
    if training.precision == "float16":
        raise RequestError("a shape search trains in float32 or bfloat16, not in float16")
    unpruned = _alone(run, supernet, supernet.largest)
    check_training(unpruned, task, training, device)
    num_half = len(task.splits["train"]) // 2
    if num_half < training.batch_size:
        raise RequestError(
            f"a batch of {training.batch_size} exceeds {num_half}, half of the training samples of "
            f"task '{task.name}'; lower training.batch_size"
        )
    load_latest(run.checkpoints, _fingerprint(run, supernet, task, "unpruned"))


def expected_cost(run: Run, supernet: Supernet[Any]) -> ExpectedCost:
    """The cost that targets are about, as a differentiable expectation.

    Raises:
        RequestError: for an unknown cost, a family that does not say what its pieces cost, or
            no look-up table.
    """
    name, path = settings_of(run.config).cost, run.config.latency.predictor
    if name in COSTS:
        return ExpectedCost(supernet, COSTS[name])
    if name != PREDICTED_METRIC:
        raise unknown_name("cost of a shape search", name, (*COSTS, PREDICTED_METRIC))
    if path is None:
        raise RequestError(
            f"shape_search.cost {name} adds up a look-up table; name its file in "
            "latency.predictor, and make it with: nasbench lut build"
        )
    known = read_device_file(path)
    if not isinstance(known, LookupFile):
        raise RequestError(
            f"'{path}' has no look-up table, whose sum is what an expectation can be made of; make "
            "one with: nasbench lut build"
        )
    slope, intercept_ms = known.line(supernet)
    overhead_ms, block_ms = known.overhead_ms, known.block_ms

    def of_piece(_: Counts, block: Block) -> float:
        if block.key not in block_ms:
            raise RequestError(f"the look-up table '{path}' knows no block '{block.key}'")
        return slope * (block_ms[block.key] - overhead_ms)

    return ExpectedCost(supernet, of_piece, constant=intercept_ms + slope * overhead_ms)


def _training_alone(config: RunConfig) -> TrainingConfig:
    """The run's training, of one network."""
    return config.training.model_copy(update={"strategy": "single_path"})


def _fingerprint(run: Run, supernet: Supernet[Any], task: Task, *parts: Any) -> str:
    """Of everything that the weights of a part depend on."""
    return digest([training_fingerprint(run.config, supernet, task), *parts])


def _alone(run: Run, supernet: Supernet[Any], architecture: Architecture) -> NetworkAlone:
    return NetworkAlone.of(supernet, architecture, seed=run.config.seed)


# -- the stages -----------------------------------------------------------------------------------


def train_unpruned(run: Run, progress: Progress) -> dict[str, Any]:
    """Stage `train`: the largest network by itself, which teaches the shapes."""
    task = build_task(run.config)
    supernet = build_supernet(run.config, task)
    shapes = _Shapes(run, supernet, task, progress)
    history = shapes.train(supernet.largest)
    num_steps = run.config.training.epochs * task.num_batches(run.config.training.batch_size)
    return {
        "data": task.digests(),
        "final_loss": history[-1]["loss"],
        "checkpoint": checkpoint_folder(run.checkpoints, num_steps).name,
    }


def search_shapes(run: Run, progress: Progress) -> dict[str, Any]:
    """Stage `search`: learn a shape for each target, train and measure it; what is done is kept."""
    task = build_task(run.config)
    supernet = build_supernet(run.config, task)
    shapes = _Shapes(run, supernet, task, progress)
    run.begin_search(supernet.space, search_fingerprint(run.config, supernet, task), [])
    shapes.finish_trial(supernet.largest)
    found = {}
    for target in settings_of(run.config).targets:
        shape = shapes.search(target)
        shapes.finish_trial(shape.architecture)
        found[f"{target:g}"] = {"architecture_id": shape.architecture.id, "cost": shape.cost}
    states = [trial.state for trial in run.trials]
    return {
        "num_completed": states.count(TrialState.COMPLETE),
        "num_failed": states.count(TrialState.FAILED),
        "shapes": found,
    }


class _Shapes:
    """The parts of a run's search, each of which carries on from its checkpoints."""

    def __init__(self, run: Run, supernet: Supernet[Any], task: Task, progress: Progress) -> None:
        self.run, self.supernet, self.task, self.progress = run, supernet, task, progress

    def search(self, target: float) -> FoundShape:
        """Learn the shape for a target."""
        run, settings = self.run, settings_of(self.run.config)
        folder = run.folder / "shapes" / f"target-{target:g}"
        steps_done = latest_step(folder)
        half = len(self.task.splits["train"]) // 2
        per_epoch = half // run.config.training.batch_size
        name = f"shape for {target:.0%}"
        self.progress.start(name, settings.epochs, steps_done // per_epoch)

        def show(record: ShapeRecord) -> None:
            self.progress.advance(
                f"{settings.cost} {record.cost:.1%} (expected {record.expected_cost:.1%}), "
                f"loss {record.loss:.3f}"
            )

        of_search = settings.model_dump(mode="json", exclude={"targets"})
        of_cost = None
        if settings.cost == PREDICTED_METRIC:
            assert run.config.latency.predictor is not None
            of_cost = read_device_file(run.config.latency.predictor).model_dump(mode="json")
        fresh = build_supernet(run.config, self.task)
        return search_shape(
            TransformableNetwork(fresh, seed=run.config.seed),
            self.task,
            _training_alone(run.config),
            settings,
            expected_cost(run, self.supernet),
            target=target,
            seed=run.config.seed,
            folder=folder,
            fingerprint=_fingerprint(run, self.supernet, self.task, target, of_search, of_cost),
            on_epoch=show,
        )

    def train(self, architecture: Architecture) -> list[Any]:
        """Train a network by itself; all but the unpruned one learn from that, too."""
        config, training = self.run.config, _training_alone(self.run.config)
        network = _alone(self.run, self.supernet, architecture)
        settings, teacher = settings_of(config), None
        is_unpruned = architecture == self.supernet.largest
        if not is_unpruned and settings.distillation_weight > 0:
            unpruned = load_alone(self.run, self.supernet, self.task, self.supernet.largest)
            teacher = Teacher(unpruned, settings.distillation_weight)
            distillation = DistillationConfig(temperature=settings.distillation_temperature)
            training = training.model_copy(update={"distillation": distillation})
        folder, fingerprint = _place(self.run, self.supernet, self.task, architecture)
        num_steps = training.epochs * self.task.num_batches(training.batch_size)
        name = "train" if is_unpruned else f"train {architecture.id}"
        self.progress.start(name, num_steps, latest_step(folder))

        def show(report: StepReport) -> None:
            epoch = f"epoch {report.epoch} of {training.epochs}"
            self.progress.advance(f"{epoch}, loss {report.loss:.3f}")

        return train_supernet(
            network,
            self.task,
            training,
            seed=config.seed,
            folder=folder,
            fingerprint=fingerprint,
            teacher=teacher,
            on_step=show,
        )

    def _is_trained(self, architecture: Architecture) -> bool:
        checkpoint = load_latest(*_place(self.run, self.supernet, self.task, architecture))
        return checkpoint is not None and checkpoint.is_final

    def finish_trial(self, architecture: Architecture) -> None:
        """See that a network is a finished trial: train it, measure it, commit it."""
        store = self.run.open_store()
        known = {trial.architecture: trial for trial in store.trials()}
        trial = known.get(architecture) or store.propose([architecture])[0]
        if trial.state.is_finished:
            return
        if not self._is_trained(architecture):
            self.train(architecture)
        engine = self.run.config.latency.engine if needs_latency(self.run) else None
        recipe = RetrainedRecipe(self.run, self.supernet, self.task, engine)
        measure = LocalPool(recipe, latency_protocol(self.run.config)).evaluate
        predicted_ms = latency_predictor(self.run, self.supernet)
        (finished,) = with_prediction(measure, predicted_ms)([trial])
        store.finish(finished)
        if finished.state is TrialState.FAILED:
            raise WorkError(f"the shape {architecture.id} cannot be measured: {finished.error}")


# -- networks that were trained -------------------------------------------------------------------


def _place(
    run: Run, supernet: Supernet[Any], task: Task, architecture: Architecture
) -> tuple[Path, str]:
    """Where a network's checkpoints lie, and their fingerprint."""
    if architecture == supernet.largest:
        return run.checkpoints, _fingerprint(run, supernet, task, "unpruned")
    settings = settings_of(run.config)
    taught = [settings.distillation_weight, settings.distillation_temperature]
    fingerprint = _fingerprint(run, supernet, task, architecture.id, taught)
    return run.folder / "shapes" / architecture.id, fingerprint


def load_alone(
    run: Run, supernet: Supernet[Any], task: Task, architecture: Architecture
) -> NetworkAlone:
    """A network that the run has trained by itself, in eval mode.

    Raises:
        WorkError: if it has not.
        RequestError: if the checkpoint is damaged.
    """
    checkpoint = load_latest(*_place(run, supernet, task, architecture))
    if checkpoint is None or not checkpoint.is_final:
        raise WorkError(
            f"'{run.folder}' has no trained network {architecture.id}; run: nasbench run"
        )
    network = _alone(run, supernet, architecture)
    network.load_weights(checkpoint.trained_weights)
    return network.eval()


class RetrainedEvaluator:
    """Measures the networks that a shape search found, each with weights of its own.

    What `Evaluator` is for the sub-networks of one supernet.

    Attributes:
        supernet: says what the family is; its own weights are not used.
    """

    def __init__(
        self, run: Run, supernet: Supernet[Any], task: Task, engine: str | None = None
    ) -> None:
        self.run, self.supernet, self.task = run, supernet, task
        self._engine = engine
        self._current: tuple[Architecture, Evaluator] | None = None

    def _of(self, architecture: Architecture) -> Evaluator:
        if self._current is None or self._current[0] != architecture:
            config = self.run.config
            evaluator = Evaluator(
                load_alone(self.run, self.supernet, self.task, architecture),
                self.task,
                config.evaluation,
                engine=self._engine,
                latency_batch_size=config.latency.batch_size,
                latency_sequence_length=config.latency.sequence_length,
            )
            self._current = architecture, evaluator
        return self._current[1]

    def evaluate(
        self,
        architecture: Architecture,
        split: SplitName = "validation",
        fidelity: str = FULL,
    ) -> Evaluated:
        """Count it, measure its accuracy, and compile it."""
        evaluator = self._of(architecture)
        return evaluator.evaluate(evaluator.supernet.largest, split, fidelity)

    def extract(self, architecture: Architecture) -> nn.Module:
        """The network as a plain module in eval mode."""
        evaluator = self._of(architecture)
        return evaluator.extract(evaluator.supernet.largest)

    def compute(self, *inputs: Tensor) -> Any:
        """What the network that was extracted or evaluated last computes."""
        assert self._current is not None, "extract an architecture first"
        return self._current[1].compute(*inputs)


@dataclass(frozen=True)
class RetrainedRecipe:
    """What `EvaluatorRecipe` is for the sub-networks of one supernet, in the calling process."""

    run: Run
    supernet: Supernet[Any]
    task: Task
    engine: str | None = None

    @property
    def num_threads(self) -> int:
        """Torch threads of an evaluation."""
        return self.run.config.resources.cpus_per_worker

    def build(self) -> RetrainedEvaluator:
        """The evaluator."""
        return RetrainedEvaluator(self.run, self.supernet, self.task, self.engine)


def build_evaluator(run: Run) -> Evaluator | RetrainedEvaluator:
    """Measures and extracts the networks of a run's trials.

    Raises:
        WorkError: if training is not finished.
        RequestError: if a checkpoint is damaged.
    """
    if run.config.shape_search is None:
        return build_recipe(run, *load_trained(run)).build()
    task = build_task(run.config)
    return RetrainedEvaluator(run, build_supernet(run.config, task), task)
