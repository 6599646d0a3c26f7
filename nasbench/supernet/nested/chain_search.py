"""The chain that covers the most of the plane of quality and cost, among measured sub-networks.

Each member of such a ladder costs more than the one before it, in the measured cost as well, and
is better. Then the hypervolume of N members is a sum over consecutive ones: with losses q falling
and costs c rising, and the reference (r_q, r_c) for a last one,

    hypervolume = sum over n of (c[n+1] - c[n]) (r_q - q[n]),   c[N+1] = r_c,

the rectangles of Fonseca, Paquete and Lopez-Ibanez (CEC 2006) in two dimensions. So the best
ladder is the longest path in a directed acyclic graph: an edge leads from a sub-network to each
that contains it, costs more and is better, and is worth the rectangle between them. Sorted by
cost, dynamic programming finds it exactly, in K N^2 time for N sub-networks and up to K members.
Containment is checked for those pairs alone that cost and quality leave.

What this leaves out is a chain in which a larger member is measured to be faster: a clock can say
so, and multiply-accumulates cannot.
"""

from collections.abc import Sequence

import numpy as np

from nasbench.errors import RequestError
from nasbench.pareto import Losses
from nasbench.space import Architecture
from nasbench.supernet.nested.chain import Subnetworks, choice_ranks, larger_size


def best_chain(
    subnetworks: Subnetworks,
    architectures: Sequence[Architecture],
    losses: Losses,
    reference: Losses,
    *,
    max_members: int | None = None,
) -> list[int]:
    """Positions of the members, from the smallest to the largest.

    Args:
        architectures: N measured sub-networks.
        losses: float64 of shape (N, 2), smaller is better: quality first, then cost.
        reference: of shape (2,); who is not better in both takes no part.
        max_members: at most so many; None sets no limit.

    Raises:
        RequestError: for other shapes, or if no sub-network is better than the reference.
    """
    losses, reference = np.asarray(losses, np.float64), np.asarray(reference, np.float64)
    if losses.shape != (len(architectures), 2) or reference.shape != (2,):
        raise RequestError(
            f"expected losses of shape ({len(architectures)}, 2) and a reference of shape (2,), "
            f"but they had shapes {losses.shape} and {reference.shape}"
        )
    if max_members is not None and max_members < 1:
        raise RequestError(f"a chain has at least one member, not {max_members}")
    inside = np.flatnonzero(np.all(losses < reference, axis=1))
    if not len(inside):
        raise RequestError(
            f"no sub-network is better than the reference {tuple(reference.tolist())} in both"
        )
    order = inside[np.argsort(losses[inside, 1], kind="stable")]
    quality, cost = losses[order].T
    edges = _edges(subnetworks, [architectures[i] for i in order], quality, cost)
    path = _best_path(edges, quality, cost, reference, max_members or len(order))
    return [int(order[position]) for position in path]


def _edges(
    subnetworks: Subnetworks,
    architectures: Sequence[Architecture],
    quality: Losses,
    cost: Losses,
) -> np.ndarray:
    """Who may follow whom: bool (N, N), row before column."""
    ranks = choice_ranks(subnetworks.space, architectures)
    macs = np.array([subnetworks.count(architecture)["num_macs"] for architecture in architectures])
    shapes = [subnetworks.shape_of(architecture) for architecture in architectures]
    may_follow = (cost[:, None] < cost) & (quality[:, None] > quality) & (macs[:, None] < macs)
    for row, of in enumerate(ranks):
        may_follow[row] &= (of <= ranks).all(axis=1)
    for row, column in np.argwhere(may_follow):
        may_follow[row, column] = larger_size(shapes[row], shapes[column]) is None
    return may_follow


def _best_path(
    edges: np.ndarray, quality: Losses, cost: Losses, reference: Losses, max_members: int
) -> list[int]:
    """The path of the largest hypervolume, by dynamic programming over the rising cost."""
    gained = reference[0] - quality
    worth = np.where(edges, (cost - cost[:, None]) * gained[:, None], -np.inf)
    so_far = np.zeros(len(cost))  # the hypervolume up to a member's own cost
    before: list[np.ndarray] = []  # of each length: who precedes, -1 for nobody
    while len(before) + 1 < max_members:
        arrived = so_far[:, None] + worth
        best = arrived.argmax(axis=0)
        improved = arrived.max(axis=0)
        is_better = improved > so_far
        if not is_better.any():
            break
        before.append(np.where(is_better, best, -1))
        so_far = np.where(is_better, improved, so_far)
    path = [int(np.argmax(so_far + (reference[1] - cost) * gained))]
    for precedes in reversed(before):
        if precedes[path[0]] >= 0:
            path.insert(0, int(precedes[path[0]]))
    return path
