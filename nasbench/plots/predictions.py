"""What predictors are worth."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nasbench.plots.style import (
    BLUE,
    GREY,
    finish,
    known_metric,
    label_axis,
    legend_above,
    new_axes,
)
from nasbench.predictors import Prediction


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
    ax = ax or new_axes(4.2, 4.0)
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
    known = known_metric(metric)
    label_axis(ax, "x", replace(known, label=f"measured {known.label}"))
    label_axis(ax, "y", replace(known, label=f"predicted {known.label}"))
    finish(ax)
    legend_above(ax)
    return ax
