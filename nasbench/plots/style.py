"""How every figure looks: colors, markers, labels with units, a legend that hides nothing.

Okabe and Ito's palette, told apart in grey and by the color-blind; beside the color there is always
a marker, a dash or a place.
"""

from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from nasbench.objectives import METRICS, Metric

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#B0B0B0"
_GROUPS = (  # color, marker, dash
    (BLUE, "o", "-"),
    (VERMILION, "s", "--"),
    ("#009E73", "D", ":"),
    ("#CC79A7", "^", "-."),
    ("#56B4E9", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("#000000", "P", (0, (8, 2))),
)


def new_axes(width: float = 5.0, height: float = 3.6) -> Axes:
    """Axes of a figure of their own, in inches."""
    _, ax = plt.subplots(figsize=(width, height), dpi=160, layout="constrained")
    return ax


def save(ax: Axes, path: Path) -> None:
    """Write the figure that the axes belong to, and close it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    partial = path.with_name(f".partial-{path.name}")
    figure.savefig(partial)
    partial.replace(path)
    plt.close(figure)


def group_styles(groups: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Color, marker and dash of each group."""
    return list(islice(cycle(_GROUPS), len(groups)))


def known_metric(name: str) -> Metric:
    """The metric of that name; one without a unit where it is not known."""
    return METRICS.get(name, Metric(name, "unit unknown", "minimize", name))


def value_of(metric: Metric, value: float) -> str:
    """A value with its unit, as axes have it."""
    if metric.unit == "fraction":
        return f"{100 * value:.3g} %"
    if metric.unit == "count":
        return EngFormatter(sep="", places=1)(value)
    return f"{value:.3g}" if metric.unit == "unit unknown" else f"{value:.3g} {metric.unit}"


def finish(ax: Axes) -> None:
    """Few lines and few ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.locator_params(nbins=6)


def legend_above(ax: Axes, title: str | None = None) -> None:
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


def add_title(ax: Axes, text: str) -> None:
    """A title above the legend, where `Axes.set_title` would be drawn over it."""
    legend = ax.get_legend()
    assert legend is not None
    legend.set_title("\n".join(filter(None, (text, legend.get_title().get_text()))))


def label_axis(ax: Axes, which: str, metric: Metric) -> None:
    """Name and unit; fractions in percent, counts with k, M and G."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    unit = metric.unit
    if unit == "fraction":
        axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
        unit = "%"
    elif unit == "count":
        axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_label_text(metric.label if unit == "count" else f"{metric.label} [{unit}]")
