"""Choosing one sub-network among the trials of a search."""

from collections.abc import Sequence

from nasbench.errors import RequestError
from nasbench.objectives import METRICS, Constraint, Objective, losses_of, parse_constraints
from nasbench.pareto import knee_index, non_dominated
from nasbench.trials import Trial, TrialState

PICKS = ("knee", "best", "fastest", "most-accurate")
_TIMES = ("latency_ms", "predicted_latency_ms")
_COSTS = ("ms", "count")  # units of what a network costs; the others say how good it is


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The non-dominated ones, from the best in the first objective to the worst."""
    losses = losses_of(objectives, [trial.measurements for trial in trials])
    front = [t for t, is_member in zip(trials, non_dominated(losses), strict=True) if is_member]
    first = objectives[0]
    return sorted(front, key=lambda trial: first.to_loss(trial.measurements[first.metric]))


def choose(
    front: Sequence[Trial],
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    where: str = "",
    pick: str = "knee",
) -> Trial:
    """One trial.

    Args:
        front: what `pareto_front` returned, not empty.
        trials: all trials, of which any completed one can be picked by its id.
        objectives: of the front.
        where: constraints joined by "and"; with it the best in the first objective of those on the
            front that respect them is taken.
        pick: without `where`: "knee", "best" (in the first objective), "most-accurate" (in the
            first objective that is no cost), "fastest", or an architecture's id.

    Raises:
        RequestError: if nothing fits.
    """
    if where:
        return _best_where(front, parse_constraints(where))
    if pick == "best":
        return front[0]
    if pick == "knee":
        return front[knee_index(losses_of(objectives, [t.measurements for t in front]))]
    if pick == "fastest":
        found = [metric for metric in _TIMES if metric in front[0].measurements]
        if not found:
            raise RequestError(
                "the search measured no latency, so it is not known which is the fastest; give "
                '--device NAME of a device that is known, or --where "num_macs <= NUMBER"'
            )
        metric = next((o.metric for o in objectives if o.metric in found), found[0])
        return min(front, key=lambda trial: trial.measurements[metric])
    if pick == "most-accurate":
        qualities = [o for o in objectives if METRICS[o.metric].unit not in _COSTS]
        if not qualities:
            raise RequestError("none of the search's objectives says how good a network is")
        first = qualities[0]
        return min(front, key=lambda trial: first.to_loss(trial.measurements[first.metric]))
    for trial in trials:
        if trial.architecture.id == pick and trial.state is TrialState.COMPLETE:
            return trial
    raise RequestError(
        f"no completed trial has the architecture id '{pick}'; give {', '.join(PICKS)}, or an id "
        "of pareto.csv"
    )


def _best_where(front: Sequence[Trial], constraints: Sequence[Constraint]) -> Trial:
    for constraint in constraints:
        if constraint.metric not in front[0].measurements:
            raise RequestError(
                f"no '{constraint.metric}' was measured; possible: "
                + ", ".join(front[0].measurements)
            )
        if constraint.is_relative:
            raise RequestError(f"give '{constraint.metric}' an absolute bound, not a share")
        near = min(front, key=lambda t: constraint.violation(t.measurements[constraint.metric]))
        value = near.measurements[constraint.metric]
        if constraint.violation(value) > 0:
            raise RequestError(
                f"no sub-network of the front has {constraint}; the nearest has {value:.4g}"
            )
    for trial in front:
        if all(c.violation(trial.measurements[c.metric]) == 0 for c in constraints):
            return trial
    raise RequestError(
        "no sub-network of the front has " + " and ".join(map(str, constraints)) + " at once"
    )
