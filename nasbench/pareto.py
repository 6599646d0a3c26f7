"""Pareto fronts over losses: dominance, ranks, crowding, hypervolume, the knee.

Every array of losses is float64 of shape (N, M): N points, M objectives, smaller is better in
every column. A loss that is no number (NaN) has no place on a front and is refused, so leave
failed trials out. Dominance and hypervolume come from moocore.
"""

from collections.abc import Sequence

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


def reference_beyond(losses: Losses) -> Losses:
    """A reference point that every point strictly dominates, of shape (M,).

    In each objective the worst of the N points plus a tenth of their range (where they are all
    equal, of their size), so that the ends of a front count, too: Ishibuchi et al., How to Specify
    a Reference Point in Hypervolume Calculation for Fair Performance Comparison (Evolutionary
    Computation 2018), who start from the worst of the front alone. Fronts are compared by one
    reference point: that of all their points together.

    Raises:
        RequestError: if there is no point.
    """
    losses = _checked(losses, finite=True)
    if len(losses) == 0:
        raise RequestError("a reference point needs at least one point, but there is none")
    worst = losses.max(axis=0)
    extent = worst - losses.min(axis=0)
    size = np.where(worst != 0, np.abs(worst), 1.0)
    return np.asarray(worst + 0.1 * np.where(extent > 0, extent, size), dtype=np.float64)


def hypervolume_over_trials(losses: Losses, reference: Losses) -> Losses:
    """Hypervolume of the first 1, 2, ..., N points: (N, M) -> (N,), never falling.

    A row of infinities, which a trial without a result has, adds nothing.
    """
    losses = _checked(losses)
    found = np.zeros(len(losses))
    front, volume = losses[:0], 0.0
    for row, point in enumerate(losses):
        is_new = np.isfinite(point).all() and not np.any(np.all(front <= point, axis=1))
        if is_new:  # only then does the front, and with it the volume, change
            front = np.vstack([front[~np.all(point <= front, axis=1)], point])
            volume = max(volume, hypervolume(front, reference))
        found[row] = volume
    return found


def comparable_hypervolumes(
    searches: Sequence[Losses], reference: Losses | None = None
) -> tuple[Losses, list[Losses]]:
    """Hypervolume over trials of several searches, on one scale.

    It is the share of the box between the reference point and the best value that any of the
    searches found of each objective.

    Args:
        searches: losses of each, of shape (N, M), infinite where a trial has no result.
        reference: of shape (M,); None takes `reference_beyond` of all finite points.

    Returns:
        The reference point, and of each search an array of shape (N,).

    Raises:
        RequestError: if no point is finite, or the reference is not worse than the best values.
    """
    found = np.vstack(list(searches))
    found = found[np.isfinite(found).all(axis=1)]
    worst = reference_beyond(found) if reference is None else np.asarray(reference)
    if len(found) == 0 or not np.all(worst > found.min(axis=0)):
        raise RequestError("the reference point is no worse than the best value of an objective")
    box = float(np.prod(worst - found.min(axis=0)))
    return worst, [hypervolume_over_trials(losses, worst) / box for losses in searches]


def attainment(fronts: Sequence[Losses], share: float) -> Losses:
    """What at least this share of the fronts attain: the staircase of one level, of two objectives.

    The empirical attainment function of Grunert da Fonseca, Fonseca and Hall (EMO 2001). With
    share 0.5 it is the median front of several seeds.

    Args:
        fronts: arrays of shape (N, 2), one per search.
        share: in (0, 1].

    Returns:
        The corners of the staircase, of shape (K, 2), the first objective rising.
    """
    points = [_checked(front, finite=True) for front in fronts]
    if not points or any(front.shape[1] != 2 or len(front) == 0 for front in points):
        raise RequestError("attainment is of one or more non-empty fronts over two objectives")
    sets = np.concatenate([np.full(len(front), i + 1) for i, front in enumerate(points)])
    found = moocore.eaf(np.vstack(points), sets=sets, percentiles=[100 * share])[:, :2]
    return np.asarray(found[np.lexsort((found[:, 1], found[:, 0]))], dtype=np.float64)


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
