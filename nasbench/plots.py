"""Figures: each function takes and returns matplotlib Axes, with units on every axis.

Colors are told apart in grey and by the color-blind (Okabe and Ito's palette); dominated points are
grey. Nothing is shown or closed here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.objectives import METRICS, Metric, Objective, losses_of
from nasbench.pareto import knee_index, non_dominated
from nasbench.predictors import Prediction
from nasbench.trials import Trial

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#B0B0B0"


class Searched(Protocol):
    """What a figure needs of a run."""

    @property
    def objectives(self) -> list[Objective]:
        """What was optimized."""

    @property
    def completed(self) -> list[Trial]:
        """The completed, feasible trials."""


def plot_pareto_front(run: Searched, ax: Axes | None = None) -> Axes:
    """Every measured sub-network of a two-objective search, its front and its knee.

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
    ax.scatter(rightwards[others], upwards[others], s=14, color=GREY, label="dominated", lw=0)
    ax.step(rightwards[front], upwards[front], where="post", color=BLUE, lw=1.2, zorder=2)
    ax.scatter(rightwards[front], upwards[front], s=26, color=BLUE, label="Pareto front", zorder=3)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.6}
    ax.scatter(rightwards[knee], upwards[knee], s=130, label="knee", zorder=4, **ring)
    vertical, horizontal = (METRICS[objective.metric] for objective in run.objectives)
    _label(ax, "y", vertical)
    _label(ax, "x", horizontal)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, title=f"{len(values)} measured sub-networks", alignment="left")
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
    known = METRICS.get(metric, Metric(metric, "unit unknown", "minimize", metric))
    _label(ax, "x", replace(known, label=f"measured {known.label}"))
    _label(ax, "y", replace(known, label=f"predicted {known.label}"))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, loc="upper left")
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
    ax.set_xlabel(f"multiply-accumulates of {num} sub-networks, in order")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label=f"coefficient of expert {expert + 1} of {num_experts}")
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
    is_behind = np.r_[False, losses[1:] >= np.minimum.accumulate(losses)[:-1]]
    ahead = np.flatnonzero(~is_behind)
    ahead = ahead[np.argsort(costs[ahead], kind="stable")]  # a clock may order members otherwise
    ax.step(costs[ahead], qualities[ahead], where="post", color=BLUE, lw=1.2, zorder=2)
    ax.scatter(costs[ahead], qualities[ahead], s=26, color=BLUE, zorder=3, label="on validation")
    if is_behind.any():
        ax.scatter(
            costs[is_behind], qualities[is_behind], s=18, color=GREY, lw=0, zorder=1,
            label="no better than a smaller one",
        )  # fmt: skip
    if tested is not None:
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 0.9}
        ax.scatter(costs, tested, s=18, marker="D", zorder=4, label="on test", **ring)
    if costs.max() > 8 * costs.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    _label(ax, "y", METRICS[quality])
    _label(ax, "x", METRICS[cost])
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, title=f"{len(costs)} nested sub-networks", alignment="left")
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
