"""The report's figures, as plotly.js takes them: {"data": [...], "layout": {...}}.

Lines and points are told apart in grey and by the color-blind: by color (Okabe and Ito's palette),
symbol and dash. plotly.js reads a small dialect of HTML in its texts, so every text that came
import math
from a person is escaped here.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.experiment.html_report.reading import Ladder, ReportedRun
from nasbench.experiment.prediction import PredictorSummary
from nasbench.objectives import METRICS, Metric, Objective
from nasbench.pareto import comparable_hypervolumes

Figure = dict[str, Any]
_EPOCHS: Figure = {"title": {"text": "epoch"}, "rangemode": "tozero"}

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
SYMBOLS = ("circle", "square", "diamond", "cross", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
GREY = "#8a8a8a"


def style(run: ReportedRun) -> dict[str, str]:
    """Color, symbol and dash of a run, the same in all figures of a page."""
    return {
        "color": COLORS[run.number % len(COLORS)],
        "symbol": SYMBOLS[run.number % len(SYMBOLS)],
        "dash": DASHES[run.number % len(DASHES)],
    }


def _line(run: ReportedRun, **more: str) -> Figure:
    return {"color": style(run)["color"], "dash": style(run)["dash"], **more}


def plain(text: object) -> str:
    """A person's text, for where plotly.js would read HTML."""
    return html.escape(str(text), quote=False)


def known_metric(name: str) -> Metric:
    """The metric of that name; one without a unit where it is not known."""
    return METRICS.get(name) or Metric(name, "unit unknown", "minimize", name)


def shown(metric: Metric, value: float) -> float:
    """The value as an axis has it: fractions in percent."""
    return 100 * value if metric.unit == "fraction" else value


def axis_title(metric: Metric) -> str:
    """Label and unit."""
    if metric.unit == "count":
        return metric.label
    return f"{metric.label} [{'%' if metric.unit == 'fraction' else metric.unit}]"


def axis(metric: Metric, prefix: str = "") -> Figure:
    """An axis of this metric: its title, and counts with k, M and G."""
    return {
        "title": {"text": plain(prefix + axis_title(metric))},
        "tickformat": "~s" if metric.unit == "count" else "",
    }


def layout(x: Figure, y: Figure) -> Figure:
    """What all figures share."""
    font = {"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"}
    common = {
        "gridcolor": "#e6e6e6",
        "linecolor": "#555",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "automargin": True,
    }
    return {
        "xaxis": {**common, **x},
        "yaxis": {**common, **y},
        "margin": {"l": 56, "r": 14, "t": 8, "b": 48},
        "font": font,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#fff", "font": font},
    }


def hypervolume(runs: Sequence[ReportedRun]) -> tuple[Figure, str, list[float]]:
    """Hypervolume over trials, of runs with the same objectives.

    Returns:
        The figure; the reference point in words; each run's hypervolume at its end, as a share
        of the box between the best values of all runs and the reference point.
    """
    reference, curves = comparable_hypervolumes([run.run.losses for run in runs])
    data, last = [], []
    for run, volumes in zip(runs, curves, strict=True):
        last.append(float(volumes[-1]))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(run.label),
                "x": list(range(1, len(volumes) + 1)),
                "y": _rounded(volumes),
                "line": _line(run, shape="hv"),
                "showlegend": len(runs) > 1,
            }
        )
    words = described_point(runs[0].run.objectives, reference)
    axes = {"title": {"text": "trials"}}, {"title": {"text": "hypervolume [share of the box]"}}
    return {"data": data, "layout": layout(*axes)}, words, last


def described_point(objectives: Sequence[Objective], losses: NDArray[np.float64]) -> str:
    """A point of losses in words: each metric's label, and its value with the unit."""
    return ", ".join(
        f"{metric.label} {written(metric, objective.from_loss(loss))}"
        for objective, loss in zip(objectives, losses.tolist(), strict=True)
        for metric in [known_metric(objective.metric)]
    )


def training_loss(runs: Sequence[ReportedRun]) -> Figure:
    """Mean loss of every epoch."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": plain(run.label),
            "x": [epoch.epoch for epoch in run.history],
            "y": _rounded([epoch.loss for epoch in run.history]),
            "line": _line(run),
            "showlegend": len(runs) > 1,
        }
        for run in runs
    ]
    axes = _EPOCHS, {"title": {"text": "mean training loss"}}
    return {"data": data, "layout": layout(*axes)}


def training_looks(runs: Sequence[ReportedRun]) -> Figure | None:
    """The first metric of the sub-networks that training looked at; None where it never did."""
    data, metric = [], None
    dropped = {"random"} if len(runs) > 1 else set()  # of several runs, the ends say enough
    for run in runs:
        looked = [epoch for epoch in run.history if all(epoch.looks.values()) and epoch.looks]
        names = [name for name in (looked[0].looks if looked else ()) if name not in dropped]
        for name, dash, symbol in zip(names, DASHES, SYMBOLS, strict=False):
            metric = metric or known_metric(next(iter(looked[0].looks[name])))
            known = [e for e in looked if metric.name in e.looks.get(name, {})]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": plain(name if len(runs) == 1 else f"{run.label}: {name}"),
                    "x": [epoch.epoch for epoch in known],
                    "y": _rounded([shown(metric, e.looks[name][metric.name]) for e in known]),
                    "line": _line(run, dash=dash),
                    "marker": {"symbol": symbol, "size": 7},
                }
            )
    if metric is None:
        return None
    return {"data": data, "layout": layout(_EPOCHS, axis(metric))}


def parity(summary: PredictorSummary) -> Figure:
    """Predicted against measured, each trial predicted from the others."""
    metric = known_metric(summary.metric)
    measured, mean, std = (
        np.array([shown(metric, value) for value in values])
        for values in (summary.measured, summary.held_out_mean, summary.held_out_std)
    )
    ends = [float(min(measured.min(), mean.min())), float(max(measured.max(), mean.max()))]
    equal = {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": ends,
        "y": ends,
        "line": {"color": GREY, "width": 1},
        "hoverinfo": "skip",
    }
    points = {
        "type": "scatter",
        "mode": "markers",
        "name": "held-out prediction, 1 std",
        "x": _rounded(measured),
        "y": _rounded(mean),
        "error_y": {"array": _rounded(std), "color": "#c4c4c4", "thickness": 1, "width": 0},
        "marker": {"color": COLORS[0], "size": 6},
    }
    axes = axis(metric, "measured "), axis(metric, "predicted ")
    return {"data": [equal, points], "layout": layout(*axes)}


def ladder(found: Ladder) -> Figure:
    """What each of the nested sub-networks costs, and how good it is.

    The line joins those that are better, on validation data, than every one that costs less.
    """
    members = found.members
    quality = known_metric(next(iter(members[0].validation)))
    device = next((d for d in members[0].latency if all(d in m.latency for m in members)), None)
    cost = known_metric("num_macs" if device is None else "latency_ms")
    costs = [m.num_macs if device is None else m.latency[device].latency_ms for m in members]
    by_cost = sorted(range(len(members)), key=lambda number: costs[number])
    sign = 1 if quality.direction == "minimize" else -1
    ahead: list[int] = []
    best = math.inf
    for number in by_cost:
        loss = sign * members[number].validation.get(quality.name, math.inf)
        if loss < best:
            ahead.append(number)
            best = loss
    behind = [number for number in by_cost if number not in ahead]
    data = []
    for name, split, numbers, style in (
        ("behind a cheaper one", "validation", behind, {"color": GREY, "symbol": "circle-open"}),
        ("on validation data", "validation", ahead, {"color": COLORS[0], "symbol": "circle"}),
        ("on test data", "test", by_cost, {"color": COLORS[1], "symbol": "diamond-open"}),
    ):
        values = [getattr(members[number], split).get(quality.name) for number in numbers]
        if values and None not in values:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if numbers is ahead else "markers",
                    "name": name,
                    "x": _rounded([costs[number] for number in numbers]),
                    "y": _rounded([shown(quality, value) for value in values]),
                    "text": [
                        f"member {number}: {plain(members[number].architecture_id)}"
                        for number in numbers
                    ],
                    "line": {"color": style["color"], "shape": "hv", "width": 1.5},
                    "marker": {**style, "size": 8},
                }
            )
    return {"data": data, "layout": layout(axis(cost), axis(quality))}


def written(metric: Metric, value: float | None) -> str:
    """A value with its unit, as tables have it."""
    if value is None:
        return "-"
    if metric.unit == "fraction":
        return f"{100 * value:.2f} %"
    if metric.unit == "count":
        return f"{value:,.0f}"
    unit = "" if metric.unit == "unit unknown" else f" {metric.unit}"
    return f"{value:#.4g}".rstrip(".") + unit


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Six significant digits, which is more than a screen shows."""
    return [float(f"{value:.6g}") for value in values]
