"""What a search optimizes and respects: metrics, objectives, constraints.

Inside nasbench every objective is a *loss* to minimize and every constraint a *violation* that
is 0 when satisfied; a person always sees a metric in its natural sign, with its unit.
Objectives keep the order in which they were written.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError, unknown_name

Direction = Literal["minimize", "maximize"]
_DIRECTIONS: dict[str, Direction] = {
    "minimize": "minimize",
    "min": "minimize",
    "maximize": "maximize",
    "max": "maximize",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is measured or counted: its name, unit, better direction and axis label.

    Args:
        is_counted: known from the architecture alone (parameters, MACs, what a given file
            predicts), so that no search learns to predict it.
    """

    name: str
    unit: str
    direction: Direction
    label: str
    is_counted: bool = False

    @property
    def header(self) -> str:
        """The column header: the name, with the unit where the name does not end in it."""
        return self.name if self.name.endswith(f"_{self.unit}") else f"{self.name} [{self.unit}]"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top1_accuracy", "fraction", "maximize", "top-1 accuracy"),
        Metric("top1_error", "fraction", "minimize", "top-1 error"),
        Metric("cross_entropy", "nats", "minimize", "cross-entropy"),
        Metric("perplexity", "per token", "minimize", "perplexity"),
        Metric("bleu", "BLEU", "maximize", "sacreBLEU"),
        Metric("latency_ms", "ms", "minimize", "median latency"),
        Metric("latency_p10_ms", "ms", "minimize", "10th percentile of latency"),
        Metric("latency_p90_ms", "ms", "minimize", "90th percentile of latency"),
        Metric("predicted_latency_ms", "ms", "minimize", "predicted latency", is_counted=True),
        Metric("num_parameters", "count", "minimize", "parameters", is_counted=True),
        Metric("num_macs", "count", "minimize", "multiply-accumulates", is_counted=True),
    )
}


def metric(name: str) -> Metric:
    """The known metric of that name; RequestError with the closest one otherwise."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to optimize.

    Args:
        metric: the metric's name; one that is not in `METRICS` is allowed (users bring their own).
        direction: "minimize" or "maximize" ("min" and "max" are accepted).
    """

    metric: str
    direction: Direction

    def __post_init__(self) -> None:
        if self.direction not in _DIRECTIONS:
            raise RequestError(
                f"objective '{self.metric}' has direction '{self.direction}'; "
                "possible: minimize, maximize"
            )
        object.__setattr__(self, "direction", _DIRECTIONS[self.direction])

    @classmethod
    def of(cls, name: str) -> "Objective":
        """The known metric of that name in its better direction; RequestError if unknown."""
        return cls(name, metric(name).direction)

    def to_loss(self, value: float) -> float:
        """The value as something to minimize."""
        return value if self.direction == "minimize" else -value

    def from_loss(self, loss: float) -> float:
        """The natural value that `to_loss` turned into `loss`."""
        return loss if self.direction == "minimize" else -loss


def losses_of(
    objectives: Sequence[Objective], measurements: Sequence[Mapping[str, float]]
) -> NDArray[np.float64]:
    """Losses of N trials, float64 of shape (N, num_objectives), in the objectives' order."""
    losses = np.empty((len(measurements), len(objectives)))
    for row, measured in enumerate(measurements):
        losses[row] = [objective.to_loss(measured[objective.metric]) for objective in objectives]
    return losses


# What a person may write for a metric, and in which unit a bound may stand.
_ALIASES = {
    "latency": "latency_ms",
    "accuracy": "top1_accuracy",
    "error": "top1_error",
    "parameters": "num_parameters",
    "params": "num_parameters",
    "macs": "num_macs",
}
_SCALES: dict[str, dict[str, float]] = {
    "ms": {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3},
    "fraction": {"": 1.0, "%": 0.01},
    "count": {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9},
    "nats": {"": 1.0},
}
_CONSTRAINT = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<operator><=|>=)\s*"
    r"(?P<number>[-+]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[a-zA-Z]*)\s*"
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound that a metric must respect.

    Args:
        metric: the metric's name.
        operator: "<=" or ">=".
        bound: in the metric's unit; where `is_relative`, a share of what the largest
            sub-network has (0.6 says 60 %).
    """

    metric: str
    operator: Literal["<=", ">="]
    bound: float
    is_relative: bool = False

    def __post_init__(self) -> None:
        if self.operator not in ("<=", ">="):
            raise RequestError(
                f"the constraint on '{self.metric}' has operator '{self.operator}'; "
                "possible: <=, >="
            )
        if not math.isfinite(self.bound):
            raise RequestError(
                f"the constraint on '{self.metric}' needs a finite bound, not {self.bound}"
            )

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """Read "latency <= 3 ms", "num_parameters <= 200k", "num_macs <= 60%", "accuracy >= 97%".

        A percentage is relative to the largest sub-network, except for fractions such as
        accuracy, which it states absolutely.

        Raises:
            RequestError: if the text has another form, or names an unknown metric or unit.
        """
        match = _CONSTRAINT.fullmatch(text)
        if match is None:
            raise RequestError(
                f"cannot read the constraint '{text}'; write a metric, <= or >=, and a number "
                "with its unit, for example: latency <= 3 ms, num_parameters <= 200k, "
                "num_macs <= 60%"
            )
        name = match["metric"]
        known = metric(_ALIASES.get(name, name))
        scales, unit = _SCALES.get(known.unit, {"": 1.0, known.unit.lower(): 1.0}), match["unit"]
        operator: Literal["<=", ">="] = "<=" if match["operator"] == "<=" else ">="
        if unit == "%" and known.unit != "fraction":
            return cls(known.name, operator, float(match["number"]) / 100, is_relative=True)
        if unit.lower() not in scales:
            units = ", ".join(u for u in scales if u) or "none"
            raise RequestError(
                f"cannot read the constraint '{text}': '{known.name}' has no unit '{unit}'; "
                f"possible: {units}"
            )
        bound = float(match["number"]) * scales[unit.lower()]
        if known.unit == "fraction" and not 0 <= bound <= 1:
            hint = f"; did you mean {match['number']}%?" if 1 < bound <= 100 and not unit else ""
            raise RequestError(
                f"cannot read the constraint '{text}': '{known.name}' is a fraction between 0 and "
                f"1{hint}"
            )
        return cls(known.name, operator, bound)

    def resolve(self, largest: Mapping[str, float]) -> "Constraint":
        """The same bound in absolute terms, given what the largest sub-network measures."""
        if not self.is_relative:
            return self
        return Constraint(self.metric, self.operator, self.bound * largest[self.metric])

    def violation(self, value: float) -> float:
        """0 where satisfied; otherwise by how much, relative to the bound.

        A value that is no number (NaN, of a failed trial) violates every constraint infinitely.
        """
        if self.is_relative:
            raise RequestError(
                f"the constraint '{self}' is relative; resolve it with the largest sub-network"
            )
        if math.isnan(value):
            return math.inf
        excess = value - self.bound if self.operator == "<=" else self.bound - value
        return max(0.0, excess) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        amount = f"{100 * self.bound:.12g}%" if self.is_relative else f"{self.bound:.12g}"
        return f"{self.metric} {self.operator} {amount}"


def parse_constraints(text: str) -> list[Constraint]:
    """Read constraints joined by "and": "latency_ms <= 3 and top1_accuracy >= 0.9"."""
    return [Constraint.parse(part) for part in re.split(r"\s+and\s+", text.strip())]


def violations_of(
    constraints: Sequence[Constraint], measurements: Sequence[Mapping[str, float]]
) -> NDArray[np.float64]:
    """Summed violation of each of N trials, float64 of shape (N,); 0 says feasible."""
    return np.array(
        [sum(c.violation(m[c.metric]) for c in constraints) for m in measurements],
        dtype=np.float64,
    )
