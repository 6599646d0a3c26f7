"""Figures: each function takes and returns matplotlib Axes, with units on every axis.

Colors are told apart in grey and by the color-blind (Okabe and Ito's palette), and beside the color
there is always a marker, a dash or a place; dominated points are grey. Several runs come in groups:
label -> the runs that differ in their seed alone. Nothing is shown or closed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from textwrap import fill
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.objectives import METRICS, Metric, Objective, losses_of
from nasbench.pareto import (
    attainment,
    comparable_hypervolumes,
    knee_index,
    non_dominated,
    reference_beyond,
)
from nasbench.predictors import Prediction
from nasbench.space import SearchSpace
from nasbench.trials import Trial

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#B0B0B0"
_GROUPS = (  # color, marker, dash
    (BLUE, "o", "-"),
    (VERMILION, "s", "--"),
    ("#009E73", "D", ":"),
    ("#CC79A7", "^", "-."),
    ("#56B4E9", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("#000000", "P", (0, (8, 2))),
)


class Searched(Protocol):
    """What a figure needs of a run."""

    @property
    def objectives(self) -> list[Objective]:
        """What was optimized."""

    @property
    def space(self) -> SearchSpace:
        """Of its architectures."""

    @property
    def completed(self) -> list[Trial]:
        """The completed, feasible trials."""

    @property
    def infeasible(self) -> list[Trial]:
        """The completed trials that break a constraint."""

    @property
    def losses(self) -> NDArray[np.float64]:
        """Of every finished trial in order; infinite where it failed or is infeasible."""


Groups = Mapping[str, Sequence[Searched]]


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
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
    values, losses = _values_and_losses(run.objectives, trials)
    front = np.flatnonzero(non_dominated(losses))
    front = front[np.lexsort((losses[front, 0], losses[front, 1]))]
    others = np.setdiff1d(np.arange(len(values)), front)
    knee = front[[knee_index(losses[front])]]
    upwards, rightwards = values.T
    if run.infeasible:
        broken, _ = _values_and_losses(run.objectives, run.infeasible)
        cross: dict[str, Any] = {"color": "#808080", "marker": "x", "lw": 0.8}
        ax.scatter(broken[:, 1], broken[:, 0], s=14, label="infeasible", **cross)
    ax.scatter(rightwards[others], upwards[others], s=14, color=GREY, label="dominated", lw=0)
    ax.step(rightwards[front], upwards[front], where="post", color=BLUE, lw=1.2, zorder=2)
    ax.scatter(rightwards[front], upwards[front], s=26, color=BLUE, label="Pareto front", zorder=3)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.6}
    ax.scatter(rightwards[knee], upwards[knee], s=130, label="knee", zorder=4, **ring)
    vertical, horizontal = (_known(objective.metric) for objective in run.objectives)
    _label(ax, "y", vertical)
    _label(ax, "x", horizontal)
    _finish(ax)
    _legend(ax, f"{len(values) + len(run.infeasible)} measured sub-networks")
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
    objectives = _shared_objectives(groups)
    if len(objectives) != 2:
        raise RequestError(f"fronts are drawn over 2 objectives, not {len(objectives)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
    fronts = {label: [_front(run) for run in runs] for label, runs in groups.items()}
    reference = reference_beyond(np.vstack([f for each in fronts.values() for f in each]))
    signs = np.array([1.0 if o.direction == "minimize" else -1.0 for o in objectives])
    for (label, found), (color, marker, dash) in zip(fronts.items(), _styles(fronts), strict=True):
        upwards, rightwards = (attainment(found, 0.5)[::-1] * signs).T  # from the cheapest
        if len(found) > 1:
            label = f"{label}, median of {len(found)}"
            _band(ax, found, reference, signs, color)
        ax.plot(
            rightwards, upwards, drawstyle="steps-post", color=color, ls=dash, lw=1.4,
            marker=marker, ms=4, label=label, zorder=3,
        )  # fmt: skip
    _label(ax, "y", _known(objectives[0].metric))
    _label(ax, "x", _known(objectives[1].metric))
    _finish(ax)
    _legend(ax)
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
    objectives = _shared_objectives(groups)
    if len(objectives) != 2:
        raise RequestError(f"a front is drawn over 2 objectives, not {len(objectives)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
    labels, trials = [], []
    for label, runs in groups.items():
        for run in runs:
            trials += run.completed
            labels += [label] * len(run.completed)
    values, losses = _values_and_losses(objectives, trials)
    upwards, rightwards = values.T
    is_front = non_dominated(losses)
    ax.scatter(rightwards[~is_front], upwards[~is_front], s=10, color=GREY, lw=0, label="dominated")
    front = np.flatnonzero(is_front)
    front = front[np.lexsort((losses[front, 0], losses[front, 1]))]
    dark: dict[str, Any] = {"color": "#404040", "lw": 1.0, "zorder": 2}
    ax.step(rightwards[front], upwards[front], where="post", **dark)
    sizes = np.linspace(64, 26, len(groups))  # what two groups found can be seen of both
    styles = zip(groups, _styles(groups), sizes, strict=True)
    for label, (color, marker, _), size in styles:
        own = front[[labels[index] == label for index in front]]
        if len(own):
            label = f"{label} ({len(own)})"
            ax.scatter(
                rightwards[own], upwards[own], s=size, color=color, marker=marker, zorder=3,
                label=label,
            )  # fmt: skip
    _label(ax, "y", _known(objectives[0].metric))
    _label(ax, "x", _known(objectives[1].metric))
    _finish(ax)
    _legend(ax, f"front of {len(trials)} sub-networks")
    return ax


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
    objectives = _shared_objectives(groups)
    if reference is not None and len(reference) != len(objectives):
        raise RequestError(
            f"a reference point over {len(objectives)} objectives has that many values, not "
            f"{len(reference)}"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
    given = None
    if reference is not None:
        given = np.array([o.to_loss(v) for o, v in zip(objectives, reference, strict=True)])
    runs = [run for each in groups.values() for run in each]
    worst, curves = comparable_hypervolumes([run.losses for run in runs], given)
    left = iter(curves)
    for (label, members), (color, _, dash) in zip(groups.items(), _styles(groups), strict=True):
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
        f"{_known(o.metric).label} {_written(_known(o.metric), o.from_loss(loss))}"
        for o, loss in zip(objectives, worst.tolist(), strict=True)
    )
    ax.set_xlabel("trials\n" + fill(f"reference point: {at}", 36))
    ax.set_ylabel("hypervolume\n[share of the box]")
    _finish(ax)
    _legend(ax)
    return ax


def plot_choice_frequencies(run: Searched, ax: Axes | None = None) -> Axes:
    """Which choices the sub-networks of a front make: for each dimension, the share of each choice.

    Rows are dimensions and darker is a later choice; a row stays white to the right for the
    sub-networks in which its dimension is inactive. A row of one shade is the same all along the
    front.

    Args:
        run: whose front is drawn, over any number of objectives.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if no completed trial is feasible.
    """
    completed, space = run.completed, run.space
    losses = losses_of(run.objectives, [trial.measurements for trial in completed])
    trials = [t for t, is_member in zip(completed, non_dominated(losses), strict=True) if is_member]
    if not trials:
        raise RequestError("there is no completed trial to draw")
    genomes = space.to_genomes([trial.architecture for trial in trials])
    active = space.active(genomes)
    if ax is None:
        size = (5.0, 0.9 + 0.2 * len(space))
        _, ax = plt.subplots(figsize=size, dpi=160, layout="constrained")
    for row, dimension in enumerate(space):
        left = 0.0
        shades = np.linspace(0.2, 0.9, len(dimension.choices))
        for index, (choice, shade) in enumerate(zip(dimension.choices, shades, strict=True)):
            share = float(np.mean(active[:, row] & (genomes[:, row] == index)))
            ax.barh(
                row, 100 * share, left=100 * left, height=0.82,
                color=plt.get_cmap("Blues")(shade), edgecolor="white", lw=0.6,
            )  # fmt: skip
            if share > 0.07:
                color = "white" if shade > 0.55 else "black"
                ax.text(
                    100 * (left + share / 2), row, str(choice), ha="center", va="center",
                    color=color, fontsize=6,
                )  # fmt: skip
            left += share
    names = [dimension.name.replace("_", " ") for dimension in space]
    ax.set_yticks(range(len(names)), names, fontsize=6)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 100))
    ax.set_xlabel(f"share of {len(trials)} sub-networks [%]")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_parity(
    values: NDArray[np.float64],
    prediction: Prediction,
    metric: str,
    ax: Axes | None = None,
) -> Axes:
    """Predicted against measured, one point per architecture, with the line where they are equal.

    Args:
        values: what was measured, of shape (N,).
        prediction: of architectures that the predictor did not learn from; its standard deviation
            is drawn as a bar.
        metric: the metric's name, which gives both axes their label and unit.
        ax: where to draw; a new figure where None.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 4.0), dpi=160, layout="constrained")
    low = float(min(values.min(), prediction.mean.min()))
    high = float(max(values.max(), prediction.mean.max()))
    margin = 0.03 * (high - low)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=GREY, lw=1.0, zorder=1, label="equal")
    ax.errorbar(
        values, prediction.mean, yerr=prediction.std, fmt="o", ms=3.5, color=BLUE, mew=0,
        ecolor=GREY, elinewidth=0.6, zorder=2, label="held-out prediction, 1 std",
    )  # fmt: skip
    ax.set(xlim=ends, ylim=ends)
    known = _known(metric)
    _label(ax, "x", replace(known, label=f"measured {known.label}"))
    _label(ax, "y", replace(known, label=f"predicted {known.label}"))
    _finish(ax)
    _legend(ax)
    return ax


def plot_routing(
    coefficients_NLE: NDArray[np.float64],
    macs: NDArray[np.float64],
    layers: Sequence[str],
    expert: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """How much of one expert a mixture takes for each sub-network, layer by layer.

    Args:
        coefficients_NLE: of N sub-networks, L layers and E experts; each sums to 1 over experts.
        macs: of the sub-networks, of shape (N,); they are drawn from the fewest to the most.
        layers: the names of the layers, the first at the top.
        expert: which one is drawn; with two experts the other has the rest.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if the shapes do not fit, or there is no such expert.
    """
    num, num_layers, num_experts = coefficients_NLE.shape
    if macs.shape != (num,) or len(layers) != num_layers:
        raise RequestError(
            f"coefficients of {num} sub-networks and {num_layers} layers were given with "
            f"{macs.size} MACs and {len(layers)} names of layers"
        )
    if not 0 <= expert < num_experts:
        raise RequestError(f"there is no expert {expert}; possible: 0 to {num_experts - 1}")
    if ax is None:
        size = (6.4, 1.2 + 0.18 * num_layers)
        _, ax = plt.subplots(figsize=size, dpi=160, layout="constrained")
    order = np.argsort(macs, kind="stable")
    shares_LN = coefficients_NLE[order, :, expert].T
    image = ax.imshow(shares_LN, aspect="auto", cmap="cividis", interpolation="nearest")
    ax.set_yticks(range(num_layers), layers, fontsize=6)
    at = np.unique(np.linspace(0, num - 1, min(num, 6)).round().astype(int))
    count = EngFormatter(sep="", places=1)
    ax.set_xticks(at, [count(value) for value in macs[order][at]])
    ax.set_xlabel(f"MACs of {num} sub-networks, in order")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label=f"coefficient of\nexpert {expert + 1} of {num_experts}")
    return ax


def plot_ladder(
    costs: NDArray[np.float64],
    qualities: NDArray[np.float64],
    *,
    cost: str,
    quality: str,
    tested: NDArray[np.float64] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Nested sub-networks: what each costs and how good it is; which are worth their cost.

    Args:
        costs: of N members from the smallest to the largest, of shape (N,).
        qualities: measured on validation data, of shape (N,).
        cost, quality: names of these metrics, which give the axes their labels and units.
        tested: the same quality on test data; None draws none.
        ax: where to draw; a new figure where None.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
    losses = np.array([Objective.of(quality).to_loss(value) for value in qualities])
    order = np.argsort(costs, kind="stable")  # a clock may order members otherwise
    best = np.minimum.accumulate(losses[order])
    ahead = order[np.r_[True, losses[order][1:] < best[:-1]]]
    behind = np.setdiff1d(order, ahead)
    ax.step(costs[ahead], qualities[ahead], where="post", color=BLUE, lw=1.2, zorder=2)
    ax.scatter(costs[ahead], qualities[ahead], s=26, color=BLUE, zorder=3, label="on validation")
    if len(behind):
        ax.scatter(
            costs[behind], qualities[behind], s=18, color=GREY, lw=0, zorder=1,
            label="behind a cheaper one",
        )  # fmt: skip
    if tested is not None:
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 0.9}
        ax.scatter(costs, tested, s=18, marker="D", zorder=4, label="on test", **ring)
    _finish(ax)
    if costs.max() > 8 * costs.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    _label(ax, "y", METRICS[quality])
    _label(ax, "x", METRICS[cost])
    _legend(ax, f"{len(costs)} nested sub-networks")
    return ax


def save(ax: Axes, path: Path) -> None:
    """Write the figure that the axes belong to, and close it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    partial = path.with_name(f".partial-{path.name}")
    figure.savefig(partial)
    partial.replace(path)
    plt.close(figure)


def _values_and_losses(
    objectives: Sequence[Objective], trials: Sequence[Trial]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every trial, arrays of shape (N, 2): natural values, and losses."""
    losses = losses_of(objectives, [trial.measurements for trial in trials])
    signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in objectives]
    return losses * np.array(signs), losses


def _shared_objectives(groups: Groups) -> list[Objective]:
    """What all runs optimize; RequestError if that differs, or there is no run."""
    runs = [run for each in groups.values() for run in each]
    if not runs or not all(groups.values()):
        raise RequestError("every group of runs needs at least one")
    for run in runs:
        if run.objectives != runs[0].objectives:
            first, other = (", ".join(o.metric for o in each.objectives) for each in (runs[0], run))
            raise RequestError(f"runs over different objectives: {first}; {other}")
        if not np.isfinite(run.losses).all(axis=1).any():
            raise RequestError("a run has no feasible trial to draw")
    return runs[0].objectives


def _front(run: Searched) -> NDArray[np.float64]:
    """Losses of a run's front, of shape (N, num_objectives)."""
    losses = run.losses[np.isfinite(run.losses).all(axis=1)]
    return losses[non_dominated(losses)]


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


def _styles(groups: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Color, marker and dash of each group."""
    return list(islice(cycle(_GROUPS), len(groups)))


def _known(name: str) -> Metric:
    """The metric of that name; one without a unit where it is not known."""
    return METRICS.get(name, Metric(name, "unit unknown", "minimize", name))


def _written(metric: Metric, value: float) -> str:
    """A value with its unit, as axes have it."""
    if metric.unit == "fraction":
        return f"{100 * value:.3g} %"
    if metric.unit == "count":
        return EngFormatter(sep="", places=1)(value)
    return f"{value:.3g}" if metric.unit == "unit unknown" else f"{value:.3g} {metric.unit}"


def _finish(ax: Axes) -> None:
    """Few lines and few ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.locator_params(nbins=6)


def _legend(ax: Axes, title: str | None = None) -> None:
    """Above the axes, where it hides nothing that was drawn; in two columns where they fit."""
    labels = ax.get_legend_handles_labels()[1]
    half = (len(labels) + 1) // 2
    columns = [column for column in (labels[:half], labels[half:]) if column]
    num_letters = sum(max(map(len, column)) for column in columns)
    ax.legend(
        frameon=False, title=title, alignment="left", loc="lower left", bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.1, ncols=2 if num_letters <= 34 else 1, fontsize="small",
        title_fontsize="small", columnspacing=1.2, handlelength=1.8,
    )  # fmt: skip


def _label(ax: Axes, which: str, metric: Metric) -> None:
    """Name and unit; fractions in percent, counts with k, M and G."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    unit = metric.unit
    if unit == "fraction":
        axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
        unit = "%"
    elif unit == "count":
        axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_label_text(metric.label if unit == "count" else f"{metric.label} [{unit}]")
