"""What the sub-networks of a search are made of, and which choices matter."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from nasbench.errors import RequestError, unknown_name
from nasbench.objectives import losses_of
from nasbench.pareto import non_dominated
from nasbench.plots.searched import Searched
from nasbench.plots.style import (
    BLUE,
    GREY,
    known_metric,
    new_axes,
    value_of,
)
from nasbench.predictors import PREDICTORS
from nasbench.space import SearchSpace
from nasbench.trials import Trial


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
    trials, space = _front_of(run), run.space
    genomes = space.to_genomes([trial.architecture for trial in trials])
    active = space.active(genomes)
    ax = ax or new_axes(5.0, 0.9 + 0.2 * len(space))
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
    names = [_row_name(dimension.name) for dimension in space]
    ax.set_yticks(range(len(names)), names, fontsize=6)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 100))
    ax.set_xlabel(f"share of {len(trials)} sub-networks [%]")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_parallel_coordinates(
    run: Searched, color_by: str | None = None, ax: Axes | None = None
) -> Axes:
    """The sub-networks of a front, each a line over its choices and its objectives.

    Rows are elastic dimensions, with a tick for each choice and the first one at the left; below
    them are the objectives, from the least to the greatest value on the front. A line is
    interrupted where its dimension is inactive. Lines of the same choice run side by side, in the
    order of their color; the row of the objective that colors them shows the scale.

    Args:
        run: whose front is drawn, over any number of objectives.
        color_by: the objective that colors the lines; None takes the last one.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: if no completed trial is feasible, or there is no such objective.
    """
    trials, space = _front_of(run), run.space
    names = [objective.metric for objective in run.objectives]
    color_by = names[-1] if color_by is None else color_by
    if color_by not in names:
        raise unknown_name("objective", color_by, names)
    trials = sorted(trials, key=lambda trial: trial.measurements[color_by])
    values = np.array([[trial.measurements[name] for name in names] for trial in trials])
    shades = _spread(values)[:, names.index(color_by)]
    places = np.hstack([_places_of_choices(space, trials), _spread(values)])
    num_rows = places.shape[1]
    ax = ax or new_axes(5.0, 0.9 + 0.2 * num_rows)

    for row, dimension in enumerate(space):
        ticks = np.linspace(0, 1, len(dimension.choices)) if len(dimension.choices) > 1 else [0.0]
        ax.plot(ticks, np.full(len(ticks), row), color=GREY, lw=0.6, marker="|", ms=4, zorder=1)
        ends = str(dimension.choices[0]), str(dimension.choices[-1])
        _write_ends(ax, row, ends if len(dimension.choices) > 1 else (ends[0], ""))
    metrics = [known_metric(name) for name in names]
    for row, (metric, column) in enumerate(zip(metrics, values.T, strict=True), start=len(space)):
        ax.plot([0, 1], [row, row], color=GREY, lw=0.6, zorder=1)
        _write_ends(ax, row, (value_of(metric, column.min()), value_of(metric, column.max())))
    scale_row = len(space) + names.index(color_by)
    scale = (0, 1, scale_row - 0.3, scale_row + 0.3)
    dark_on_white = plt.get_cmap("cividis")(np.linspace(0, 0.9, 256))
    colors = LinearSegmentedColormap.from_list("dark cividis", dark_on_white)
    ax.imshow(np.linspace(0, 1, 256)[None], cmap=colors, aspect="auto", extent=scale, alpha=0.5)
    ax.axhline(len(space) - 0.5, color="#808080", lw=0.6, ls=":")

    rows = np.arange(num_rows)
    for place, shade in zip(places, shades, strict=True):
        ax.plot(place, rows, color=colors(shade), lw=1.0, marker="o", ms=2.2, zorder=2)
    ax.set_yticks(rows, [_row_name(d.name) for d in space] + [m.label for m in metrics], fontsize=6)
    ax.set(xlim=(-0.34, 1.3), ylim=(num_rows - 0.4, -0.6), xticks=[])
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(
        f"choices of {len(trials)} sub-networks, first to last", loc="right", fontsize="small"
    )
    return ax


def _write_ends(ax: Axes, row: int, ends: tuple[str, str]) -> None:
    """What is at the left and at the right end of a row."""
    for x, text, alignment in zip((-0.05, 1.05), ends, ("right", "left"), strict=True):
        ax.text(x, row, text, ha=alignment, va="center", fontsize=5)


def _row_name(name: str) -> str:
    return name.replace("_", " ")


def _front_of(run: Searched) -> list[Trial]:
    """The trials on a run's front; RequestError if there are none."""
    if not run.completed:
        raise RequestError("there is no completed trial to draw")
    losses = losses_of(run.objectives, [trial.measurements for trial in run.completed])
    is_member = non_dominated(losses)
    return [trial for trial, is_on in zip(run.completed, is_member, strict=True) if is_on]


def _places_of_choices(space: SearchSpace, trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Where each trial's line crosses each dimension's axis, of shape (N, D); NaN where inactive.

    The first choice is at 0 and the last at 1. Lines of one choice are a little apart.
    """
    genomes = space.to_genomes([trial.architecture for trial in trials])
    places = genomes / np.maximum(space.num_choices - 1, 1)
    places += np.linspace(-0.03, 0.03, len(trials))[:, None] if len(trials) > 1 else 0.0
    return np.where(space.active(genomes), places, np.nan)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column from 0 at its least to 1 at its greatest; 0.5 where all are equal."""
    low, extent = values.min(axis=0), np.ptp(values, axis=0)
    return np.where(extent > 0, (values - low) / np.where(extent > 0, extent, 1.0), 0.5)


def plot_importances(
    run: Searched,
    metric: str | None = None,
    *,
    predictor: str = "lightgbm",
    num_shown: int = 12,
    num_repeats: int = 10,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Which elastic dimensions explain a metric over a run's trials, feasible or not.

    A bar is by how much a prediction of held-out trials gets worse where that dimension is
    shuffled (`nasbench.predictors.importance`): the mean over repetitions, which are drawn as
    ticks. A dimension whose ticks lie around zero explains nothing that these trials can tell.
    The title says how good the prediction is; if R2 is near zero, nothing is explained.

    Args:
        run: with ten completed trials at least.
        metric: one that was measured or counted; None takes the first objective.
        predictor: a name of `PREDICTORS`.
        num_shown: how many dimensions are drawn, the most important first.
        num_repeats: how often folds are drawn and choices shuffled.
        seed: of both.
        ax: where to draw; a new figure where None.

    Raises:
        RequestError: for an unknown metric or predictor, too few trials, or values that are all
            equal.
    """
    from nasbench.predictors.importance import measure_importances  # brings scikit-learn

    trials, space = [*run.completed, *run.infeasible], run.space
    metric = run.objectives[0].metric if metric is None else metric
    if trials and metric not in trials[0].measurements:
        raise unknown_name("measured metric", metric, trials[0].measurements)
    found = measure_importances(
        PREDICTORS[predictor],
        space,
        space.to_genomes([trial.architecture for trial in trials]),
        np.array([trial.measurements[metric] for trial in trials]),
        num_repeats=num_repeats,
        seed=seed,
    )
    means = found.drops_RD.mean(axis=0)
    shown = np.argsort(-means, kind="stable")[:num_shown]
    ax = ax or new_axes(5.0, 1.1 + 0.2 * len(shown))
    rows = np.arange(len(shown))
    ax.barh(rows, means[shown], height=0.7, color="#9CC3DE")
    ax.plot(found.drops_RD[:, shown].T, rows, ls="", marker="|", ms=5, color=BLUE)
    ax.axvline(0, color="#404040", lw=0.8)
    names = [_row_name(space.dimensions[column].name) for column in shown]
    ax.set_yticks(rows, names, fontsize=6)
    ax.set(ylim=(len(shown) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="x", alpha=0.25, linewidth=0.6)
    small: dict[str, Any] = {"loc": "right", "fontsize": "small"}
    ax.set_xlabel(f"drop of R² where shuffled\nbar: mean, ticks: {num_repeats} shufflings", **small)
    quality = f"{found.r2_R.mean():.2f} ± {found.r2_R.std():.2f}"
    of = f"{known_metric(metric).label} of {len(trials)} trials"
    ax.set_title(f"{of}\nheld-out R² {quality}", **small)
    return ax
