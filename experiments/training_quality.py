"""Does an inherited accuracy say what the same network reaches alone? For each training strategy.

    python experiments/training_quality.py experiments/training_quality.yaml
    python experiments/training_quality.py experiments/training_quality.yaml --report docs/results

Architectures are chosen evenly over the logarithm of their MACs. Each is trained alone, with fresh
weights of its own sizes, for as many epochs as the supernets; each supernet is trained by one
strategy, for as many optimizer steps. Then every architecture is measured on test data with the
weights it inherits (statistics recomputed from training data) and with those it has from training
alone.

Every network trained is a *member* with a result file of its own in the study's folder, so the
same command carries on where it was stopped. Members are trained in separate processes of one
thread each, in the order in which the study names them.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import PositiveInt
from scipy.stats import kendalltau
from study import build, found_once, train_and_test

from nasbench.config import EvaluationConfig, Section, SupernetConfig, TaskConfig
from nasbench.space import Architecture
from nasbench.supernet import Supernet
from nasbench.supernet.alone import NetworkAlone
from nasbench.tasks import Task

ALONE = "alone"


class Strategy(Section):
    """A way to share and train weights: settings that replace the study's own, and its seeds."""

    training: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults
    supernet: dict[str, Any] = {}  # noqa: RUF012
    """Weight sharing and its settings."""
    seeds: tuple[int, ...] = (0,)


class Study(Section):
    """All about one study."""

    folder: Path
    task: TaskConfig
    supernet: SupernetConfig
    training: dict[str, Any]
    evaluation: EvaluationConfig = EvaluationConfig()
    num_architectures: PositiveInt = 24
    alone_seeds: tuple[int, ...] = (0,)
    alone_repeated: tuple[int, ...] = ()
    """Positions, in order of MACs, of the architectures that are trained with all seeds; the
    others are trained with the first."""
    strategies: dict[str, Strategy]


@dataclass(frozen=True)
class Member:
    """One network to train.

    Args:
        strategy: its name in the study, or `ALONE`.
        position: of the architecture that is trained alone.
    """

    strategy: str
    seed: int
    position: int | None = None

    @property
    def name(self) -> str:
        """Names its folder."""
        middle = "" if self.position is None else f"-{self.position:02d}"
        return f"{self.strategy}{middle}-seed{self.seed}"


def members(study: Study) -> list[Member]:
    """First seeds first, so that a study that is stopped has something of everything."""
    seeds = {name: strategy.seeds for name, strategy in study.strategies.items()}
    positions = range(study.num_architectures)
    found = [Member(ALONE, study.alone_seeds[0], position) for position in positions]
    found += [Member(name, of[0]) for name, of in seeds.items()]
    later = max(len(of) for of in (*seeds.values(), study.alone_seeds))
    for number in range(1, later):
        found += [Member(name, of[number]) for name, of in seeds.items() if number < len(of)]
        if number < len(study.alone_seeds):
            seed = study.alone_seeds[number]
            found += [Member(ALONE, seed, position) for position in study.alone_repeated]
    return found


def build_member(study: Study, member: Member) -> tuple[Task, Supernet[Any]]:
    """The task, and the supernet with fresh weights."""
    changes = {} if member.position is not None else study.strategies[member.strategy].supernet
    return build(study.task, study.supernet, member.seed, **changes)


def architectures(study: Study, supernet: Supernet[Any]) -> list[Architecture]:
    """From the smallest to the largest, evenly over the logarithm of MACs."""
    space = supernet.space
    pool = space.from_genomes(space.sample_choices(4000, np.random.default_rng(0)))
    macs = np.array([supernet.count(architecture)["num_macs"] for architecture in pool])
    ends = [supernet.count(end)["num_macs"] for end in (space.smallest, space.largest)]
    chosen = [space.smallest]
    for target in np.geomspace(*ends, study.num_architectures)[1:-1]:
        order = np.argsort(np.abs(np.log(macs / target)))
        chosen.append(next(pool[i] for i in order if pool[i] not in chosen))
    return [*chosen, space.largest]


def train_member(study: Study, member: Member) -> dict[str, Any]:
    """Train and measure a member, or read what it found before."""
    folder = study.folder / member.name

    def find() -> dict[str, Any]:
        task, supernet = build_member(study, member)
        chosen = architectures(study, supernet)
        settings = dict(study.training)
        trained: Supernet[Any] = supernet
        if member.position is None:
            settings |= study.strategies[member.strategy].training
        else:
            trained = NetworkAlone.of(supernet, chosen[member.position], seed=member.seed)
            settings |= {"strategy": "single_path", "options": {}}
            chosen = [trained.largest]
        found = train_and_test(
            trained, task, settings, study.evaluation, chosen, seed=member.seed, folder=folder
        )
        about = {
            "member": member.name,
            "strategy": member.strategy,
            "seed": member.seed,
            "position": member.position,
        }
        return {**about, **found}

    return found_once(folder / "result.json", find)


def run(study: Study, num_workers: int) -> list[dict[str, Any]]:
    """Train all members, those that are missing in parallel; what all found, in order."""
    asked = members(study)
    spawning = multiprocessing.get_context("spawn")
    start, results = time.monotonic(), {}
    with ProcessPoolExecutor(num_workers, mp_context=spawning) as pool:
        waiting = {pool.submit(train_member, study, member): member for member in asked}
        for number, done in enumerate(as_completed(waiting), 1):
            member = waiting[done]
            results[member.name] = found = done.result()
            minutes = (time.monotonic() - start) / 60
            accuracies = [measured["top1_accuracy"] for measured in found["test"]]
            print(
                f"{number} of {len(asked)}, {minutes:.0f} min: {member.name}, "
                f"mean test accuracy {np.mean(accuracies):.4f}",
                flush=True,
            )
    return [results[member.name] for member in asked]


def finished(study: Study) -> Iterator[dict[str, Any]]:
    """What the members that are finished found."""
    for member in members(study):
        result = study.folder / member.name / "result.json"
        if result.exists():
            yield json.loads(result.read_text())


# -- what came of it --------------------------------------------------------------------------


def accuracies(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per strategy, seed and architecture: MACs and test accuracy."""
    rows = []
    for result in results:
        for number, measured in enumerate(result["test"]):
            position = number if result["position"] is None else result["position"]
            row = {name: result[name] for name in ("strategy", "seed")}
            rows.append({**row, "position": position, **measured})
    return pd.DataFrame(rows)


def summary(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per strategy and seed: how inherited accuracy relates to that of training alone.

    The gap is that of training alone minus the inherited one, in percentage points; tau is
    Kendall's, of both accuracies over all architectures, and *within* is the mean over four groups
    of equal size by MACs, in which size explains less. *order* is the share of pairs of
    architectures in the right order among those that are at least half a point apart alone.
    CPU minutes are of training, unknown where it was stopped and resumed.
    """
    table = accuracies(results)
    alone = table[table.strategy == ALONE].groupby("position").top1_accuracy.mean()
    minutes = {(r["strategy"], r["seed"]): (r["cpu_seconds"] or np.nan) / 60 for r in results}
    rows = []
    inherited = table[table.strategy != ALONE]
    for (strategy, seed), of in inherited.groupby(["strategy", "seed"], sort=False):
        own = of.set_index("position").top1_accuracy.reindex(alone.index)
        gap = 100 * (alone - own)
        groups = np.array_split(np.arange(len(alone)), 4)
        within = [kendalltau(alone.iloc[group], own.iloc[group]).statistic for group in groups]
        rows.append(
            {
                "strategy": strategy,
                "seed": seed,
                "tau": kendalltau(alone, own).statistic,
                "tau within": float(np.nanmean(within)),
                "order": right_order(alone.to_numpy(), own.to_numpy(), 0.005),
                "mean gap": gap.mean(),
                "worst gap": gap.max(),
                "mean accuracy": 100 * own.mean(),
                "CPU minutes": minutes[strategy, seed],
            }
        )
    return pd.DataFrame(rows)


def right_order(alone: np.ndarray, inherited: np.ndarray, margin: float) -> float:
    """The share of pairs, more than `margin` apart alone, whose inherited order is the same."""
    differences = alone[:, None] - alone[None, :]
    rows, columns = np.nonzero(differences > margin)
    return float((inherited[rows] > inherited[columns]).mean())


def noise(results: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Of architectures trained alone with several seeds: the standard deviation of an accuracy,
    in points, and Kendall's tau between two seeds.
    """
    table = accuracies(results)
    wide = table[table.strategy == ALONE].pivot_table(
        index="position", columns="seed", values="top1_accuracy"
    )
    repeated = wide.dropna()
    deviation = 100 * float(np.sqrt(repeated.var(axis=1, ddof=1).mean()))
    taus = [
        kendalltau(repeated[a], repeated[b]).statistic
        for number, a in enumerate(repeated.columns)
        for b in repeated.columns[number + 1 :]
    ]
    return deviation, float(np.mean(taus)) if taus else float("nan")


def figure(study: Study, results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Inherited accuracy against MACs for every strategy, and against training alone."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    table = accuracies(results)
    mean = table.groupby(["strategy", "position"], sort=False)[["top1_accuracy", "num_macs"]].mean()
    figure, (front, parity) = plt.subplots(
        1, 2, figsize=(9.6, 4.0), dpi=160, layout="constrained", width_ratios=(1.25, 1)
    )
    alone = mean.loc[ALONE].sort_values("num_macs")
    front.plot(alone.num_macs, 100 * alone.top1_accuracy, "k.-", lw=1.6, label="alone")
    colors = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    markers = "osD^vP*X<>"
    for number, name in enumerate(n for n in study.strategies if n in mean.index):
        of = mean.loc[name].reindex(alone.index)
        style = {"color": colors[number % 10], "marker": markers[number % 10], "ms": 3.5}
        front.plot(of.num_macs, 100 * of.top1_accuracy, lw=0.9, label=name, **style)
        parity.plot(100 * alone.top1_accuracy, 100 * of.top1_accuracy, ls="", **style)
    front.set_xscale("log")
    front.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    front.xaxis.set_major_formatter(EngFormatter(sep=""))
    front.xaxis.set_minor_formatter(NullFormatter())
    front.set_xlabel("multiply-accumulates")
    front.set_ylabel("top-1 accuracy on test [%]")
    low, high = 100 * alone.top1_accuracy.min() - 0.5, 100 * alone.top1_accuracy.max() + 0.5
    parity.plot([low, high], [low, high], color="k", lw=0.8)
    parity.set_xlabel("alone [%]")
    parity.set_ylabel("inherited [%]")
    for ax in (front, parity):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
    front.legend(frameon=False, fontsize=7, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def report(study: Study, results: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Print the tables; write the figure and the numbers."""
    found = summary(results)
    numbers = found.drop(columns="seed").groupby("strategy", sort=False)
    table = numbers.mean().round(3)
    table.insert(0, "seeds", numbers.size())
    spread = numbers.std().round(3)
    print(
        table.to_string(),
        "\n\nstandard deviation over seeds\n",
        spread.dropna(how="all").to_string(),
    )
    deviation, tau = noise(results)
    print(f"\nalone, over seeds: standard deviation {deviation:.2f} points, tau {tau:.2f}")
    print(f"{platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores")
    folder.mkdir(parents=True, exist_ok=True)
    accuracies(results).to_csv(folder / "training_quality.csv", index=False, float_format="%.6g")
    found.to_csv(folder / "training_quality_summary.csv", index=False, float_format="%.6g")
    figure(study, results, folder / "training_quality.png")


def main() -> None:
    """Train what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--report", type=Path, help="train nothing; report to this folder")
    asked = parser.parse_args()
    study = Study.model_validate(yaml.safe_load(asked.study.read_text()))
    if asked.report is None:
        report(study, run(study, asked.workers), study.folder / "report")
    else:
        report(study, list(finished(study)), asked.report)


if __name__ == "__main__":
    main()
