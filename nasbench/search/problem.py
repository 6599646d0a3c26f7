"""What a search looks for: a space, objectives, constraints, and which metrics can be counted.

Shape legend: N architectures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.space import Architecture, Genomes, SearchSpace

Floats = NDArray[np.float64]

_NUM_REMEMBERED = 50_000


@dataclass(frozen=True)
class SearchProblem:
    """A search space with what to optimize and respect in it.

    Args:
        space: what may be proposed.
        objectives: at least one, each metric once; their order is that of the losses' columns.
        constraints: in absolute terms (`Constraint.resolve`).
        counted: metric -> how to compute it exactly from an architecture (MACs, parameters).
            Such a metric is never predicted, and no proposal is known to violate a constraint
            on it as long as there are others.

    Raises:
        RequestError: for no objective, a repeated one, or a relative constraint.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    counted: Mapping[str, Callable[[Architecture], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objectives", tuple(self.objectives))
        object.__setattr__(self, "constraints", tuple(self.constraints))
        object.__setattr__(self, "counted", dict(self.counted))
        if not self.objectives:
            raise RequestError("a search problem needs at least one objective, but has none")
        for objective in self.objectives:
            if not isinstance(objective, Objective):
                raise RequestError(
                    f"an objective is an Objective, such as Objective.of('top1_error'), "
                    f"not {objective!r}"
                )
        metrics = [objective.metric for objective in self.objectives]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise RequestError(f"the metric '{metric}' is an objective twice; name it once")
        for constraint in self.constraints:
            if constraint.is_relative:
                raise RequestError(
                    f"the constraint '{constraint}' is relative to the largest sub-network; a "
                    "search needs it in absolute terms, as Constraint.resolve gives it"
                )


class CountedMetrics:
    """The exact metrics of candidates, as far as a problem can count them.

    Recent candidates are remembered, because a search comes back to the same ones.
    """

    def __init__(self, problem: SearchProblem) -> None:
        needed = [objective.metric for objective in problem.objectives]
        needed += [constraint.metric for constraint in problem.constraints]
        self._problem = problem
        self._count = {name: problem.counted[name] for name in needed if name in problem.counted}
        self._row = lru_cache(maxsize=_NUM_REMEMBERED)(self._count_genome)

    def values(self, genomes: Genomes) -> dict[str, Floats]:
        """Metric -> values of shape (N,), for genomes of shape (N, D)."""
        if not self._count:
            return {}
        rows = np.array([self._row(key) for key in genome_keys(genomes)])
        return dict(zip(self._count, rows.reshape(len(genomes), len(self._count)).T, strict=True))

    def violations(self, genomes: Genomes) -> Floats:
        """Summed violation of the counted constraints, of shape (N,)."""
        constraints = [c for c in self._problem.constraints if c.metric in self._count]
        total = np.zeros(len(genomes))
        if constraints:
            values = self.values(genomes)
            for constraint in constraints:
                total += [constraint.violation(value) for value in values[constraint.metric]]
        return total

    def _count_genome(self, key: bytes) -> tuple[float, ...]:
        genome = np.frombuffer(key, dtype=np.int64)
        architecture = self._problem.space.from_genome(genome)
        return tuple(float(count(architecture)) for count in self._count.values())


def genome_keys(genomes: Genomes) -> list[bytes]:
    """A key for each of N genomes: equal for equal genomes."""
    return [genome.tobytes() for genome in genomes]
