"""How fast searches find their fronts."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

from nasbench.errors import RequestError
from nasbench.pareto import comparable_hypervolumes
from nasbench.plots.searched import Groups, shared_objectives
from nasbench.plots.style import (
    finish,
    group_styles,
    known_metric,
    legend_above,
    new_axes,
    value_of,
)


def plot_hypervolume(
    groups: Groups, reference: Sequence[float] | None = None, ax: Axes | None = None
) -> Axes:
    """How fast searches find their fronts: hypervolume over trials, of any number of objectives.

    The line is the median of a group's seeds and the band reaches from the worst to the best.
    Failed and infeasible trials count as trials and add nothing. The reference point is stated
    below the figure; hypervolume is the share of the box between it and the best value that any
    run found of each objective.

    Args:
        groups: label -> runs that differ in their seed alone.
        reference: one value per objective, in its natural sign; None takes the worst of all
            trials and a tenth of their range more (`nasbench.pareto.reference_beyond`).
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if the objectives differ, a run has no feasible trial, or the reference point
            is not worse than the best values.
    """
    objectives = shared_objectives(groups)
    if reference is not None and len(reference) != len(objectives):
        raise RequestError(
            f"a reference point over {len(objectives)} objectives has that many values, not "
            f"{len(reference)}"
        )
    ax = ax or new_axes()
    given = None
    if reference is not None:
        given = np.array([o.to_loss(v) for o, v in zip(objectives, reference, strict=True)])
    runs = [run for each in groups.values() for run in each]
    worst, curves = comparable_hypervolumes([run.losses for run in runs], given)
    left = iter(curves)
    for (label, members), (color, _, dash) in zip(
        groups.items(), group_styles(groups), strict=True
    ):
        found = [next(left) for _ in members]
        num = min(map(len, found))
        volumes = np.array([each[:num] for each in found])
        trials = np.arange(1, num + 1)
        if len(members) > 1:
            label = f"{label}, median of {len(members)}"
            ends = volumes.min(axis=0), volumes.max(axis=0)
            ax.fill_between(trials, *ends, step="post", color=color, alpha=0.18, lw=0)
        middle = np.median(volumes, axis=0)
        ax.plot(trials, middle, drawstyle="steps-post", color=color, ls=dash, lw=1.4, label=label)
    at = ", ".join(
        f"{known_metric(o.metric).label} {value_of(known_metric(o.metric), o.from_loss(loss))}"
        for o, loss in zip(objectives, worst.tolist(), strict=True)
    )
    ax.set_xlabel("trials\n" + fill(f"reference point: {at}", 36))
    ax.set_ylabel("hypervolume\n[share of the box]")
    finish(ax)
    legend_above(ax)
    return ax
