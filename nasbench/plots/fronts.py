"""Fronts: of one search, of several beside each other, of several together.

Infeasible trials are crosses where they are drawn and on no front; dominated ones are grey.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.pareto import attainment, knee_index, non_dominated, reference_beyond
from nasbench.plots.searched import (
    Groups,
    Searched,
    front_losses,
    shared_objectives,
    values_and_losses,
)
from nasbench.plots.style import (
    BLUE,
    GREY,
    VERMILION,
    finish,
    group_styles,
    known_metric,
    label_axis,
    legend_above,
    new_axes,
)


def plot_pareto_front(run: Searched, ax: Axes | None = None) -> Axes:
    """Every measured sub-network of a two-objective search, its front and its knee.

    What breaks a constraint is marked by a cross, and is on no front.

    Args:
        run: a search over two objectives; the first is drawn upwards, the second to the right.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: for another number of objectives, or without a completed trial.
    """
    if len(run.objectives) != 2:
        raise RequestError(f"a front is drawn over 2 objectives, not {len(run.objectives)}")
    trials = run.completed
    if not trials:
        raise RequestError("there is no completed trial to draw")
    ax = ax or new_axes()
    values, losses = values_and_losses(run.objectives, trials)
    front = np.flatnonzero(non_dominated(losses))
    front = front[np.lexsort((losses[front, 0], losses[front, 1]))]
    others = np.setdiff1d(np.arange(len(values)), front)
    knee = front[[knee_index(losses[front])]]
    upwards, rightwards = values.T
    if run.infeasible:
        broken, _ = values_and_losses(run.objectives, run.infeasible)
        cross: dict[str, Any] = {"color": "#808080", "marker": "x", "lw": 0.8}
        ax.scatter(broken[:, 1], broken[:, 0], s=14, label="infeasible", **cross)
    ax.scatter(rightwards[others], upwards[others], s=14, color=GREY, label="dominated", lw=0)
    ax.step(rightwards[front], upwards[front], where="post", color=BLUE, lw=1.2, zorder=2)
    ax.scatter(rightwards[front], upwards[front], s=26, color=BLUE, label="Pareto front", zorder=3)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.6}
    ax.scatter(rightwards[knee], upwards[knee], s=130, label="knee", zorder=4, **ring)
    vertical, horizontal = (known_metric(objective.metric) for objective in run.objectives)
    label_axis(ax, "y", vertical)
    label_axis(ax, "x", horizontal)
    finish(ax)
    legend_above(ax, f"{len(values) + len(run.infeasible)} measured sub-networks")
    return ax


def plot_pareto_fronts(groups: Groups, ax: Axes | None = None) -> Axes:
    """The fronts of several searches over the same two objectives.

    A single run is drawn as its front. Of several seeds, the line is the median front (what half of
    them attain) and the band reaches from what any of them attains to what all do.

    Args:
        groups: label -> runs that differ in their seed alone.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if the objectives differ or are not two, or a run has no feasible trial.
    """
    objectives = shared_objectives(groups)
    if len(objectives) != 2:
        raise RequestError(f"fronts are drawn over 2 objectives, not {len(objectives)}")
    ax = ax or new_axes()
    fronts = {label: [front_losses(run) for run in runs] for label, runs in groups.items()}
    reference = reference_beyond(np.vstack([f for each in fronts.values() for f in each]))
    signs = np.array([1.0 if o.direction == "minimize" else -1.0 for o in objectives])
    for (label, found), (color, marker, dash) in zip(
        fronts.items(), group_styles(fronts), strict=True
    ):
        upwards, rightwards = (attainment(found, 0.5)[::-1] * signs).T  # from the cheapest
        if len(found) > 1:
            label = f"{label}, median of {len(found)}"
            _band(ax, found, reference, signs, color)
        ax.plot(
            rightwards, upwards, drawstyle="steps-post", color=color, ls=dash, lw=1.4,
            marker=marker, ms=4, label=label, zorder=3,
        )  # fmt: skip
    label_axis(ax, "y", known_metric(objectives[0].metric))
    label_axis(ax, "x", known_metric(objectives[1].metric))
    finish(ax)
    legend_above(ax)
    return ax


def plot_merged_front(groups: Groups, ax: Axes | None = None) -> Axes:
    """The front of several searches together, over the same two objectives.

    What is on it is marked by the group that found it; what any search measured is grey.

    Args:
        groups: label -> runs.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if the objectives differ or are not two, or a run has no feasible trial.
    """
    objectives = shared_objectives(groups)
    if len(objectives) != 2:
        raise RequestError(f"a front is drawn over 2 objectives, not {len(objectives)}")
    ax = ax or new_axes()
    labels, trials = [], []
    for label, runs in groups.items():
        for run in runs:
            trials += run.completed
            labels += [label] * len(run.completed)
    values, losses = values_and_losses(objectives, trials)
    upwards, rightwards = values.T
    is_front = non_dominated(losses)
    ax.scatter(rightwards[~is_front], upwards[~is_front], s=10, color=GREY, lw=0, label="dominated")
    front = np.flatnonzero(is_front)
    front = front[np.lexsort((losses[front, 0], losses[front, 1]))]
    dark: dict[str, Any] = {"color": "#404040", "lw": 1.0, "zorder": 2}
    ax.step(rightwards[front], upwards[front], where="post", **dark)
    sizes = np.linspace(64, 26, len(groups))  # what two groups found can be seen of both
    styles = zip(groups, group_styles(groups), sizes, strict=True)
    for label, (color, marker, _), size in styles:
        own = front[[labels[index] == label for index in front]]
        if len(own):
            label = f"{label} ({len(own)})"
            ax.scatter(
                rightwards[own], upwards[own], s=size, color=color, marker=marker, zorder=3,
                label=label,
            )  # fmt: skip
    label_axis(ax, "y", known_metric(objectives[0].metric))
    label_axis(ax, "x", known_metric(objectives[1].metric))
    finish(ax)
    legend_above(ax, f"front of {len(trials)} sub-networks")
    return ax


def _band(
    ax: Axes,
    fronts: Sequence[NDArray[np.float64]],
    reference: NDArray[np.float64],
    signs: NDArray[np.float64],
    color: str,
) -> None:
    """Fill from what any of the fronts attains to what all of them do, up to the reference."""
    best, worst = attainment(fronts, 1 / len(fronts)), attainment(fronts, 1.0)
    xs = np.union1d(np.concatenate([best[:, 1], worst[:, 1]]), [reference[1]])
    low, high = (_attained(level, xs, reference[0]) for level in (best, worst))
    heights = low * signs[0], high * signs[0]
    ax.fill_between(xs * signs[1], *heights, step="post", color=color, alpha=0.18, lw=0)


def _attained(
    level: NDArray[np.float64], xs: NDArray[np.float64], none: float
) -> NDArray[np.float64]:
    """The first loss that a staircase attains at each second loss; `none` where it does not."""
    reached = level[:, 1][None, :] <= xs[:, None]
    attained = np.where(reached, level[:, 0][None, :], none).min(axis=1)
    return np.asarray(attained, dtype=np.float64)
