"""Selection: which of many candidates are better, and which of the good ones to take together.

Feasible candidates precede others and the least violated leads among those (Deb et al., IEEE
TEC 2002, section VI).

Shape legend: N candidates, M objectives.
"""

import numpy as np
from numpy.typing import NDArray

from nasbench.pareto import crowding_distance, non_domination_ranks
from nasbench.search.problem import Floats

Rows = NDArray[np.int64]


def feasible_first_ranks(losses: Floats, violations: Floats) -> Rows:
    """Non-domination ranks from 1, then a rank for each amount of violation: (N,)."""
    feasible = violations == 0
    ranks = np.empty(len(losses), dtype=np.int64)
    ranks[feasible] = non_domination_ranks(losses[feasible])
    last = ranks[feasible].max(initial=0)
    ranks[~feasible] = last + 1 + np.unique(violations[~feasible], return_inverse=True)[1]
    return ranks


def best_rows(losses: Floats, violations: Floats, count: int) -> Rows:
    """The `count` best rows, best first: by rank, within a rank by crowding distance."""
    ranks = feasible_first_ranks(losses, violations)
    chosen = np.empty(0, dtype=np.int64)
    for rank in np.unique(ranks):
        if len(chosen) >= count:
            break
        front = np.flatnonzero(ranks == rank)
        crowding = crowding_distance(losses[front])
        chosen = np.concatenate([chosen, front[np.argsort(-crowding, kind="stable")]])
    return chosen[:count]


def diverse_rows(losses: Floats, violations: Floats, count: int, taken: Floats) -> Rows:
    """`count` rows to take together: the best ranks whole, and of the last one its spread.

    Args:
        losses: of shape (N, M).
        violations: of shape (N,).
        count: how many rows; all of them where there are fewer.
        taken: losses of what was taken before, (any number, M), to keep away from.
    """
    ranks = feasible_first_ranks(losses, violations)
    chosen = np.empty(0, dtype=np.int64)
    for rank in np.unique(ranks):
        room = count - len(chosen)
        if room == 0:
            break
        front = np.flatnonzero(ranks == rank)
        if len(front) > room:
            front = front[_spread(losses[front], np.concatenate([losses[chosen], taken]), room)]
        chosen = np.concatenate([chosen, front])
    return chosen


def _spread(losses: Floats, taken: Floats, count: int) -> Rows:
    """`count` rows of a front, each the farthest from its nearest taken one, greedily.

    Gonzalez, Clustering to Minimize the Maximum Intercluster Distance (1985), with every
    objective scaled by its range; it begins at the best end of the first objective.
    """
    lowest, extent = losses.min(axis=0), np.ptp(losses, axis=0)
    scaled = (losses - lowest) / np.where(extent > 0, extent, 1.0)
    distance = np.full(len(losses), np.inf)
    for point in (taken - lowest) / np.where(extent > 0, extent, 1.0):
        distance = np.minimum(distance, ((scaled - point) ** 2).sum(axis=1))
    row = int(np.argmax(distance) if len(taken) else np.argmin(losses[:, 0]))
    rows = [row]
    while len(rows) < count:
        distance = np.minimum(distance, ((scaled - scaled[row]) ** 2).sum(axis=1))
        distance[rows] = -1.0  # not again, even where all that is left coincides
        row = int(np.argmax(distance))
        rows.append(row)
    return np.array(rows, dtype=np.int64)
