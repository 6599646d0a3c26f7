"""Pareto fronts over losses: dominance, ranks, crowding, hypervolume, the knee.

Every array of losses is float64 of shape (N, M): N points, M objectives, smaller is better in
every column. A loss that is no number (NaN) has no place on a front and is refused, so leave
failed trials out. Dominance and hypervolume come from moocore.
"""

import moocore
import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RequestError

Losses = NDArray[np.float64]


def _checked(losses: Losses, *, finite: bool = False) -> Losses:
    """The losses as float64 of shape (N, M), or RequestError that says what is wrong."""
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] == 0:
        raise RequestError(
            "expected losses of shape (num_points, num_objectives), but they had shape "
            f"{losses.shape}"
        )
    wrong = ~np.isfinite(losses) if finite else np.isnan(losses)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise RequestError(f"objective {column} of point {row} is {losses[row, column]}")
    return losses


def dominates(a: Losses, b: Losses) -> bool:
    """Whether point `a` of shape (M,) is no worse than `b` in any objective and better in one."""
    return bool(np.all(a <= b) and np.any(a < b))


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Which points no other dominates: (N, M) -> bool of shape (N,). Equal points all stay."""
    losses = _checked(losses)
    if len(losses) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(losses, keep_weakly=True), dtype=bool)


def non_domination_ranks(losses: Losses) -> NDArray[np.int64]:
    """Rank of each point, 1 for the front, 2 for the front of what remains, ...: (N, M) -> (N,)."""
    losses = _checked(losses)
    if len(losses) == 0:
        return np.zeros(0, dtype=np.int64)
    if losses.shape[1] == 1:  # moocore ranks two and more objectives
        return np.unique(losses[:, 0], return_inverse=True)[1].astype(np.int64) + 1
    return np.asarray(moocore.pareto_rank(losses), dtype=np.int64) + 1


def crowding_distance(losses: Losses) -> NDArray[np.float64]:
    """Crowding distance of each point among all N, infinite at the ends of each objective.

    Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (IEEE TEC 2002),
    section III-B, with every objective scaled by its range.
    """
    losses = _checked(losses, finite=True)
    num_points, num_objectives = losses.shape
    distance = np.zeros(num_points)
    for objective in range(num_objectives):
        order = np.argsort(losses[:, objective], kind="stable")
        values = losses[order, objective]
        extent = values[-1] - values[0] if num_points else 0.0
        distance[order[:1]] = distance[order[-1:]] = np.inf
        if num_points > 2 and extent > 0:
            distance[order[1:-1]] += (values[2:] - values[:-2]) / extent
    return distance


def hypervolume(losses: Losses, reference: Losses) -> float:
    """Volume that the points dominate, bounded by the reference point of shape (M,).

    Points that do not strictly dominate the reference point add nothing.

    Raises:
        RequestError: if the reference point has another number of objectives.
    """
    losses = _checked(losses)
    reference = np.asarray(reference, dtype=np.float64)
    if reference.shape != (losses.shape[1],):
        raise RequestError(
            f"expected a reference point of shape ({losses.shape[1]},), one value per objective, "
            f"but it had shape {reference.shape}"
        )
    if np.isnan(reference).any():
        wrong = int(np.flatnonzero(np.isnan(reference))[0])
        raise RequestError(f"objective {wrong} of the reference point is nan")
    inside = losses[np.all(losses < reference, axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def knee_index(losses: Losses) -> int:
    """The row of the knee: the point that bulges most towards the ideal corner.

    With every objective of the front scaled to [0, 1], the point farthest below the hyperplane
    through the ends of the axes, which is where the scaled losses sum to the least. Das, On
    Characterizing the "Knee" of the Pareto Curve Based on Normal-Boundary Intersection
    (Structural Optimization 1999). Dominated points are never chosen.

    Raises:
        RequestError: if there is no point.
    """
    losses = _checked(losses, finite=True)
    if len(losses) == 0:
        raise RequestError("a knee needs at least one point, but the front is empty")
    front = np.flatnonzero(non_dominated(losses))
    lowest, highest = losses[front].min(axis=0), losses[front].max(axis=0)
    extent = np.where(highest > lowest, highest - lowest, 1.0)
    return int(front[np.argmin(((losses[front] - lowest) / extent).sum(axis=1))])
