"""What a network costs here: latency, peak memory and energy of a file or a run's sub-network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.errors import RequestError, WorkError
from nasbench.hardware import ENGINES, Engine, LatencyMeasurement, LatencyProtocol, measure_latency
from nasbench.hardware.energy import measure_energy
from nasbench.hardware.files import open_exported, with_sequence_length
from nasbench.hardware.memory import measure_peak_memory
from nasbench.hardware.reading import Reading


@dataclass(frozen=True)
class MeasuredModel:
    """One network with everything that was measured of it.

    Args:
        model: what was asked for.
        identity: what its manifest or its run says: architecture, id, purpose; may be empty.
        peak_memory: in bytes.
        energy: in millijoules of one forward pass.
    """

    model: str
    identity: Mapping[str, Any]
    latency: LatencyMeasurement
    peak_memory: Reading
    energy: Reading

    def to_json(self) -> dict[str, Any]:
        """Everything, with the timed passes."""
        readings = {"peak_memory_bytes": self.peak_memory, "energy_mj": self.energy}
        return {
            "model": self.model,
            **self.identity,
            "latency": self.latency.to_json(),
            **{name: reading.value for name, reading in readings.items()},
            "absent": {name: r.reason for name, r in readings.items() if r.value is None},
        }


def measure_files(
    paths: Sequence[Path], engine: str | None, protocol: LatencyProtocol
) -> list[MeasuredModel]:
    """Measure exported files, or folders that `nasbench export` wrote, one after the other.

    Args:
        engine: a name of `ENGINES`; None takes what usually runs the file.

    Raises:
        RequestError: if there is no such file, or the engine does not run it.
        WorkError: if it does not run.
    """
    asked = _ready(engine) if engine else None
    exported = [open_exported(path, asked) for path in paths]  # all, before any is measured
    usual = {name: asked or _ready(name) for name in {file.usual_engine for file in exported}}
    measured = []
    for path, file in zip(paths, exported, strict=True):
        runs = usual[file.usual_engine]
        artifact = file.artifact(runs, protocol.batch_size, protocol.sequence_length)
        known = ("architecture_id", "architecture", "purpose")
        identity = {key: file.manifest[key] for key in known if key in file.manifest}
        measured.append(_measure(str(path), identity, runs, artifact, protocol))
    return measured


def measure_members(
    folder: Path, ids: Sequence[str], engine: str | None, protocol: LatencyProtocol
) -> list[MeasuredModel]:
    """Measure sub-networks of a run's completed trials, by their ids.

    Args:
        engine: a name of `ENGINES`; None takes the run's.

    Raises:
        RequestError: if there is no such sub-network.
        WorkError: if the run is not trained, or a network does not run.
    """
    from nasbench.experiment.run import load_run
    from nasbench.experiment.shapes import build_evaluator

    run = load_run(folder)
    if not ids:
        raise RequestError(
            f"'{folder}' is a run; say which of its sub-networks: an id, knee or best"
        )
    architectures = [run.select(pick=each).architecture for each in ids]
    found = _ready(engine or run.config.latency.engine)
    evaluator = build_evaluator(run)
    inputs = with_sequence_length(
        evaluator.task.example_inputs(protocol.batch_size), protocol.sequence_length
    )
    measured = []
    for architecture in architectures:
        artifact = found.compile(evaluator.extract(architecture), inputs)
        identity = {
            "architecture_id": architecture.id,
            "architecture": architecture.to_json(),
        }
        measured.append(
            _measure(f"{folder} {architecture.id}", identity, found, artifact, protocol)
        )
    return measured


def measure_bundle(
    folder: Path, engine: str | None, protocol: LatencyProtocol, *, is_recorded: bool = False
) -> list[MeasuredModel]:
    """Measure every member of a bundle of nested sub-networks, from the smallest to the largest.

    Args:
        engine: a name of `ENGINES`; None takes ONNX Runtime.
        is_recorded: whether to add the latencies to the bundle's manifest, as those of this device.

    Raises:
        RequestError: if there is no bundle.
        WorkError: if a member does not run.
    """
    from nasbench.supernet.nested import NestedModel
    from nasbench.supernet.nested.bundle import add_latency

    model = NestedModel.load(folder)
    found = _ready(engine or "onnxruntime")
    inputs = with_sequence_length(
        model.supernet.example_inputs(protocol.batch_size), protocol.sequence_length
    )
    measured = []
    for number, member in enumerate(model.members):
        artifact = found.compile(model.extract(number), inputs)
        identity = {
            "architecture_id": member.architecture.id,
            "architecture": member.architecture.to_json(),
        }
        measured.append(_measure(f"{folder} {number}", identity, found, artifact, protocol))
    if is_recorded:
        add_latency(folder, [latency_entry(each.latency) for each in measured])
    return measured


def latency_entry(timed: LatencyMeasurement) -> dict[str, dict[str, Any]]:
    """A measurement as bundles keep it: by its device."""
    return {timed.device: {**timed.to_metrics(), "conditions": timed.conditions()}}


def _ready(name: str) -> Engine:
    """The engine of that name, which this machine can run."""
    engine = ENGINES[name]()
    engine.check_machine()
    return engine


def _measure(
    model: str,
    identity: Mapping[str, Any],
    engine: Engine,
    artifact: Any,
    protocol: LatencyProtocol,
) -> MeasuredModel:
    try:
        return MeasuredModel(
            model=model,
            identity=identity,
            latency=measure_latency(engine, artifact, protocol),
            peak_memory=measure_peak_memory(engine, artifact, protocol.num_threads),
            energy=measure_energy(engine, artifact, protocol),
        )
    except RuntimeError as error:  # of a runtime; ours are no such errors
        if isinstance(error, WorkError):
            raise
        reason = " ".join(str(error).split())
        raise WorkError(f"'{model}' does not run in '{engine.name}': {reason}") from error
