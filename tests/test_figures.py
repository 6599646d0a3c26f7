"""Figures say what they show, and look as they did when a person last looked at them.

After a wanted change: NASBENCH_REDRAW=1 pytest tests/test_figures.py, then look at tests/baseline/.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import compare_images

from nasbench import plots
from nasbench.errors import RequestError
from nasbench.objectives import Objective, losses_of
from nasbench.pareto import attainment, hypervolume
from nasbench.predictors import Prediction
from nasbench.space import SearchSpace
from nasbench.trials import Trial
from tests.experiment.searched import SPACE, measurements_of

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = 8  # root mean square over 0 to 255: another font renderer passes, another line does not


@dataclass
class Toy:
    """A search as figures see it: every seventh trial is infeasible, the last one failed."""

    objectives: list[Objective]
    space: SearchSpace
    completed: list[Trial]
    infeasible: list[Trial]
    losses: np.ndarray


def toy(seed=0, metrics=("top1_error", "latency_ms"), num_trials=24):
    rng = np.random.default_rng(seed)
    objectives = [Objective.of(metric) for metric in metrics]
    trials = []
    for number, architecture in enumerate(SPACE.sample(rng) for _ in range(num_trials - 1)):
        trial = Trial(number=number, architecture=architecture)
        trials.append(trial.completed(measurements_of(architecture, rng)))
    infeasible = trials[3::7]
    losses = losses_of(objectives, [trial.measurements for trial in trials])
    losses[3::7] = np.inf
    losses = np.vstack([losses, np.full(len(objectives), np.inf)])
    completed = [trial for trial in trials if trial not in infeasible]
    return Toy(objectives, SPACE, completed, infeasible, losses)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def groups():
    return {"linas": [toy(seed) for seed in range(3)], "random": [toy(9)]}


COEFFICIENTS_NLE = np.stack([np.linspace(0, 1, 6).reshape(3, 2)] * 2, axis=-1)
COEFFICIENTS_NLE[..., 0] = 1 - COEFFICIENTS_NLE[..., 1]
MACS = np.array([3e6, 1e6, 2e6])
COSTS = np.geomspace(3e4, 1e6, 6)
ACCURACIES = np.array([0.90, 0.92, 0.93, 0.925, 0.95, 0.97])


def front_of(run):
    feasible = run.losses[np.isfinite(run.losses).all(axis=1)]
    is_member = [not np.any(np.all(feasible <= p, 1) & np.any(feasible < p, 1)) for p in feasible]
    return feasible[is_member]


def drawings(groups):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.05, 0.3, 40)
    guess = Prediction(values + 0.02 * rng.normal(size=40), np.full(40, 0.02))
    run = groups["linas"][0]
    return {
        "pareto_front": lambda ax: plots.plot_pareto_front(run, ax=ax),
        "pareto_fronts": lambda ax: plots.plot_pareto_fronts(groups, ax=ax),
        "merged_front": lambda ax: plots.plot_merged_front(groups, ax=ax),
        "hypervolume": lambda ax: plots.plot_hypervolume(groups, ax=ax),
        "choice_frequencies": lambda ax: plots.plot_choice_frequencies(run, ax=ax),
        "parallel_coordinates": lambda ax: plots.plot_parallel_coordinates(run, ax=ax),
        "importances": lambda ax: plots.plot_importances(run, num_repeats=3, ax=ax),
        "parity": lambda ax: plots.plot_parity(values, guess, "top1_error", ax=ax),
        "ladder": lambda ax: plots.plot_ladder(
            COSTS,
            ACCURACIES,
            cost="num_macs",
            quality="top1_accuracy",
            tested=ACCURACIES - 0.004,
            ax=ax,
        ),
        "routing": lambda ax: plots.plot_routing(
            COEFFICIENTS_NLE, MACS, ["first", "second"], ax=ax
        ),
    }


@pytest.mark.parametrize("name", drawings({"linas": [toy()]}))
def test_it_looks_as_before_at_the_width_of_a_column(groups, tmp_path, name):
    figure, ax = plt.subplots(figsize=(4.2, 3.0), dpi=60, layout="constrained")
    assert drawings(groups)[name](ax) is ax
    baseline, found = BASELINE / f"{name}.png", tmp_path / f"{name}.png"
    figure.savefig(found)
    if os.environ.get("NASBENCH_REDRAW"):
        baseline.write_bytes(found.read_bytes())
    difference = compare_images(str(baseline), str(found), TOLERANCE)
    assert difference is None, difference


@pytest.mark.parametrize("name", drawings({"linas": [toy()]}))
def test_nothing_is_cut_off_or_hidden_in_a_column_of_a_paper(groups, name):
    groups["nsga2"] = groups["linas"]
    figure, ax = plt.subplots(figsize=(3.3, 2.6), layout="constrained")
    drawings(groups)[name](ax)
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    assert drawn.xmin >= -0.01
    assert drawn.ymin >= -0.01
    assert drawn.xmax <= 3.31
    assert drawn.ymax <= 2.61
    legend = ax.get_legend()
    if legend is not None:
        assert legend.get_window_extent().ymin >= ax.get_window_extent().ymax - 1


@pytest.mark.parametrize(("name", "old"), [("pareto_front", "\n23 measured"), ("parity", "")])
def test_a_title_stands_above_the_legend_and_hides_nothing(groups, name, old):
    ax = drawings(groups)[name](None)
    plots.add_title(ax, "as of today")
    ax.figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend.get_title().get_text().startswith(f"as of today{old}")
    top = max(text.get_window_extent().ymax for text in legend.get_texts())
    assert legend.get_title().get_window_extent().ymin >= top - 1


def test_both_axes_have_a_unit(groups):
    ax = plots.plot_pareto_fronts(groups)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("median latency [ms]", "top-1 error [%]")


def test_infeasible_trials_are_marked_and_on_no_front():
    run = toy()
    ax = plots.plot_pareto_front(run)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["infeasible", "dominated", "Pareto front", "knee"]
    drawn = {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}
    assert len(drawn["infeasible"]) == len(run.infeasible)
    np.testing.assert_allclose(
        sorted(drawn["Pareto front"].tolist()), sorted(front_of(run)[:, ::-1].tolist())
    )


def test_a_single_run_is_drawn_as_its_front_and_seeds_as_their_median(groups):
    ax = plots.plot_pareto_fronts(groups)
    median, single = ax.lines
    np.testing.assert_allclose(
        sorted(single.get_xydata().tolist()),
        sorted(front_of(groups["random"][0])[:, ::-1].tolist()),
    )
    expected = attainment([front_of(run) for run in groups["linas"]], 0.5)
    np.testing.assert_allclose(median.get_xydata(), expected[::-1, ::-1])
    assert [line.get_label() for line in ax.lines] == ["linas, median of 3", "random"]


def test_the_band_of_a_front_holds_every_seed(groups):
    ax = plots.plot_pareto_fronts({"linas": groups["linas"]})
    (band,) = ax.collections
    (path,) = band.get_paths()
    for run in groups["linas"]:
        outside = [p for p in front_of(run)[:, ::-1] if not path.contains_point(p, radius=1e-3)]
        assert len(outside) == 0


def test_a_merged_front_is_that_of_all_and_says_who_found_it(groups):
    ax = plots.plot_merged_front(groups)
    drawn = {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}
    feasible = np.vstack([front_of(run) for runs in groups.values() for run in runs])
    dominated = [np.any(np.all(feasible <= p, 1) & np.any(feasible < p, 1)) for p in feasible]
    expected = feasible[~np.array(dominated), ::-1]
    marked = {label: points for label, points in drawn.items() if label != "dominated"}
    np.testing.assert_allclose(
        sorted(np.vstack(list(marked.values())).tolist()), sorted(expected.tolist())
    )
    own = np.vstack([front_of(run) for run in groups["linas"]])[:, ::-1]
    (label,) = [label for label in marked if label.startswith("linas")]
    assert all(any(np.array_equal(point, other) for other in own) for point in marked[label])
    assert label == f"linas ({len(marked[label])})"
    assert sum(map(len, drawn.values())) == sum(
        len(r.completed) for g in groups.values() for r in g
    )
    with pytest.raises(RequestError, match="over 2 objectives, not 1"):
        plots.plot_merged_front({"one": [toy(0, ("top1_error",))]})


@pytest.mark.parametrize(
    "metrics", [("top1_accuracy", "latency_ms"), ("latency_ms", "top1_accuracy")]
)
def test_a_maximized_objective_keeps_its_sign(metrics):
    runs = [toy(seed, metrics) for seed in range(3)]
    ax = plots.plot_pareto_fronts({"linas": runs})
    accuracies = (
        ax.lines[0].get_ydata() if metrics[0] == "top1_accuracy" else ax.lines[0].get_xdata()
    )
    assert np.all((np.asarray(accuracies) > 0) & (np.asarray(accuracies) < 1))


def test_hypervolume_ends_at_that_of_the_front_and_states_its_reference(groups):
    ax = plots.plot_hypervolume({"random": groups["random"]}, reference=(0.5, 2.0))
    (run,) = groups["random"]
    front = front_of(run)
    box = np.prod(np.array([0.5, 2.0]) - front.min(axis=0))
    (line,) = ax.lines
    assert line.get_ydata()[-1] == pytest.approx(hypervolume(front, np.array([0.5, 2.0])) / box)
    assert len(line.get_xdata()) == len(run.losses), "failed and infeasible trials count"
    assert "reference point: top-1 error 50 %, median latency 2 ms" in ax.get_xlabel().replace(
        "\n", " "
    )


def test_the_shares_of_choices_are_those_of_the_front():
    run = toy()
    ax = plots.plot_choice_frequencies(run)
    widths = np.zeros(len(SPACE))
    for bar in ax.patches:
        widths[round(bar.get_y() + bar.get_height() / 2)] += bar.get_width()
    front = {tuple(point) for point in front_of(run)}
    members = [
        trial
        for trial in run.completed
        if tuple(losses_of(run.objectives, [trial.measurements])[0]) in front
    ]
    is_deep = np.mean([trial.architecture["stage1.depth"] == 2 for trial in members])
    np.testing.assert_allclose(widths, [100, 100, 100, 100 * is_deep])


def test_parallel_coordinates_have_a_line_for_each_sub_network_of_the_front():
    run = toy()
    ax = plots.plot_parallel_coordinates(run, color_by="top1_error")
    lines = [line for line in ax.lines if len(line.get_ydata()) == len(SPACE) + 2]
    front = front_of(run)
    front = front[np.argsort(front[:, 0])]
    assert len(lines) == len(front)
    drawn = np.array([line.get_xdata() for line in lines])
    np.testing.assert_allclose(
        drawn[:, -2:], (front - front.min(axis=0)) / np.ptp(front, axis=0), atol=1e-12
    )
    measured = {t.measurements["top1_error"]: t.architecture for t in run.completed}
    for line, (error, _) in zip(drawn, front, strict=True):
        architecture = measured[error]
        kernel = SPACE["stage1.block2.kernel_size"].index(architecture["stage1.block2.kernel_size"])
        if architecture["stage1.depth"] == 1:
            assert np.isnan(line[3]), "a line is interrupted where its dimension is inactive"
        else:
            assert abs(line[3] - kernel / 2) <= 0.031
    colors = [np.sum(plt.matplotlib.colors.to_rgb(line.get_color())) for line in lines]
    assert np.all(np.diff(colors) > 0), "from dark to light, and so in grey as well"
    assert {text.get_text() for text in ax.texts} >= {"8", "24"}


def test_importances_put_first_what_decides_and_show_every_shuffling():
    run = toy(num_trials=60)
    ax = plots.plot_importances(run, "num_macs", num_shown=3, num_repeats=4)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == 3
    assert names[0] == "stage1.width"
    means = [bar.get_width() for bar in ax.patches]
    assert means == sorted(means, reverse=True)
    ticks = np.array([line.get_xdata() for line in ax.lines if line.get_marker() == "|"])
    np.testing.assert_allclose(ticks.mean(axis=0), means)
    num = len(run.completed) + len(run.infeasible)
    title = ax.get_title(loc="right")
    assert title.startswith(f"multiply-accumulates of {num} trials\nheld-out R² 0.")


def test_a_ladders_line_joins_those_that_are_worth_their_cost():
    costs = np.array([2.0, 1.0, 3.0])  # the clock found the second to be faster than the first
    ax = plots.plot_ladder(
        costs, np.array([0.6, 0.7, 0.8]), cost="latency_ms", quality="top1_accuracy"
    )
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[1.0, 0.7], [3.0, 0.8]]
    drawn = {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in ax.collections}
    assert drawn["behind a cheaper one"] == [[2.0, 0.6]]


def test_refusals_are_sentences(groups):
    counted = toy(0, ("top1_error", "num_macs"))
    with pytest.raises(RequestError, match="different objectives: top1_error, latency_ms; top1_"):
        plots.plot_pareto_fronts({**groups, "counted": [counted]})
    with pytest.raises(RequestError, match="needs at least one"):
        plots.plot_hypervolume({"none": []})
    with pytest.raises(RequestError, match="over 2 objectives, not 1"):
        plots.plot_pareto_fronts({"one": [toy(0, ("top1_error",))]})
    with pytest.raises(RequestError, match="over 2 objectives has that many values, not 1"):
        plots.plot_hypervolume(groups, reference=(0.5,))
    with pytest.raises(RequestError, match="no worse than the best value"):
        plots.plot_hypervolume(groups, reference=(0.0, 2.0))
    with pytest.raises(RequestError, match="'latency_ms'"):
        plots.plot_parallel_coordinates(toy(), color_by="latency")
    with pytest.raises(RequestError, match="'top1_error'"):
        plots.plot_importances(toy(), "top1_eror")
    with pytest.raises(RequestError, match="at least 10 architectures, but there were 8"):
        plots.plot_importances(toy(num_trials=9))
    failed = toy()
    failed.losses[:] = np.inf
    with pytest.raises(RequestError, match="no feasible trial"):
        plots.plot_hypervolume({"failed": [failed]})


def test_routing_is_drawn_from_the_fewest_macs_to_the_most():
    ax = plots.plot_routing(COEFFICIENTS_NLE, MACS, ["first", "second"])
    (image,) = ax.get_images()
    np.testing.assert_allclose(image.get_array(), COEFFICIENTS_NLE[[1, 2, 0], :, 1].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1.0M", "2.0M", "3.0M"]


@pytest.mark.parametrize(
    ("macs", "layers", "expert", "sentence"),
    [
        (MACS[:2], ["a", "b"], 1, "of 3 sub-networks and 2 layers were given with 2 MACs"),
        (MACS, ["a"], 1, "and 1 names of layers"),
        (MACS, ["a", "b"], 2, "there is no expert 2; possible: 0 to 1"),
    ],
)
def test_routing_that_does_not_fit_is_refused(macs, layers, expert, sentence):
    with pytest.raises(RequestError, match=sentence):
        plots.plot_routing(COEFFICIENTS_NLE, macs, layers, expert)
