"""Members of a nested chain, trained together, against the same networks trained alone.

    python experiments/sorted_chain.py experiments/sorted_fashion.yaml
    python experiments/sorted_chain.py experiments/sorted_fashion.yaml --report docs/results

The chain is trained in one run by the strategy `sorted`, in each of the ways that the study names.
Some of its members, evenly over the logarithm of their MACs and with both ends, are then measured
on test data, and so are networks of their sizes that were trained alone for as many optimizer steps
on the same data. All members are measured on validation data.

Every network trained is a part with a result file of its own in the study's folder, so the same
command carries on where it was stopped; `--at-most 1` does one part. Those alone come in an order
that covers the chain early.
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import yaml
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from pydantic import PositiveInt
from study import build, found_once, train_and_test

from nasbench.config import EvaluationConfig, Section, SupernetConfig, TaskConfig
from nasbench.evaluation import Evaluator
from nasbench.objectives import METRICS
from nasbench.plots import save
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.nested.chain import NestedChain

LADDER = "ladder"


class Study(Section):
    """All about one study."""

    folder: Path
    task: TaskConfig
    supernet: SupernetConfig
    training: dict[str, Any]
    chains: dict[str, dict[str, Any]]
    """Ways to train the chain: settings beside those of `training`."""
    evaluation: EvaluationConfig = EvaluationConfig()
    num_members: PositiveInt
    dimensions: tuple[str, ...] | None = None
    """Which grow along the chain; None is all."""
    num_compared: PositiveInt = 12
    metric: str = "top1_accuracy"
    """What is compared."""
    seed: int = 0


def chain_of(study: Study, supernet: Any) -> NestedChain:
    """The members."""
    return NestedChain.grown(supernet, study.num_members, dimensions=study.dimensions)


def settings_of(study: Study, way: str) -> dict[str, Any]:
    """How the chain is trained in one of the ways."""
    options = study.chains[way].get("options", {})
    if not options.get("exits"):  # which are a chain by themselves
        options = {"num_members": study.num_members, "dimensions": study.dimensions, **options}
    return study.training | study.chains[way] | {"strategy": "sorted", "options": options}


def compared(chain: NestedChain, count: int) -> list[int]:
    """The positions that are trained alone too: evenly over the logarithm of MACs."""
    macs = np.log(chain.num_macs)
    chosen: list[int] = []
    for target in np.linspace(macs[0], macs[-1], min(count, len(chain))):
        order = np.argsort(np.abs(macs - target), kind="stable")
        chosen.append(next(int(i) for i in order if i not in chosen))
    return sorted(chosen)


def scattered(positions: list[int]) -> list[int]:
    """The same, each as far as can be from those before it."""
    left, order = list(positions[1:]), positions[:1]
    while left:
        order.append(max(left, key=lambda p: min(abs(p - other) for other in order)))
        left.remove(order[-1])
    return order


def train_chain(study: Study, way: str) -> dict[str, Any]:
    """Train the chain in one of the ways; test the members that are compared."""
    task, supernet = build(study.task, study.supernet, study.seed)
    chain = chain_of(study, supernet)
    positions = compared(chain, study.num_compared)
    found = train_and_test(
        supernet, task, settings_of(study, way), study.evaluation, [chain[p] for p in positions],
        seed=study.seed, folder=study.folder / f"chain-{way}",
    )  # fmt: skip
    evaluator = Evaluator(supernet, task, study.evaluation)
    ladder = [dict(evaluator.evaluate(member).measurements) for member in chain]
    return {"positions": positions, LADDER: ladder, **found}


def train_alone(study: Study, position: int) -> dict[str, Any]:
    """Train one member's network with fresh weights of its own; test it."""
    task, supernet = build(study.task, study.supernet, study.seed)
    network = NetworkAlone.of(supernet, chain_of(study, supernet)[position], seed=study.seed)
    settings = study.training | {"strategy": "single_path", "options": {}}
    found = train_and_test(
        network, task, settings, study.evaluation, [network.largest],
        seed=study.seed, folder=study.folder / f"alone-{position:03d}",
    )  # fmt: skip
    return {"position": position, **found}


def parts(study: Study) -> dict[str, Any]:
    """Name -> what finds it."""
    _, supernet = build(study.task, study.supernet, study.seed)
    positions = compared(chain_of(study, supernet), study.num_compared)
    alone = {f"alone-{p:03d}": partial(train_alone, study, p) for p in scattered(positions)}
    chains = {f"chain-{way}": partial(train_chain, study, way) for way in study.chains}
    return chains | alone


def table(study: Study, chain: Mapping[str, Any]) -> pd.DataFrame:
    """One row per member that was trained alone: its quality either way, and the share kept.

    The share of a metric that is to be maximized is chain / alone, of others alone / chain.
    """
    metric, rows = study.metric, []
    for position, measured in zip(chain["positions"], chain["test"], strict=True):
        result = study.folder / f"alone-{position:03d}" / "result.json"
        if not result.exists():
            continue
        alone: Mapping[str, Any] = json.loads(result.read_text())["test"][0]
        shared, own = measured[metric], alone[metric]
        kept = shared / own if "accuracy" in metric else own / shared
        counts = {name: measured[name] for name in ("num_parameters", "num_macs")}
        rows.append({"position": position, **counts, "chain": shared, "alone": own, "kept": kept})
    return pd.DataFrame(rows)


def report(study: Study, folder: Path) -> None:
    """Print the comparison and how monotone the ladder is; write both as tables."""
    metric = study.metric
    folder.mkdir(parents=True, exist_ok=True)
    for way in study.chains:
        result = study.folder / f"chain-{way}" / "result.json"
        if not result.exists():
            continue
        chain = json.loads(result.read_text())
        found, ladder = table(study, chain), pd.DataFrame(chain[LADDER])
        print(f"\n{way}")
        if not found.empty:
            print(found.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
            mean, worst = found.kept.mean(), found.kept.min()
            print(f"kept: mean {mean:.4f}, worst {worst:.4f}, n={len(found)}")
        sign = 1 if "accuracy" in metric else -1
        behind = (sign * ladder[metric]).cummax().shift() - sign * ladder[metric]
        print(
            f"{len(ladder)} members on validation data: {int((behind >= 0).sum())} are no better "
            f"than a smaller one, {int((behind > 0).sum())} are worse, the worst by "
            f"{behind.max():.4f}"
        )
        name = f"{study.folder.name}_{way}"
        found.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        ladder.to_csv(folder / f"{name}_ladder.csv", index_label="position", float_format="%.6g")
    figure(study, folder / f"{study.folder.name}.png")
    print(f"{platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores")


def figure(study: Study, path: Path) -> None:
    """The members' quality on test data against MACs, trained each way and alone."""
    ax, metric = None, METRICS[study.metric]
    styles = zip(("#0072B2", "#D55E00", "#009E73"), "osD", strict=True)
    for way, (color, marker) in zip(study.chains, styles, strict=False):
        result = study.folder / f"chain-{way}" / "result.json"
        if not result.exists():
            continue
        chain = json.loads(result.read_text())
        test = pd.DataFrame(chain["test"])
        if ax is None:
            _, ax = plt.subplots(figsize=(5.0, 3.6), dpi=160, layout="constrained")
            alone = table(study, chain)
            if not alone.empty:
                ax.plot(alone.num_macs, alone.alone, "k.-", lw=1.2, label="alone")
        style = {"color": color, "marker": marker, "ms": 4, "lw": 0.9}
        ax.plot(test.num_macs, test[study.metric], label=f"chain, {way}", **style)
    if ax is None:
        return
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("multiply-accumulates")
    is_share = metric.unit == "fraction"
    if is_share:
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    ax.set_ylabel(f"{metric.label} on test [{'%' if is_share else metric.unit}]")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False)
    save(ax, path)


def main() -> None:
    """Train what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("--at-most", type=int, help="how many missing parts to train")
    parser.add_argument("--report", type=Path, help="train nothing; report to this folder")
    asked = parser.parse_args()
    study = Study.model_validate(yaml.safe_load(asked.study.read_text()))
    if asked.report is None:
        found = {name: study.folder / name / "result.json" for name in parts(study)}
        missing = [name for name in found if not found[name].exists()]
        for name in missing[: asked.at_most]:
            part = found_once(found[name], parts(study)[name])
            print(name, part["test"][0], flush=True)
    report(study, asked.report or study.folder / "report")


if __name__ == "__main__":
    main()
