"""Shipping a sub-network: chosen, maybe trained by itself, written, verified, tested and timed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.experiment.choosing import choose, pareto_front
from nasbench.experiment.device_files import find_device_file, read_device_file
from nasbench.experiment.finetuning import train_alone
from nasbench.experiment.nesting import load_bundle
from nasbench.experiment.parts import (
    PREDICTED_METRIC,
    latency_protocol,
    load_trained,
)
from nasbench.experiment.progress import SILENT, Progress
from nasbench.experiment.run import Run
from nasbench.experiment.shapes import build_evaluator
from nasbench.export import EXPORTERS
from nasbench.export.manifest import Subnetwork, Tolerances, check_targets, export_subnetwork
from nasbench.export.programs import programs_of
from nasbench.hardware import ENGINES, measure_latency
from nasbench.hardware.files import open_exported, with_sequence_length
from nasbench.objectives import Objective
from nasbench.supernet.base import Supernet
from nasbench.tasks import Task
from nasbench.trials import Trial

_NUM_VERIFIED = 512  # test samples on which a file is compared with the supernet
_NUM_VERIFIED_TEXTS = 64  # of which each has logits for every token


def export(
    run: Run, progress: Progress = SILENT, *, where: str = "", device: str | None = None
) -> dict[str, Any]:
    """Write the chosen sub-network for every target; what `run.json` says of it.

    Args:
        where: constraints; the best that respects them is taken, in place of `export.pick`.
        device: choose by the latency that a device's file of the run predicts.

    Raises:
        RequestError: if nothing fits, or a target cannot write such a network.
        WorkError: if a written file computes something else; an earlier export is left as it was.
    """
    config = run.config.export
    evaluator = build_evaluator(run)
    supernet, task = evaluator.supernet, evaluator.task
    trial = _chosen(run, supernet, where, device)
    architecture = trial.architecture
    if not config.targets:
        return {"architecture_id": architecture.id}
    check_export(run, supernet, task)
    module = evaluator.extract(architecture)
    inputs = verified_inputs(task)
    with torch.inference_mode():
        expected = evaluator.compute(*inputs)
    description = {
        "architecture_id": architecture.id,
        "architecture": architecture.to_json(),
        "supernet": supernet.settings,
        "task": task.name,
        "measurements": dict(trial.measurements),
        "latency_conditions": trial.conditions,
    }
    if config.finetune or config.retrain:
        inherited = _tested(run, task, module)
        module, facts = train_alone(run, supernet, task, architecture, module, progress)
        with torch.inference_mode():
            expected = module(*inputs)
        description["training"] = {**facts, "test_before": inherited}
    folder = run.folder / "export" / architecture.id
    write_export(run, task, module, inputs, expected, folder, description, progress)
    return {"architecture_id": architecture.id}


def export_member(
    run: Run,
    progress: Progress = SILENT,
    *,
    where: str = "",
    pick: str = "",
    device: str | None = None,
) -> Path:
    """Write a member of the run's bundle for every target, verified on test samples.

    Args:
        where: constraints; the largest member that respects them, and is not dominated, is taken.
        pick: without `where`, the member's number.
        device: whose latencies `where` means; may be left out where there is one.

    Returns:
        The folder.

    Raises:
        RequestError: if there is no such member.
    """
    model, config = load_bundle(run), run.config.export
    if where:
        model.select(where, device=device)
    elif pick.removeprefix("-").isdecimal():
        model.at(int(pick))
    else:
        raise RequestError(
            f"give --where, or --pick and a member's number from 0 to {len(model.members) - 1}"
        )
    if not config.targets:
        raise RequestError("export.targets is empty, so there is nothing to write")
    if config.finetune or config.retrain:
        raise RequestError(
            "members of a bundle share their weights, so none is trained by itself; use: "
            "nasbench nest --finetune, or export a sub-network of the front"
        )
    _, task = load_trained(run)
    member, inputs = model.member, verified_inputs(task)
    with torch.inference_mode():
        expected = model(*inputs)
    description = {
        "architecture_id": member.architecture.id,
        "architecture": member.architecture.to_json(),
        "member": model.index,
        "supernet": model.supernet.settings,
        "task": task.name,
        "measurements": member.measurements(None),
        "latency": {device: dict(of) for device, of in member.latency.items()},
    }
    folder = run.folder / "export" / f"nested-{model.index:03d}-{member.architecture.id}"
    module = model.extract(model.index)
    write_export(run, task, module, inputs, expected, folder, description, progress)
    return folder


def check_export(run: Run, supernet: Supernet[Any], task: Task) -> None:
    """See that every target is installed and can write networks of this kind.

    Raises:
        RequestError: if one is not, or cannot.
    """
    exporters = {target: EXPORTERS[target]() for target in run.config.export.targets}
    if exporters:
        module = supernet.extract(supernet.smallest)
        check_targets(exporters, programs_of(module, task.example_inputs(2)))


def verified_inputs(task: Task) -> tuple[Tensor, ...]:
    """Test samples on which files are compared with what they were written from."""
    is_text = not task.example_inputs(1)[-1].is_floating_point()
    count = min(_NUM_VERIFIED_TEXTS if is_text else _NUM_VERIFIED, len(task.splits["test"]))
    return task.load("test", torch.arange(count)).inputs


def write_export(
    run: Run,
    task: Task,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    expected: Tensor,
    folder: Path,
    description: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write a network, with what is measured of each target; the manifest."""
    config = run.config.export
    num_samples = min(config.calibration_samples, len(task.splits["train"]))
    batches = torch.split(torch.arange(num_samples), run.config.evaluation.batch_size)
    timed = with_sequence_length(
        task.example_inputs(run.config.latency.batch_size), run.config.latency.sequence_length
    )

    def measure(_target: str, network: nn.Module, path: Path) -> dict[str, Any]:
        return {"test": _tested(run, task, network), "latency": _timed(run, network, path, timed)}

    progress.start("export", len(config.targets), 0)
    return export_subnetwork(
        Subnetwork(
            module=module,
            inputs=inputs,
            expected=expected,
            calibration=[task.load("train", indices_B).inputs for indices_B in batches],
        ),
        targets=config.targets,
        folder=folder,
        tolerances=Tolerances(float32=config.tolerance, int8=config.int8_tolerance),
        description={
            **description,
            "input_form": task.input_form,
            "test": _tested(run, task, module),
            "test_conditions": task.conditions(),
        },
        attachments=task.attachments(),
        measure=measure,
        on_target=progress.advance,
    )


def _chosen(run: Run, supernet: Supernet[Any], where: str, device: str | None) -> Trial:
    """The trial that is asked for; with a device, on the front of what that device takes."""
    pick = run.config.export.pick
    if device is None:
        return run.select(where, pick)
    predictor = read_device_file(find_device_file(run.devices, device)).fitted(supernet)
    found = run.completed
    if not found:
        raise RequestError(f"no completed trial of '{run.folder}' respects the constraints")
    genomes = supernet.space.to_genomes([trial.architecture for trial in found])
    predicted = [
        trial.completed({**trial.measurements, PREDICTED_METRIC: float(value)}, trial.provenance)
        for trial, value in zip(found, predictor.predict(genomes).mean, strict=True)
    ]
    others = [o for o in run.objectives if not o.metric.endswith("latency_ms")]
    objectives = [*others[:1], Objective.of(PREDICTED_METRIC)]
    front = pareto_front(predicted, objectives)
    return choose(front, predicted, objectives, where=where, pick=pick)


def _tested(run: Run, task: Task, network: nn.Module) -> dict[str, float]:
    """What a network reaches on test data."""
    batch_size, count = run.config.evaluation.batch_size, run.config.export.test_samples
    return task.evaluate(network, "test", batch_size, num_samples=count)


def _timed(
    run: Run, network: nn.Module, path: Path, inputs: tuple[Tensor, ...]
) -> dict[str, Any] | None:
    """Latency of one pass on this machine; None where no engine runs such a file by itself."""
    protocol = latency_protocol(run.config)
    if path.stem.partition(".")[0] != "model" and path.suffix != ".safetensors":
        return None
    if path.suffix in (".pt2", ".safetensors"):
        engine = ENGINES["eager"]()
        artifact = engine.compile(network, inputs)
    else:
        exported = open_exported(path)
        engine = ENGINES[exported.usual_engine]()
        artifact = exported.artifact(engine, len(inputs[0]), _sequence_length(inputs))
    timed = measure_latency(engine, artifact, protocol)
    return {**timed.to_metrics(), "conditions": timed.conditions()}


def _sequence_length(inputs: tuple[Tensor, ...]) -> int | None:
    return None if inputs[0].is_floating_point() else inputs[0].shape[1]
