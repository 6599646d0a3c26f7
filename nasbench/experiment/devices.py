"""Getting to know a device: tables of blocks, predictors of whole networks, on this machine or any.

Latency does not depend on what weights are, so a run need not be trained, nor even begun: networks
have fresh ones, and what is found out does not decide what the run's folder is for.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.distributed.clock import Clock, clock
from nasbench.errors import RequestError, unknown_name
from nasbench.experiment.device_files import (
    DeviceFile,
    LookupFile,
    MeasuredNetwork,
    MeasurementLog,
    PredictorFile,
    common_conditions,
    corrected_ms,
    read_device_file,
    write_device_file,
)
from nasbench.experiment.parts import build_supernet, build_task
from nasbench.experiment.progress import SILENT, Progress
from nasbench.experiment.run import Run
from nasbench.hardware import ENGINES, Engine, LatencyMeasurement, LatencyProtocol
from nasbench.hardware.files import with_sequence_length
from nasbench.predictors import PREDICTORS
from nasbench.space import Architecture
from nasbench.supernet.base import Supernet

_MIN_CANDIDATES = 1000
_OVERHEAD = "nothing"
NUM_TESTED = 20


@dataclass(frozen=True)
class DeviceRequest:
    """What shall be measured, and how.

    Args:
        run: whose supernet is measured, trained or not.
        device: its name; where the run names a Ray cluster, a node offers `device:NAME`.
        engine: a name of `ENGINES`.
        protocol: the conditions.
    """

    run: Run
    device: str
    engine: str
    protocol: LatencyProtocol

    @property
    def folder(self) -> Path:
        """Where everything about the device is kept."""
        return self.run.folder / "devices" / self.device

    def supernet(self) -> Supernet[Any]:
        """The run's, with fresh weights."""
        return build_supernet(self.run.config, build_task(self.run.config))


class _Meter:
    """Measures what the log does not hold yet, and writes it there."""

    def __init__(
        self, request: DeviceRequest, engine: Engine, measure: Clock, progress: Progress
    ) -> None:
        self._request, self._engine, self._measure = request, engine, measure
        self._progress = progress
        self._log = MeasurementLog(request.folder / "samples.jsonl")

    def measure(
        self, key: str, module: nn.Module, inputs: tuple[Tensor, ...]
    ) -> LatencyMeasurement:
        protocol = self._request.protocol
        found = self._log.find(key, self._engine.name, protocol)
        if found is None:
            found = self._measure(self._engine.compile(module.requires_grad_(False), inputs))
            self._log.add(key, found)
        self._progress.advance(f"{key}: {found.median_ms:.4g} ms")
        return found

    def networks(
        self, supernet: Supernet[Any], architectures: Iterable[Architecture]
    ) -> dict[str, LatencyMeasurement]:
        """Whole networks, by architecture id."""
        protocol = self._request.protocol
        inputs = with_sequence_length(
            supernet.example_inputs(protocol.batch_size), protocol.sequence_length
        )
        return {
            architecture.id: self.measure(architecture.id, supernet.extract(architecture), inputs)
            for architecture in architectures
        }


# -- look-up tables -----------------------------------------------------------------------------


def build_lookup_table(
    request: DeviceRequest,
    *,
    num_fitted: int = 10,
    num_tested: int = NUM_TESTED,
    progress: Progress = SILENT,
) -> Path:
    """Measure each distinct block of the space once, and a few whole networks; write the table.

    What an earlier process measured under the same conditions is not measured again.

    Returns:
        The path of `lookup_table.json`.

    Raises:
        RequestError: if the family names no blocks, or the device does not answer.
        WorkError: if something cannot be measured.
    """
    supernet, engine = request.supernet(), ENGINES[request.engine]()
    blocks = supernet.distinct_blocks()
    fitted, tested = choose_networks(supernet, num_fitted, num_tested, request.run.config.seed)
    batch_size = request.protocol.batch_size
    with _clock_of(request) as measure, _alone(request.run):
        meter = _Meter(request, engine, measure, progress)
        progress.start("measure", 1 + len(blocks) + len(fitted) + len(tested), 0)
        nothing = nn.ReLU(), (torch.zeros(batch_size, 8),)
        found = {_OVERHEAD: meter.measure(_OVERHEAD, *nothing)}
        for key, block in blocks.items():
            found[key] = meter.measure(key, block.module(), block.example_inputs(batch_size))
        found |= meter.networks(supernet, [*fitted, *tested])
    latency_ms = _latencies(found)
    file = LookupFile(
        device=request.device,
        space=supernet.space.fingerprint,
        supernet=supernet.fingerprint,
        conditions=common_conditions(request.device, found),
        overhead_ms=latency_ms[_OVERHEAD],
        block_ms={key: latency_ms[key] for key in blocks},
        fitted_to=_measured(fitted, latency_ms),
        tested_on=_measured(tested, latency_ms),
    ).judged(supernet)
    return _written(request, "lookup_table.json", file.corrected(supernet))


# -- predictors ---------------------------------------------------------------------------------


def fit_device(
    request: DeviceRequest,
    *,
    num_samples: int,
    num_tested: int = NUM_TESTED,
    predictor: str | None = None,
    prior: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Measure whole networks, fit a predictor to them, and judge it on others; write all of it.

    Args:
        num_samples: spread evenly over what the space's networks cost in MACs.
        num_tested: drawn at random.
        predictor: a name of `PREDICTORS`; None says `gp`, or `transfer` with a prior.
        prior: a file of another device, which is corrected.

    Returns:
        The path of `predictor.json`.

    Raises:
        RequestError: for an unknown name or file, or if the device does not answer.
        WorkError: if something cannot be measured.
    """
    supernet, engine = request.supernet(), ENGINES[request.engine]()
    found_prior = _read_prior(prior, supernet)
    name = _predictor_name(predictor, found_prior)
    fitted, tested = choose_networks(supernet, num_samples, num_tested, request.run.config.seed)
    with _clock_of(request) as measure, _alone(request.run):
        meter = _Meter(request, engine, measure, progress)
        progress.start("measure", len(fitted) + len(tested), 0)
        found = meter.networks(supernet, [*fitted, *tested])
    return _write_predictor(request, supernet, found, fitted, tested, name, found_prior)


def prepare_networks(
    request: DeviceRequest, out: Path, *, num_samples: int, num_tested: int = NUM_TESTED
) -> list[Path]:
    """Write networks as files, for a device that Ray does not reach; `import_networks` follows.

    Args:
        out: a new folder; below it, one folder for each network, with a manifest.

    Raises:
        RequestError: if the folder exists, or the engine runs no files.
    """
    if out.exists():
        raise RequestError(f"'{out}' exists already; choose a new folder")
    supernet, engine = request.supernet(), ENGINES[request.engine]()
    fitted, tested = choose_networks(supernet, num_samples, num_tested, request.run.config.seed)
    protocol = request.protocol
    inputs = with_sequence_length(
        supernet.example_inputs(protocol.batch_size), protocol.sequence_length
    )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for purpose, architectures in (("fit", fitted), ("test", tested)):
            for architecture in architectures:
                artifact = engine.compile(supernet.extract(architecture), inputs)
                folder = partial / f"{purpose}-{architecture.id}"
                folder.mkdir(parents=True)
                (folder / f"model{engine.file_suffix}").write_bytes(engine.file_bytes(artifact))
                manifest = {
                    "architecture_id": architecture.id,
                    "architecture": architecture.to_json(),
                    "supernet": supernet.settings,
                    "purpose": purpose,
                }
                (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(out.iterdir())


def import_networks(
    run: Run,
    file: Path,
    device: str,
    *,
    predictor: str | None = None,
    prior: Path | None = None,
) -> Path:
    """Read what `nasbench measure --json` printed on a device, and fit a predictor to it.

    Networks that were prepared to be tested on are; without such, nothing is.

    Returns:
        The path of `predictor.json`.

    Raises:
        RequestError: if the file is no such thing, or is about other networks.
    """
    supernet = build_supernet(run.config, build_task(run.config))
    found_prior = _read_prior(prior, supernet)
    name = _predictor_name(predictor, found_prior)
    found, purposes = _read_measured(file, supernet)
    tested = [a for a in found if purposes[a] == "test"]
    fitted = [a for a in found if purposes[a] != "test"]
    if len(fitted) < 2:
        raise RequestError(
            f"'{file}' holds {len(fitted)} networks to fit to; at least 2 are needed"
        )
    by_id = {architecture.id: measurement for architecture, measurement in found.items()}
    common_conditions(device, by_id)
    first = next(iter(by_id.values()))
    request = DeviceRequest(run, device, first.engine, first.protocol)
    with _alone(run):
        log = MeasurementLog(request.folder / "samples.jsonl")
        for key, measurement in by_id.items():
            if log.find(key, first.engine, first.protocol) != measurement:
                log.add(key, measurement)
    return _write_predictor(request, supernet, by_id, fitted, tested, name, found_prior)


def _read_measured(
    file: Path, supernet: Supernet[Any]
) -> tuple[dict[Architecture, LatencyMeasurement], dict[Architecture, str]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read '{file}': {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError(f"'{file}' is not what 'nasbench measure --json' prints")
    found, purposes = {}, {}
    for row in rows:
        if not isinstance(row.get("architecture"), dict):
            raise RequestError(
                f"'{file}' does not say which sub-network '{row.get('model')}' is; measure what "
                "'nasbench device prepare' wrote, with its manifest.json beside it"
            )
        architecture = supernet.space.canonical(row["architecture"])
        found[architecture] = LatencyMeasurement.from_json(row.get("latency") or {})
        purposes[architecture] = str(row.get("purpose", ""))
    return found, purposes


def _write_predictor(
    request: DeviceRequest,
    supernet: Supernet[Any],
    found: Mapping[str, LatencyMeasurement],
    fitted: Sequence[Architecture],
    tested: Sequence[Architecture],
    predictor: str,
    prior: LookupFile | PredictorFile | None,
) -> Path:
    latency_ms = _latencies(found)
    file = PredictorFile(
        device=request.device,
        space=supernet.space.fingerprint,
        supernet=supernet.fingerprint,
        conditions=common_conditions(request.device, found),
        predictor_name=predictor,
        seed=request.run.config.seed,
        prior=prior,
        fitted_to=_measured(fitted, latency_ms),
        tested_on=_measured(tested, latency_ms),
    )
    return _written(request, "predictor.json", file.judged(supernet))


def _read_prior(path: Path | None, supernet: Supernet[Any]) -> LookupFile | PredictorFile | None:
    """The file, which is about this supernet."""
    if path is None:
        return None
    found = read_device_file(path)
    found.fitted(supernet)
    return found.model_copy(update={"tested_on": (), "quality": {}})


def _predictor_name(asked: str | None, prior: DeviceFile | None) -> str:
    name = asked or ("gp" if prior is None else "transfer")
    if name not in PREDICTORS:
        raise unknown_name("predictor", name, PREDICTORS)
    if (name == "transfer") != (prior is not None):
        raise RequestError(
            f"predictor '{name}' "
            + ("corrects another device's; give --from" if prior is None else "takes no --from")
        )
    if name == "lookup":
        raise RequestError("predictor 'lookup' adds up blocks; make it with: nasbench lut build")
    return name


# -- which networks -----------------------------------------------------------------------------


def choose_networks(
    supernet: Supernet[Any], num_fitted: int, num_tested: int, seed: int
) -> tuple[list[Architecture], list[Architecture]]:
    """Distinct networks to learn from, and others to judge by.

    Those to learn from are spread evenly over the logarithm of MACs, from the smallest to the
    largest network, since a predictor that has seen only the middle says little about the ends of
    a front. Those to judge by are drawn at random, every choice alike, as a search begins; a
    spread as wide as that of the others would flatter a rank correlation.

    Raises:
        RequestError: if the numbers are impossible.
    """
    space = supernet.space
    if num_fitted < 2 or num_tested < 0:
        raise RequestError(
            f"a device is fitted to at least 2 networks and judged by at least 0, not "
            f"{num_fitted} and {num_tested}"
        )
    rng = np.random.default_rng(seed)
    num_candidates = max(_MIN_CANDIDATES, 4 * (num_fitted + num_tested))
    genomes = np.unique(space.sample_choices(num_candidates, rng), axis=0)
    candidates = list(dict.fromkeys([space.smallest, space.largest, *space.from_genomes(genomes)]))
    if len(candidates) < num_fitted + num_tested:
        raise RequestError(
            f"the space has {space.size:,} sub-networks; {num_fitted} to fit and {num_tested} to "
            "test cannot all be different"
        )
    costs = np.log([supernet.count(each)["num_macs"] for each in candidates])
    free = np.ones(len(candidates), dtype=bool)
    fitted = []
    for cost in np.linspace(costs.min(), costs.max(), num_fitted):
        nearest = int(np.argmin(np.where(free, np.abs(costs - cost), np.inf)))
        free[nearest] = False
        fitted.append(candidates[nearest])
    tested = rng.choice(np.flatnonzero(free), num_tested, replace=False)
    order = rng.permutation(num_fitted)  # so that what drifts is no cost
    return [fitted[i] for i in order], [candidates[i] for i in tested]


def _latencies(found: Mapping[str, LatencyMeasurement]) -> dict[str, float]:
    return dict(zip(found, corrected_ms(list(found.values())), strict=True))


def _measured(
    architectures: Sequence[Architecture], latency_ms: Mapping[str, float]
) -> tuple[MeasuredNetwork, ...]:
    return tuple(
        MeasuredNetwork(architecture=each.to_json(), latency_ms=latency_ms[each.id])
        for each in architectures
    )


def _clock_of(request: DeviceRequest) -> Any:
    return clock(
        request.engine,
        request.protocol,
        device=request.device,
        resources=request.run.config.resources,
    )


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """The run's folder, made where there is none, for this process alone during the block."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.exclusive():
        yield


def _written(request: DeviceRequest, name: str, file: DeviceFile) -> Path:
    path = request.folder / name
    write_device_file(path, file)
    return path
