"""What is inside supernets: the experts of a mixture, the members of a ladder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from nasbench.errors import RequestError
from nasbench.objectives import METRICS, Objective
from nasbench.plots.style import (
    BLUE,
    GREY,
    VERMILION,
    finish,
    label_axis,
    legend_above,
    new_axes,
)


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
    ax = ax or new_axes(6.4, 1.2 + 0.18 * num_layers)
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
    ax = ax or new_axes()
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
    finish(ax)
    if costs.max() > 8 * costs.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    label_axis(ax, "y", METRICS[quality])
    label_axis(ax, "x", METRICS[cost])
    legend_above(ax, f"{len(costs)} nested sub-networks")
    return ax
