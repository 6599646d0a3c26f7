"""How a latency is measured: warm-up, rounds of timed passes, a rule to stop, conditions stated.

Passes are timed in rounds. Where a control is asked for, a small network that never changes gets
its turn before each round, so that a machine that becomes slower shows in the control, too, and
the ratio of the two is what is left of a latency when the machine's mood is taken out.

The interval of the median comes from the medians of the rounds, not from the single passes: what
disturbs a pass (an interrupt, a neighbor, a change of frequency) disturbs those beside it, so
passes are no independent samples, and an interval that takes them for that is far too narrow.
"""

import functools
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor, nn

from nasbench.errors import RequestError
from nasbench.hardware.engine import Engine, Forward
from nasbench.supernet.threads import torch_threads

_CONFIDENCE = 0.95

StoppedBy = Literal["precision", "limit", "count"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProtocol:
    """The conditions of a measurement.

    Args:
        batch_size: samples of one forward pass.
        sequence_length: tokens of each sample; None takes what the network's inputs have.
        num_threads: threads that the engine may use for one forward pass.
        num_warmup: forward passes that are run first and not timed.
        num_repeats: timed forward passes, at most.
        round_size: timed forward passes that follow each other.
        precision: stop as soon as both ends of the median's 95 % interval are closer to it than
            this share of it; None always times `num_repeats` passes.
        has_control: whether a control network is timed before each round.

    Raises:
        RequestError: if a number is impossible.
    """

    batch_size: int = 1
    sequence_length: int | None = None
    num_threads: int = 1
    num_warmup: int = 20
    num_repeats: int = 200
    round_size: int = 20
    precision: float | None = None
    has_control: bool = False

    def __post_init__(self) -> None:
        least = {"num_warmup": 0}
        for name in ("batch_size", "sequence_length", "num_threads", "num_warmup", "num_repeats"):
            value = getattr(self, name)
            if value is not None and value < least.get(name, 1):
                raise RequestError(f"{name} is {least.get(name, 1)} or more, not {value}")
        if self.round_size < 1:
            raise RequestError(f"round_size is 1 or more, not {self.round_size}")
        if self.precision is not None and not 0 < self.precision < 1:
            raise RequestError(
                f"precision is a share of the median between 0 and 1, not {self.precision}; "
                "0.02 stands for 2 %"
            )


CAREFUL = LatencyProtocol(num_repeats=2000, precision=0.02, has_control=True)
"""What a person asks for, rather than a search: to within 2 % where that can be had."""

Rounds = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyMeasurement:
    """Wall-clock latency of one forward pass, with the conditions it was taken under.

    Args:
        rounds_ms: every timed pass, round by round.
        control_ms: the same of the control network; empty without one.
        stopped_by: "precision" (the interval was narrow enough), "limit" (it was not when
            `num_repeats` were done) or "count" (no precision was asked for).
        engine: its name.
        device: the model name of what computed.
        versions: of the packages that computed.
        load_average: processes that wanted a CPU of the machine in the minute before; None where
            the operating system does not say.
    """

    rounds_ms: Rounds
    control_ms: Rounds = ()
    stopped_by: StoppedBy
    engine: str
    device: str
    versions: Mapping[str, str]
    load_average: float | None
    protocol: LatencyProtocol

    @property
    def median_ms(self) -> float:
        """Of the rounds' medians, which is what `interval_ms` is about."""
        return float(np.median(_medians(self.rounds_ms)))

    @property
    def p10_ms(self) -> float:
        """A tenth of the passes were faster."""
        return self.percentile_ms(10)

    @property
    def p90_ms(self) -> float:
        """A tenth of the passes were slower."""
        return self.percentile_ms(90)

    def percentile_ms(self, percent: float) -> float:
        """Of all timed passes."""
        return float(np.percentile(np.concatenate(self.rounds_ms), percent))

    @property
    def num_repeats(self) -> int:
        """Timed passes."""
        return sum(map(len, self.rounds_ms))

    @property
    def interval_ms(self) -> tuple[float, float] | None:
        """The median's 95 % interval; None where there were less than six rounds."""
        return median_interval(_medians(self.rounds_ms))

    @property
    def relative_interval(self) -> float | None:
        """The distance of the interval's farther end from the median, as a share of it."""
        return _relative(self.interval_ms, self.median_ms)

    @property
    def drift(self) -> float | None:
        """How far apart the control's fastest and slowest rounds are, as a share of its median.

        None without a control.
        """
        if not self.control_ms:
            return None
        medians = _medians(self.control_ms)
        return float(np.ptp(medians) / np.median(medians))

    @property
    def control_median_ms(self) -> float | None:
        """The median of the control's rounds; None without one."""
        return float(np.median(_medians(self.control_ms))) if self.control_ms else None

    @property
    def relative_to_control(self) -> float | None:
        """How many times the control's latency this one is: the median over rounds of the ratio.

        None without a control.
        """
        if not self.control_ms:
            return None
        return float(np.median(_medians(self.rounds_ms) / _medians(self.control_ms)))

    def to_metrics(self) -> dict[str, float]:
        """The values by the names that objectives and tables use."""
        return {
            "latency_ms": self.median_ms,
            "latency_p10_ms": self.p10_ms,
            "latency_p90_ms": self.p90_ms,
        }

    def conditions(self) -> dict[str, Any]:
        """Everything that was decided before the first pass, JSON-able."""
        return {
            "engine": self.engine,
            "device": self.device,
            "versions": dict(self.versions),
            **asdict(self.protocol),
        }

    def summary(self) -> dict[str, Any]:
        """Everything that was found, but for the single passes, JSON-able."""
        interval = self.interval_ms
        return {
            "median_ms": self.median_ms,
            "p10_ms": self.p10_ms,
            "p90_ms": self.p90_ms,
            "interval_ms": list(interval) if interval else None,
            "stopped_by": self.stopped_by,
            "num_timed": self.num_repeats,
            "load_average": self.load_average,
            "control_median_ms": self.control_median_ms,
            "relative_to_control": self.relative_to_control,
            "drift": self.drift,
        }

    def to_provenance(self) -> dict[str, Any]:
        """What a trial keeps: the conditions, and under "latency" everything that was found."""
        passes = [list(each) for each in self.rounds_ms]
        return {**self.conditions(), "latency": {**self.summary(), "rounds_ms": passes}}

    def to_json(self) -> dict[str, Any]:
        """Summary, conditions and single passes; `from_json` reads it back."""
        return {
            **self.summary(),
            "conditions": self.conditions(),
            "rounds_ms": [list(each) for each in self.rounds_ms],
            "control_ms": [list(each) for each in self.control_ms],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; what follows from the single passes is computed anew.

        Raises:
            RequestError: if it is no such thing.
        """
        try:
            conditions = dict(content["conditions"])
            protocol = {field.name: conditions[field.name] for field in fields(LatencyProtocol)}
            rounds = {name: _rounds(content[name]) for name in ("rounds_ms", "control_ms")}
            if not rounds["rounds_ms"] or len(rounds["control_ms"]) not in (
                0,
                len(rounds["rounds_ms"]),
            ):
                raise ValueError("rounds")
            return cls(
                **rounds,
                stopped_by=content["stopped_by"],
                engine=str(conditions["engine"]),
                device=str(conditions["device"]),
                versions=dict(conditions["versions"]),
                load_average=content["load_average"],
                protocol=LatencyProtocol(**protocol),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"this is no measured latency ({error!r})") from None


def _rounds(content: Any) -> Rounds:
    found = tuple(tuple(float(value) for value in each) for each in content)
    if not all(each and all(0 < value < np.inf for value in each) for each in found):
        raise ValueError("a latency is a positive number")
    return found


def _medians(rounds: Rounds) -> NDArray[np.float64]:
    return np.array([np.median(each) for each in rounds])


def _relative(interval: tuple[float, float] | None, median: float) -> float | None:
    return None if interval is None else max(abs(end - median) for end in interval) / median


def median_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The narrowest pair of order statistics that holds the median with 95 % confidence.

    Free of any assumption about the distribution (Hahn and Meeker, Statistical Intervals, 1991,
    section 5.2). None for less than six values, of which not even the extremes do.
    """
    rank = int(binom.ppf((1.0 - _CONFIDENCE) / 2, len(values), 0.5))
    if rank == 0:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[-rank])


def measure_latency(
    engine: Engine,
    artifact: Any,
    protocol: LatencyProtocol,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> LatencyMeasurement:
    """Time an artifact that the engine compiled, for a batch of the protocol's size.

    Garbage collection waits meanwhile. Nothing else should run on the machine; whoever calls this
    sees to it.
    """
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with torch_threads(None):
        control = None
        if protocol.has_control:
            control = engine.load(_control_artifact(engine), protocol.num_threads)
        forward = engine.load(artifact, protocol.num_threads)
        for passes in (control, forward):
            for _ in range(protocol.num_warmup if passes else 0):
                passes()  # type: ignore[misc]
        with _no_garbage_collection():
            timed, controls, stopped_by = _time_rounds(engine, forward, control, protocol, clock_ns)
    return LatencyMeasurement(
        rounds_ms=timed,
        control_ms=controls,
        stopped_by=stopped_by,
        engine=engine.name,
        device=engine.device(),
        versions=engine.versions(),
        load_average=load_average,
        protocol=protocol,
    )


def _time_rounds(
    engine: Engine,
    forward: Forward,
    control: Forward | None,
    protocol: LatencyProtocol,
    clock_ns: Callable[[], int],
) -> tuple[Rounds, Rounds, StoppedBy]:
    def timed(passes: Forward, count: int) -> tuple[float, ...]:
        return tuple(engine.elapsed_ns(passes, clock_ns) / 1e6 for _ in range(count))

    rounds: list[tuple[float, ...]] = []
    controls: list[tuple[float, ...]] = []
    for start in range(0, protocol.num_repeats, protocol.round_size):
        count = min(protocol.round_size, protocol.num_repeats - start)
        if control is not None:
            controls.append(timed(control, count))
        rounds.append(timed(forward, count))
        if protocol.precision is not None:
            medians = _medians(tuple(rounds))
            found = _relative(median_interval(medians), float(np.median(medians)))
            if found is not None and found < protocol.precision:
                return tuple(rounds), tuple(controls), "precision"
    return tuple(rounds), tuple(controls), "limit" if protocol.precision else "count"


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# -- the control --------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _control_artifact(engine: Engine) -> Any:
    return engine.compile(*control_network())


def control_network() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network whose latency should never change, with its input: 7 million MACs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)]
        network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        return network.eval().requires_grad_(False), (torch.randn(1, 16, 32, 32),)
