"""What is known of a device: files that say how long the networks of a space take on it.

    RUN/devices/NAME/
      samples.jsonl        every measurement as it finished, with all its timed passes
      lookup_table.json    blocks, and the line through a few whole networks (`nasbench lut build`)
      predictor.json       whole networks, and what to fit to them (`nasbench device fit`)

A file holds numbers that were measured and no fitted model: `fitted` fits it anew, in less than a
second, so that nothing has to be unpickled.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, ValidationError

from nasbench.config import Section
from nasbench.errors import RequestError, unknown_name
from nasbench.hardware import LatencyMeasurement, LatencyProtocol
from nasbench.predictors import PREDICTORS, Predictor
from nasbench.predictors.lookup import LookupPredictor, LookupTable
from nasbench.predictors.quality import Quality, measure_quality, rank_agreement
from nasbench.space import Architecture, Genomes
from nasbench.supernet.base import Supernet


class MeasuredNetwork(Section):
    """A sub-network with its latency."""

    architecture: dict[str, int | float | str | bool]
    latency_ms: PositiveFloat


class DeviceFile(Section):
    """What every file says.

    Attributes:
        space, supernet: fingerprints of what the networks belong to.
        conditions: under which all of it was measured.
        quality: of what is predicted of `tested_on`, which nothing was fitted to.
    """

    device: str
    space: str
    supernet: str
    conditions: dict[str, Any]
    fitted_to: tuple[MeasuredNetwork, ...] = Field(min_length=2)
    tested_on: tuple[MeasuredNetwork, ...]
    quality: dict[str, float | None] = Field(default_factory=dict)

    @abstractmethod
    def predictor(self, supernet: Supernet[Any]) -> Predictor:
        """What is to be fitted."""

    def fitted(self, supernet: Supernet[Any]) -> Predictor:
        """A predictor of latency in milliseconds, fitted to `fitted_to`.

        Raises:
            RequestError: if the file is about another supernet.
        """
        if self.supernet != supernet.fingerprint or self.space != supernet.space.fingerprint:
            raise RequestError(
                f"what is known of the device '{self.device}' is about the supernet "
                f"{self.supernet}, not about {supernet.fingerprint}; measure this one, too"
            )
        return self.predictor(supernet).fit(*_samples(supernet, self.fitted_to))

    def judged(self, supernet: Supernet[Any]) -> Self:
        """The same with the quality of its predictions of `tested_on`, as ranks beside MACs'."""
        if not self.tested_on:
            return self
        genomes, values = _samples(supernet, self.tested_on)
        quality = measure_quality(self.fitted(supernet).predict(genomes), values)
        macs = [supernet.count(each.architecture)["num_macs"] for each in self.tested_on]
        found = _described(quality) | {"tau_of_macs": rank_agreement(np.array(macs), values)}
        return self.model_copy(update={"quality": found})


class LookupFile(DeviceFile):
    """A look-up table of blocks, in `lookup_table.json`.

    Attributes:
        correction: the line, as `ms = intercept_ms + slope * sum`, for people to read; it is fitted
            anew wherever the file is read.
    """

    kind: Literal["look-up table"] = "look-up table"
    overhead_ms: PositiveFloat
    block_ms: dict[str, PositiveFloat]
    correction: dict[str, float] = Field(default_factory=dict)

    def corrected(self, supernet: Supernet[Any]) -> Self:
        """The same with `correction` filled in."""
        slope, intercept_ms = self.line(supernet)
        line = {"slope": slope, "intercept_ms": intercept_ms}
        return self.model_copy(update={"correction": line})

    def line(self, supernet: Supernet[Any]) -> tuple[float, float]:
        """Slope and intercept (ms) of what is predicted of a sum of blocks.

        Raises:
            RequestError: if the file is about another supernet.
        """
        predictor = self.fitted(supernet)
        assert isinstance(predictor, LookupPredictor)
        return predictor.line

    def predictor(self, supernet: Supernet[Any]) -> Predictor:
        """The sum of the blocks and a line."""
        return LookupPredictor(
            supernet.space,
            table=self.table,
            blocks_of=lambda network: [block.key for block in supernet.blocks_of(network)],
        )

    @property
    def table(self) -> LookupTable:
        """The blocks."""
        return LookupTable(self.block_ms, self.overhead_ms)


class PredictorFile(DeviceFile):
    """Measured networks and the predictor to fit to them, in `predictor.json`.

    Attributes:
        prior: what is known of another device, which the predictor `transfer` corrects.
    """

    kind: Literal["measured networks"] = "measured networks"
    predictor_name: str
    seed: int = 0
    prior: "LookupFile | PredictorFile | None" = Field(default=None, discriminator="kind")

    def predictor(self, supernet: Supernet[Any]) -> Predictor:
        """The predictor of that name, with the other device's model as its prior."""
        if self.predictor_name not in PREDICTORS:  # a module's name would be imported
            raise unknown_name("predictor", self.predictor_name, PREDICTORS)
        options: dict[str, Any] = {}
        if self.prior is not None:
            options["prior"] = self.prior.fitted(supernet)
        return PREDICTORS[self.predictor_name](supernet.space, self.seed, **options)


def find_device_file(devices: Path, name: str) -> Path:
    """The file of a device, in a run's folder `devices`; a path of a file is that file.

    Raises:
        RequestError: if nothing is known of such a device.
    """
    if Path(name).is_file():
        return Path(name)
    for file in ("predictor.json", "lookup_table.json"):
        if (devices / name / file).is_file():
            return devices / name / file
    known = sorted(path.name for path in devices.glob("*"))
    raise RequestError(
        f"nothing is known of a device '{name}'; give a file, or a device of this run: "
        f"{', '.join(known) or 'none'}"
    )


def read_device_file(path: Path) -> LookupFile | PredictorFile:
    """Read either kind; RequestError where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(
            f"there is no file '{path}'; make one with: nasbench lut build, or nasbench device fit"
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read '{path}': {error}") from None
    kinds: dict[str, type[LookupFile | PredictorFile]] = {
        "look-up table": LookupFile,
        "measured networks": PredictorFile,
    }
    kind = kinds.get(content.get("kind", "")) if isinstance(content, dict) else None
    if kind is None:
        raise RequestError(
            f"'{path}' says nothing of a device; expected lookup_table.json or predictor.json of a "
            "run's devices/NAME"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"'{path}': {where}: {first['msg']}") from None


def write_device_file(path: Path, content: DeviceFile) -> None:
    """Write it so that people can read it, as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content.model_dump(mode="json"), indent=1) + "\n")
    partial.replace(path)


def _samples(
    supernet: Supernet[Any], networks: Sequence[MeasuredNetwork]
) -> tuple[Genomes, np.ndarray[Any, np.dtype[np.float64]]]:
    genomes = supernet.space.to_genomes([Architecture(each.architecture) for each in networks])
    return genomes, np.array([each.latency_ms for each in networks])


def _described(quality: Quality) -> dict[str, float | None]:
    return {
        "tau": quality.tau,
        "spearman": quality.spearman,
        "rmse_ms": quality.rmse,
        "mape": quality.mape,
        "coverage": quality.coverage,
    }


# -- the log ------------------------------------------------------------------------------------


class MeasurementLog:
    """Every measurement of a device, in the order in which they finished; one line each.

    Args:
        path: need not exist. What a killed process left of a last line is forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, 0
        self._found: dict[str, LatencyMeasurement] = {}
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    key, measurement = _parsed(path, line)
                    self._found[key] = measurement
                    self._end += len(line)

    def find(self, key: str, engine: str, protocol: LatencyProtocol) -> LatencyMeasurement | None:
        """What was measured of this network with this engine under this protocol."""
        found = self._found.get(key)
        if found is None or (found.engine, found.protocol) != (engine, protocol):
            return None
        return found

    def add(self, key: str, measurement: LatencyMeasurement) -> None:
        """Append a line, in place of what a killed process left of one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps({"network": key, **measurement.to_json()}) + "\n").encode()
        with self._path.open("ab") as stream:
            stream.truncate(self._end)
            stream.write(line)
        self._found[key] = measurement
        self._end += len(line)


def _parsed(path: Path, line: bytes) -> tuple[str, LatencyMeasurement]:
    try:
        content = json.loads(line)
        return str(content["network"]), LatencyMeasurement.from_json(content)
    except (ValueError, KeyError, TypeError, RequestError):
        raise RequestError(f"'{path}' is damaged; delete it and measure again") from None


def common_conditions(
    device: str, measurements: Mapping[str, LatencyMeasurement]
) -> dict[str, Any]:
    """The conditions that all measurements share.

    Raises:
        RequestError: if they were taken under different ones, or on different machines.
    """
    described = [measurement.conditions() for measurement in measurements.values()]
    for each in described[1:]:
        for name, value in described[0].items():
            if each[name] != value:
                raise RequestError(
                    f"the measurements of the device '{device}' differ in {name}: {value} and "
                    f"{each[name]}; what is compared must be measured alike, so choose another "
                    "name, or delete samples.jsonl and measure again"
                )
    return described[0]


def corrected_ms(measurements: Sequence[LatencyMeasurement]) -> list[float]:
    """Latencies as if the machine had been as fast at every moment as it was in the median.

    The ratio to the control's latency of the same rounds, times the median of all controls.
    Without controls, the latencies as they are.
    """
    ratios = [measurement.relative_to_control for measurement in measurements]
    controls = [measurement.control_median_ms for measurement in measurements]
    if any(ratio is None for ratio in ratios):
        return [measurement.median_ms for measurement in measurements]
    usual = float(np.median(np.array(controls, dtype=np.float64)))
    return [float(ratio) * usual for ratio in ratios if ratio is not None]
