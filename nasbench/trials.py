"""Trials: immutable records of evaluated architectures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any

from nasbench.space import Architecture

FULL, CHEAP = "full", "cheap"
"""Fidelities: how much data a trial's metrics were measured with."""


class TrialState(StrEnum):
    """Where a trial is in its life; COMPLETE and FAILED are final."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def is_finished(self) -> bool:
        """Whether nothing about the trial can change any more."""
        return self in (TrialState.COMPLETE, TrialState.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One architecture with what was measured of it.

    Args:
        number: position in the order of proposals, from 0.
        measurements: metric name -> value in the metric's unit; empty until COMPLETE.
        error: why it failed; None unless FAILED.
        provenance: what the numbers depend on (device, engine, protocol, fidelity, seconds taken);
            of a RUNNING trial, the fidelity that is asked for.
    """

    number: int
    architecture: Architecture
    state: TrialState = TrialState.WAITING
    measurements: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measurements", MappingProxyType(dict(self.measurements)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @property
    def fidelity(self) -> str:
        """FULL, or CHEAP where a screening left it at a part of the data."""
        return str(self.provenance.get("fidelity", FULL))

    @property
    def conditions(self) -> dict[str, Any]:
        """The provenance without what differs from trial to trial, such as the timed passes."""
        own = ("latency", "fidelity", "screening")
        return {name: value for name, value in self.provenance.items() if name not in own}

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("measurements", "provenance"):  # a mapping proxy does not pickle
            values[name] = dict(values[name])
        return partial(Trial, **values), ()

    def completed(
        self, measurements: Mapping[str, float], provenance: Mapping[str, Any] | None = None
    ) -> "Trial":
        """This trial, COMPLETE with these measurements."""
        return replace(
            self,
            state=TrialState.COMPLETE,
            measurements=measurements,
            error=None,
            provenance=provenance or {},
        )

    def failed(self, error: str) -> "Trial":
        """This trial, FAILED for the stated reason."""
        return replace(self, state=TrialState.FAILED, measurements={}, error=error)
