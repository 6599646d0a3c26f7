"""Reads what `search_benchmark.py` measured: a CSV, figures, and the tables of the page search.md.

    python experiments/search_results.py RESULTS.jsonl docs/results

The tables of the page stand between two comments; what is around them is written by hand.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

BUDGETS = (50, 100, 150, 200, 400)
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
NAMES = {
    "cifar10": "NAS-Bench-201: CIFAR-10",
    "cifar100": "NAS-Bench-201: CIFAR-100",
    "imagenet16_120": "NAS-Bench-201: ImageNet16-120",
    "gpt": "HW-GPT-Bench small: perplexity",
    "raspi4": "Raspberry Pi 4",
    "pixel3": "Pixel 3",
    "edgegpu": "edge GPU (3,071 cells fail)",
    "fpga": "FPGA",
    "edgetpu": "edge TPU (6,839 cells fail)",
    "1080ti_1": "GTX 1080 Ti",
    "silver_4114": "Xeon Silver 4114",
    "eyeriss": "Eyeriss",
    "samsung_a50": "Samsung A50",
    "rtx3080": "RTX 3080",
    "cpu_meta": "a CPU (Meta)",
    "a100": "A100",
}
NUM_MAIN = 2
MIN_SEEDS, LEVEL = 6, 0.05  # of a test on one problem
FOR_ALL = "random"  # is run on the problems that all algorithms search
WIDE = ("auto", "linas", "pymoo NSGA-II", "local_search")
EVERY_OTHER = (
    "Every data set on every other device of the tables (medians over seeds). On how many problems "
    "`auto` reaches, after so many evaluations, what stands at the left; `auto` minus the others, "
    "paired as above; and what each found."
)
PAIRED = (
    "`auto` minus another algorithm, over problems and seeds that both have: the median difference "
    "(how many pairs it won; p of Wilcoxon's signed-rank test, for which pairs of one problem are "
    "no more alike than others, so take it as a guide). *better, worse*: on how many pairs of a "
    "problem and a budget `auto` is better or worse by the same test over its seeds alone, at 5 %."
)
PENDING = (
    "A batch of ten proposed while another one is evaluated (`search.concurrent_batches: 2`: *10 "
    "pending*), or one told and one asked with nine pending, minus the same search without: the "
    "median difference over seeds, with quartiles."
)
COLORS = {
    "auto": "#D55E00",
    "linas": "#0072B2",
    "weaknas": "#009E73",
    "nsga2": "#CC79A7",
    "Optuna TPE": "#E69F00",
    "local_search": "#56B4E9",
    "random": "#7F7F7F",
}
DATA_COLORS = {
    "cifar10": "#0072B2",
    "cifar100": "#D55E00",
    "imagenet16_120": "#009E73",
    "gpt": "#CC79A7",
}
STYLES = {
    "auto": "-",
    "linas": "--",
    "weaknas": "-.",
    "nsga2": ":",
    "Optuna TPE": (0, (5, 1)),
    "local_search": (0, (3, 1, 1, 1, 1, 1)),
    "random": (0, (1, 1)),
}


def read(path: Path) -> pd.DataFrame:
    """One row per search, each once."""
    frame = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    frame = frame.drop_duplicates(["problem", "algorithm", "seed", "batch_size", "num_pending"])
    by_tens = (frame["algorithm"] == "linas") & (frame["batch_size"] == 10)
    frame.loc[by_tens, "algorithm"] = "linas, batches of 10"
    for budget in BUDGETS:
        frame[budget] = [found.get(str(budget)) for found in frame["hypervolume"]]
    return frame


def quartiles(values: pd.Series) -> str:
    """The median with the first and the third quartile."""
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def budget_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Relative hypervolume by algorithm and budget, and the time per evaluation."""
    rows = {}
    for name, group in frame.groupby("algorithm"):
        row = {f"{budget}": quartiles(group[budget]) for budget in BUDGETS}
        row["ms per evaluation"] = f"{1000 * group['seconds'].median() / 400:.1f}"
        row["seeds"] = len(group)
        rows[name] = row
    table = pd.DataFrame(rows).T
    medians = frame.groupby("algorithm")[list(BUDGETS)].median()
    return table.loc[medians.mean(axis=1).sort_values(ascending=False).index]


def reached_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Median evaluations to reach a relative hypervolume, where at least half of the seeds do."""
    rows = {}
    for name, group in frame.groupby("algorithm"):
        row = {}
        for target in ("0.9", "0.95", "0.98", "0.99"):
            counts = [found[target] or np.inf for found in group["reached"]]
            middle = np.median(counts)
            row[target] = f"{middle:.0f}" if np.isfinite(middle) else "-"
        rows[name] = row
    return pd.DataFrame(rows).T


def paired_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`auto` minus each other algorithm, paired by problem and seed: by budget."""
    keys, rows = ["problem", "seed"], {}
    ours = frame[frame["algorithm"] == "auto"].set_index(keys)
    for other in frame["algorithm"].unique():
        theirs = frame[frame["algorithm"] == other].set_index(keys)
        common = ours.index.intersection(theirs.index)
        if other == "auto" or not len(common):
            continue
        rows[other] = {"pairs": len(common)}
        for budget in BUDGETS:
            gain = (ours.loc[common, budget] - theirs.loc[common, budget]).to_numpy()
            won = int((gain > 0).sum())
            rows[other][budget] = f"{np.median(gain):+.3f} ({won}; {_p_value(gain):.1e})"
        rows[other]["better, worse"] = _significant(ours, theirs)
    table = pd.DataFrame(rows).T
    has_enough_seeds = (table["better, worse"] != "").any()
    return table if has_enough_seeds else table.drop(columns="better, worse")


def _p_value(gain: np.ndarray) -> float:
    return float(wilcoxon(gain).pvalue) if np.any(gain) else 1.0


def _significant(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """On how many problems and budgets one is better than the other, each tested by itself."""
    found = {1: 0, -1: 0, 0: 0}
    for problem in ours.index.unique("problem").intersection(theirs.index.unique("problem")):
        gain = (ours.loc[problem, list(BUDGETS)] - theirs.loc[problem, list(BUDGETS)]).dropna()
        if len(gain) < MIN_SEEDS:
            continue
        for budget in BUDGETS:
            values = gain[budget].to_numpy(dtype=float)
            found[int(np.sign(np.median(values))) if _p_value(values) < LEVEL else 0] += 1
    return f"{found[1]}, {found[-1]} of {sum(found.values())}" if sum(found.values()) else ""


def wide_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds, a row per problem."""
    columns = [("auto", b) for b in BUDGETS] + [("linas", 150), ("linas", 400)]
    columns += [("pymoo NSGA-II", 400), ("local_search", 400)]
    medians = frame.groupby(["problem", "algorithm"], sort=False)[list(BUDGETS)].median()
    rows = {}
    for problem in frame["problem"].unique():
        found = {f"{a} {b}": f"{medians.loc[problem, a][b]:.3f}" for a, b in columns}
        rows[problem] = {**found, "seeds": frame[frame["problem"] == problem]["seed"].nunique()}
    return pd.DataFrame(rows).T


def reached_goals(frame: pd.DataFrame) -> pd.DataFrame:
    """On how many problems the median of `auto` reaches what, by evaluations."""
    medians = frame.groupby(["algorithm", "problem"])[list(BUDGETS)].median()
    ours = medians.loc["auto"]
    bars: dict[str, pd.Series | float] = {
        "pymoo NSGA-II after 400": medians.loc["pymoo NSGA-II"][400],
        "local_search after 400": medians.loc["local_search"][400],
        "linas after 400": medians.loc["linas"][400],
        "0.98": 0.98,
    }
    return pd.DataFrame(
        {
            name: {budget: f"{(ours[budget] >= bar).sum()} of {len(ours)}" for budget in BUDGETS}
            for name, bar in bars.items()
        }
    ).T


def pending_table(frame: pd.DataFrame, apart: pd.DataFrame) -> pd.DataFrame:
    """Searches that proposed while others were pending, minus the same ones without: medians."""
    rows = {}
    keys = ["problem", "algorithm", "seed"]
    without = frame.set_index(keys)
    for (problem, algorithm, count), group in apart.groupby(
        ["problem", "algorithm", "num_pending"]
    ):
        found = group.set_index(keys)
        common = found.index.intersection(without.index)
        cost = found.loc[common, list(BUDGETS)] - without.loc[common, list(BUDGETS)]
        rows[f"{problem}, {algorithm}, {count} pending"] = {
            **{b: quartiles(cost[b]) if cost[b].notna().any() else "" for b in BUDGETS},
            "seeds": len(common),
        }
    return pd.DataFrame(rows).T


def draw(frame: pd.DataFrame, problems: list[str], path: Path) -> None:
    """Relative hypervolume by evaluations: medians, and quartiles of `auto`."""
    figure, axes = plt.subplots(
        1, len(problems), figsize=(4.3 * len(problems), 3.4), dpi=160, layout="constrained"
    )
    counts = np.arange(10, 401, 10)
    for ax, problem in zip(np.atleast_1d(axes), problems, strict=True):
        here = frame[frame["problem"] == problem]
        for name, color in COLORS.items():
            group = here[here["algorithm"] == name]
            if group.empty:
                continue
            traces = np.array(group["trace"].tolist())
            low, middle, high = np.quantile(traces, [0.25, 0.5, 0.75], axis=0)
            ax.plot(counts, middle, color=color, ls=STYLES[name], lw=1.6, label=name)
            if name == "auto":
                ax.fill_between(counts, low, high, color=color, alpha=0.18, lw=0)
        ax.set(title=problem, xlabel="evaluations", xlim=(0, 400))
        floor = np.median([trace[4] for trace in here["trace"]])
        ax.set_ylim(max(0.0, floor - 0.15), 1.005)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("relative hypervolume, median")
    first.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def draw_gains(frame: pd.DataFrame, path: Path) -> None:
    """`auto` minus the others by budget: a dot per problem, medians over seeds."""
    medians = frame.groupby(["algorithm", "problem"])[list(BUDGETS)].median()
    others = [name for name in WIDE if name != "auto"]
    figure, axes = plt.subplots(
        1, len(others), figsize=(9.6, 3.4), dpi=160, layout="constrained", sharey=True
    )
    for ax, other in zip(axes, others, strict=True):
        gains = medians.loc["auto"] - medians.loc[other]
        of_data = gains.groupby(gains.index.str.split("/").str[0], sort=False)
        for number, ((data, group), marker) in enumerate(zip(of_data, "osD^", strict=False)):
            where = np.arange(len(BUDGETS)) + 0.17 * (number - 1.5)
            x = np.broadcast_to(where, group.shape).ravel()
            ax.scatter(x, group, s=9, marker=marker, color=DATA_COLORS[data], alpha=0.6, label=data)
        ax.plot(gains.median().to_numpy(), "_", color="#000000", ms=30, mew=1.6, label="median")
        ax.axhline(0, color="#808080", lw=0.8)
        ax.set_xticks(range(len(BUDGETS)), [str(budget) for budget in BUDGETS])
        ax.set(title=f"auto minus {other}", xlabel="evaluations", xlim=(-0.5, len(BUDGETS) - 0.5))
        ax.grid(alpha=0.25, linewidth=0.6, axis="y")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("difference of relative hypervolume")
    axes[0].legend(frameon=False, fontsize=8, markerscale=0.6)
    figure.savefig(path)
    plt.close(figure)


def tables(everything: pd.DataFrame) -> str:
    """What stands between the two comments of the page."""
    frame = everything[everything["num_pending"] == 0]
    frame, wide = _by_breadth(frame)
    parts = []
    for number, (problem, group) in enumerate(frame.groupby("problem", sort=False)):
        data, device = problem.split("/")
        parts += [f"## {NAMES[data]} x {NAMES[device]}", budget_table(group).to_markdown()]
        if number < NUM_MAIN:
            reached = "Evaluations to reach a relative hypervolume, median (- where fewer than half"
            parts += [f"{reached} of the seeds do):", reached_table(group).to_markdown()]
    parts += ["## Paired", PAIRED, paired_table(frame).to_markdown()]
    if len(wide):
        parts += ["## Every other device", EVERY_OTHER, reached_goals(wide).to_markdown()]
        parts += [paired_table(wide).to_markdown(), wide_table(wide).to_markdown()]
    apart = everything[everything["num_pending"] > 0]
    if len(apart):
        parts += ["## Asynchronous use", PENDING, pending_table(frame, apart).to_markdown()]
    return "\n\n".join(parts)


def _by_breadth(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The problems that all algorithms search, and those that the few of `WIDE` have finished."""
    names = frame.groupby("problem")["algorithm"].agg(set)
    searched_by_all = names.index[[FOR_ALL in found for found in names]]
    finished = names.index[[FOR_ALL not in found and found >= set(WIDE) for found in names]]
    return frame[frame["problem"].isin(searched_by_all)], frame[frame["problem"].isin(finished)]


def write_tables(page: Path, text: str) -> None:
    """Put the tables in the place of those that the page has."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"'{page}' has no place for tables, between {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    """Write the tables, `search.csv`, and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    everything = read(arguments.results)
    kept = ["problem", "algorithm", "seed", "num_pending", *BUDGETS, "num_failed", "num_distinct"]
    everything[[*kept, "seconds"]].to_csv(arguments.folder / "search.csv", index=False)
    write_tables(arguments.folder / "search.md", tables(everything))
    frame, wide = _by_breadth(everything[everything["num_pending"] == 0])
    problems = list(frame["problem"].unique())
    draw(frame, problems[:NUM_MAIN], arguments.folder / "search_main.png")
    if len(problems) > NUM_MAIN:
        draw(frame, problems[NUM_MAIN:][:3], arguments.folder / "search_devices.png")
    if len(wide):
        draw_gains(wide, arguments.folder / "search_others.png")


if __name__ == "__main__":
    main()
