"""Does a mixture inherit better than slices? The gap to what the same networks reach alone.

    python experiments/mixture_quality.py experiments/mixture_fashion.yaml     again = carry on
    python experiments/mixture_quality.py experiments/mixture_fashion.yaml --report docs/results

Members are trained, measured and carried on as `training_quality.py` does. The first strategy of
the study has plain slices. The others differ from it in how weights are shared, and in nothing
else: data, sub-networks and updates are the same for the same seed.

The report holds, per strategy and seed, the mean over all architectures of the metric on test data
and of its gap to training alone, the share of the plain gap (same seed) that is closed, and
Kendall's tau between inherited and alone; and a figure of both for every architecture. The routing
of the mixtures that were trained here is drawn, too. `mixture_cost.py` measures what they cost.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from scipy.stats import kendalltau, spearmanr
from training_quality import (
    ALONE,
    Member,
    Study,
    accuracies,
    build_member,
    finished,
    members,
    train_member,
)

from nasbench.objectives import METRICS
from nasbench.plots import plot_routing, save
from nasbench.supernet.mixture import Mixture
from nasbench.supernet.training.checkpoint import load_latest

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


class MixtureStudy(Study):
    """A study of which one metric is reported."""

    metric: str = "top1_accuracy"


def train(study: MixtureStudy, at_most: int | None) -> None:
    """Train members that are missing, one after the other, or the first `at_most` of them."""
    missing = [m for m in members(study) if not (study.folder / m.name / "result.json").exists()]
    for member in missing[:at_most]:
        values = [measured[study.metric] for measured in train_member(study, member)["test"]]
        print(f"{member.name}: mean test {study.metric} {np.mean(values):.4f}", flush=True)


def comparison(study: MixtureStudy, results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per strategy and seed.

    Gaps are positive where training alone is better, in the metric's unit (percentage points of
    an accuracy).
    """
    table = accuracies(results)
    metric = METRICS[study.metric]
    sign = 1.0 if metric.direction == "maximize" else -1.0
    scale = 100.0 if metric.unit == "fraction" else 1.0
    alone = scale * table[table.strategy == ALONE].groupby("position")[study.metric].mean()
    plain = next(iter(study.strategies))
    rows: list[dict[str, Any]] = []
    for (strategy, seed), of in table[table.strategy != ALONE].groupby(
        ["strategy", "seed"], sort=False
    ):
        if strategy not in study.strategies:
            continue
        own = scale * of.set_index("position")[study.metric].reindex(alone.index)
        gap = sign * (alone - own)
        rows.append(
            {
                "strategy": strategy,
                "seed": seed,
                "mean inherited": own.mean(),
                "mean gap": gap.mean(),
                "worst gap": gap.max(),
                "tau": kendalltau(alone, own).statistic,
            }
        )
    found = pd.DataFrame(rows)
    of_plain = found[found.strategy == plain].set_index("seed")["mean gap"]
    found.insert(5, "gap closed", 1 - found["mean gap"] / found.seed.map(of_plain))
    return found


def draw_fronts(study: MixtureStudy, results: Sequence[Mapping[str, Any]]) -> Axes:
    """The metric of every architecture against MACs: alone, and as each strategy leaves it."""
    table, metric = accuracies(results), METRICS[study.metric]
    scale, unit = (100.0, "%") if metric.unit == "fraction" else (1.0, metric.unit)
    mean = table.groupby(["strategy", "position"])[[study.metric, "num_macs"]].mean()
    _, ax = plt.subplots(figsize=(6.0, 4.0), dpi=160, layout="constrained")
    alone = mean.loc[ALONE].sort_values("num_macs")
    ax.plot(alone.num_macs, scale * alone[study.metric], "k.-", lw=1.4, label="trained alone")
    trained = [name for name in study.strategies if name in mean.index]
    for number, name in enumerate(trained):
        of = mean.loc[name].reindex(alone.index)
        label = f"{name} (plain slices)" if number == 0 else name
        ax.plot(
            of.num_macs,
            scale * of[study.metric],
            color=_COLORS[number % len(_COLORS)],
            marker=_MARKERS[number % len(_MARKERS)],
            ms=3.5,
            lw=0.9,
            label=label,
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="multiply-accumulates", ylabel=f"{metric.label} on test [{unit}]")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, fontsize=8)
    return ax


def draw_routing(study: Study, strategy: str, seed: int) -> tuple[Axes, float] | None:
    """Coefficients of 200 random architectures, and whether near ones have near coefficients.

    The number is Spearman's rho between the distances of pairs of architectures (the share of
    dimensions in which they differ) and of their coefficients (over all layers). None where the
    member was not trained here, or has no layer-wise coefficients.
    """
    member = Member(strategy, seed)
    checkpoint = load_latest(study.folder / member.name, member.name)
    _, supernet = build_member(study, member)
    if checkpoint is None or not isinstance(supernet.mixture, Mixture):
        return None
    supernet.load_weights(checkpoint.trained_weights)
    space = supernet.space
    genomes = space.sample_choices(200, np.random.default_rng(0))
    drawn = space.from_genomes(genomes)
    found = [supernet.mixture.coefficients(architecture) for architecture in drawn]
    names = list(found[0])
    coefficients_NLE = np.array([[of[n].mean(dim=0).numpy() for n in names] for of in found])
    macs = np.array([float(supernet.count(a)["num_macs"]) for a in drawn])
    pairs = np.triu_indices(len(drawn), 1)
    apart = (genomes[:, None] != genomes[None]).mean(axis=-1)[pairs]
    unlike = np.abs(coefficients_NLE[:, None] - coefficients_NLE[None]).mean(axis=(-1, -2))[pairs]
    return plot_routing(coefficients_NLE, macs, names), float(spearmanr(apart, unlike).statistic)


def report(
    study: MixtureStudy, results: Sequence[Mapping[str, Any]], folder: Path, name: str
) -> None:
    """Print the comparison; write it, the numbers and the figures to files of that name."""
    found = comparison(study, results)
    print(found.round(3).to_string(index=False))
    folder.mkdir(parents=True, exist_ok=True)
    found.to_csv(folder / f"{name}_summary.csv", index=False, float_format="%.6g")
    kept = accuracies(results)
    kept = kept[kept.strategy.isin([ALONE, *study.strategies])]
    kept.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    save(draw_fronts(study, results), folder / f"{name}.png")
    for strategy in ("layerwise", "neuronwise"):
        routed = draw_routing(study, strategy, 0) if strategy in study.strategies else None
        if routed is not None:
            ax, rho = routed
            save(ax, folder / f"{name}_routing_{strategy}.png")
            print(f"{strategy}: distances of architectures and of coefficients, rho {rho:.2f}")


def main() -> None:
    """Train what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("--at-most", type=int, help="train no more members than that")
    parser.add_argument("--report", type=Path, help="train nothing; report to this folder")
    asked = parser.parse_args()
    study = MixtureStudy.model_validate(yaml.safe_load(asked.study.read_text()))
    if asked.report is None:
        train(study, asked.at_most)
    else:
        report(study, list(finished(study)), asked.report, asked.study.stem)


if __name__ == "__main__":
    main()
