"""A trained network made elastic and searched, against uniform width pruning of it.

    python experiments/elasticize_fashion.py STUDY.yaml
    python experiments/elasticize_fashion.py STUDY.yaml --report docs/results

For each seed: a plain ResNet is trained. Then, all from its weights and with channels sorted by
importance:

    uniform     every width at one share, cut out and fine-tuned by itself, also for twice as long
    front       one supernet, fine-tuned for as many epochs, and searched on validation data; test
                accuracies with inherited weights
    picked      for each uniform network the most accurate one of the front on validation data that
                costs no more; cut out and fine-tuned by itself for as many epochs again

Every part has a result file of its own in the study's folder, so the same command carries on where
it was stopped.
"""

import argparse
import json
import os
import platform
import textwrap
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from plain_resnet import make_resnet
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file
from study import found_once, train_and_test
from torch import nn

import nasbench as nb
from nasbench.config import EvaluationConfig, Section, TaskConfig
from nasbench.cost import count_macs, count_parameters
from nasbench.evaluation import Evaluator
from nasbench.objectives import losses_of
from nasbench.pareto import non_dominated
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.space import Architecture
from nasbench.supernet import elasticize
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.elasticized import Elasticized
from nasbench.tasks import TASKS, Task

OBJECTIVES = (nb.Objective("top1_error", "minimize"), nb.Objective("num_macs", "minimize"))


class Study(Section):
    """All about one study."""

    folder: Path
    task: TaskConfig
    network: dict[str, Any]
    seeds: tuple[int, ...]
    training: dict[str, Any]
    finetuning: dict[str, Any]
    """Settings that replace those of training."""
    evaluation: EvaluationConfig
    rules: tuple[dict[str, Any], ...] = ()
    uniform_ratios: tuple[float, ...]
    num_trials: PositiveInt
    batch_size: PositiveInt = 20


class Seed:
    """The parts of a study for one seed.

    Args:
        seed: of the weights, the order of the data and the search.
        is_reading: nothing is trained; a part that is missing is left out.
    """

    def __init__(self, study: Study, task: Task, seed: int, *, is_reading: bool = False) -> None:
        self.study, self.task, self.seed, self.is_reading = study, task, seed, is_reading
        self.folder = study.folder / f"seed{seed}"
        self.inputs = task.example_inputs(2)

    def run(self) -> dict[str, Any]:
        """Everything, in order."""
        sizes = {"train": len(self.task.labeled["train"].labels)}
        found: dict[str, Any] = {"seed": self.seed, "sizes": sizes}
        found["plain"] = self.part("plain", self.plain)
        ratios = self.study.uniform_ratios
        for kind, name, times in (("uniform", "", 1), ("uniform, twice", "-twice", 2)):
            parts = [
                self.part(f"uniform-{ratio}{name}", partial(self.uniform, ratio, times))
                for ratio in ratios
            ]
            found[kind] = [part for part in parts if part is not None]
        found["supernet"] = self.part("supernet", self.supernet)
        found["search"] = self.part("search", self.search)
        if found["search"] is not None:
            front = found["search"]["front"]
            parts = [
                self.part(f"picked-{u['ratio']}", partial(self.picked, u, front))
                for u in found["uniform"]
                if u["ratio"] < 1
            ]
            found["picked"] = [part for part in parts if part is not None]
        return found

    def part(self, name: str, find: Any) -> dict[str, Any] | None:
        """What one part finds, or found before."""
        start, result = time.monotonic(), self.folder / name / "result.json"
        if self.is_reading:
            return json.loads(result.read_text()) if result.exists() else None
        found = found_once(result, find)
        print(f"seed {self.seed}, {name}: {time.monotonic() - start:.0f} s", flush=True)
        return found

    def train(
        self, name: str, network: Any, more: Mapping[str, Any], chosen: Any
    ) -> dict[str, Any]:
        """Train a network, and measure architectures of it on test data."""
        settings = {**self.study.training, **more}
        return train_and_test(
            network,
            self.task,
            settings,
            self.study.evaluation,
            chosen,
            seed=self.seed,
            folder=self.folder / name,
        )

    def alone(self, name: str, network: nn.Module, more: Mapping[str, Any]) -> dict[str, Any]:
        """Train one plain network as it is."""
        counts = {
            "num_parameters": count_parameters(network),
            "num_macs": count_macs(network, self.task.example_inputs(1)),
        }
        supernet = NetworkAlone(name, network, counts, self.inputs)
        more = {**more, "strategy": "single_path", "options": {}}
        return self.train(name, supernet, more, [supernet.largest])

    def plain(self) -> dict[str, Any]:
        """The network that everything starts from."""
        torch.manual_seed(self.seed)
        network = make_resnet(**self.study.network)
        found = self.alone("plain", network, {})
        save_file(network.state_dict(), self.folder / "plain" / "weights.safetensors")
        return found

    def elastic(self) -> Elasticized:
        """The trained network as a supernet."""
        network = make_resnet(**self.study.network)
        network.load_state_dict(load_file(self.folder / "plain" / "weights.safetensors"))
        return elasticize(network, self.inputs, self.study.rules)

    def uniform(self, ratio: float, times: int = 1) -> dict[str, Any]:
        """Every width at one share, fine-tuned for so many times the study's epochs."""
        supernet = self.elastic()
        cut = supernet.extract(uniform_architecture(supernet, ratio))
        more = {**self.study.finetuning, "epochs": times * self.study.finetuning["epochs"]}
        return {"ratio": ratio, **self.alone(f"uniform-{ratio}-x{times}", cut, more)}

    def supernet(self) -> dict[str, Any]:
        """The supernet, fine-tuned by the sandwich rule; its uniform members on test data."""
        supernet = self.elastic()
        chosen = [uniform_architecture(supernet, ratio) for ratio in self.study.uniform_ratios]
        found = self.train("supernet", supernet, self.study.finetuning, chosen)
        save_file(supernet.state_dict(), self.folder / "supernet" / "weights.safetensors")
        return found

    def finetuned(self) -> Elasticized:
        """The supernet as `supernet` left it."""
        supernet = self.elastic()
        supernet.load_weights(load_file(self.folder / "supernet" / "weights.safetensors"))
        return supernet

    def search(self) -> dict[str, Any]:
        """The front on validation data, measured on test data."""
        study, supernet = self.study, self.finetuned()
        evaluator = Evaluator(supernet, self.task, study.evaluation)
        counted = {"num_macs": lambda a: float(supernet.count(a)["num_macs"])}
        problem = SearchProblem(supernet.space, OBJECTIVES, counted=counted)
        algorithm = ALGORITHMS["auto"](problem, seed=self.seed)
        tried: list[tuple[Architecture, dict[str, float]]] = []
        start = time.process_time()
        while len(tried) < study.num_trials:
            proposals = algorithm.ask(min(study.batch_size, study.num_trials - len(tried)))
            measured = [dict(evaluator.evaluate(a).measurements) for a in proposals]
            algorithm.tell(proposals, losses_of(OBJECTIVES, measured))
            tried += zip(proposals, measured, strict=True)
        losses = losses_of(OBJECTIVES, [measured for _, measured in tried])
        front = [tried[i] for i in np.flatnonzero(non_dominated(losses))]
        return {
            "cpu_seconds": time.process_time() - start,
            "size": float(supernet.space.size),
            "front": [
                {
                    "architecture": architecture.to_json(),
                    "validation": measured,
                    "test": dict(evaluator.evaluate(architecture, "test").measurements),
                }
                for architecture, measured in sorted(front, key=lambda pair: pair[1]["num_macs"])
            ],
        }

    def picked(self, uniform: Mapping[str, Any], front: Sequence[Any]) -> dict[str, Any]:
        """The best of the front within the MACs of a uniform network, fine-tuned by itself."""
        supernet, most = self.finetuned(), uniform["test"][0]["num_macs"]
        fitting = [member for member in front if member["validation"]["num_macs"] <= most]
        if not fitting:
            return {"ratio": uniform["ratio"], "inherited": None, "test": []}
        best = max(fitting, key=lambda member: member["validation"]["top1_accuracy"])
        architecture = supernet.space.canonical(best["architecture"])
        network = Evaluator(supernet, self.task, self.study.evaluation).extract(architecture)
        name = f"picked-{uniform['ratio']}"
        found = self.alone(name, network, self.study.finetuning)
        return {"ratio": uniform["ratio"], "inherited": best["test"], **found}


def uniform_architecture(supernet: Elasticized, ratio: float) -> Architecture:
    """Widths at the choice nearest to that share of the largest, and all else at its largest."""
    chosen = dict(supernet.largest)
    for dimension in supernet.space:
        if dimension.name.endswith(".width"):
            largest = max(dimension.choices)
            chosen[dimension.name] = min(
                dimension.choices, key=lambda c, goal=ratio * largest: abs(c - goal)
            )
    return supernet.space.canonical(chosen)


def finished(study: Study) -> list[dict[str, Any]]:
    """What the seeds whose search is finished found."""
    task = build_task(study)
    read = [Seed(study, task, seed, is_reading=True).run() for seed in study.seeds]
    return [found for found in read if found["search"] is not None]


def build_task(study: Study) -> Task:
    """The data."""
    data_dir = study.task.data_dir or os.environ.get("NASBENCH_DATA")
    return TASKS[study.task.name](Path(data_dir) if data_dir else None, **study.task.options)


# -- what came of it --------------------------------------------------------------------------


def rows(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per network that was measured on test data."""
    found: list[dict[str, Any]] = []
    for result in results:
        seed = result["seed"]
        found.append({"kind": "plain", "seed": seed, "ratio": 1.0, **result["plain"]["test"][0]})
        for uniform, shared in zip(result["uniform"], result["supernet"]["test"], strict=True):
            about = {"seed": seed, "ratio": uniform["ratio"]}
            found.append({"kind": "uniform", **about, **uniform["test"][0]})
            found.append({"kind": "uniform, inherited", **about, **shared})
        for uniform in result["uniform, twice"]:
            about = {"seed": seed, "ratio": uniform["ratio"]}
            found.append({"kind": "uniform, twice", **about, **uniform["test"][0]})
        for member in result["search"]["front"]:
            found.append({"kind": "front", "seed": seed, "ratio": np.nan, **member["test"]})
        for picked in result["picked"]:
            about = {"seed": seed, "ratio": picked["ratio"]}
            if picked["inherited"] is not None:
                found.append({"kind": "picked, inherited", **about, **picked["inherited"]})
                found.append({"kind": "picked", **about, **picked["test"][0]})
    return pd.DataFrame(found)


KINDS = {
    "uniform": "every width alike, fine-tuned alone",
    "uniform, twice": "every width alike, fine-tuned alone for twice as long",
    "uniform, inherited": "every width alike, weights of the supernet",
    "picked, inherited": "picked from the front, weights of the supernet",
    "picked": "picked from the front, then fine-tuned alone",
}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per ratio and kind: means over seeds, and standard deviations of the accuracy."""
    compared = table[table.kind.isin(KINDS)].copy()
    compared["accuracy"] = 100 * compared.top1_accuracy
    grouped = compared.groupby(["ratio", "kind"])
    return pd.DataFrame(
        {
            "seeds": grouped.size(),
            "MMACs": grouped.num_macs.mean() / 1e6,
            "accuracy": grouped.accuracy.mean(),
            "spread": grouped.accuracy.std(),
        }
    )


def page(study: Study, results: Sequence[Mapping[str, Any]], table: pd.DataFrame) -> str:
    """The docs page, from the measured numbers alone."""
    plain = 100 * table[table.kind == "plain"].top1_accuracy
    found, epochs, first = summary(table), study.finetuning["epochs"], results[0]
    rows = [
        f"| {ratio:g} | {KINDS[kind]} | {row.MMACs:.2f} | {row.accuracy:.2f} | "
        f"{'' if np.isnan(row.spread) else f'{row.spread:.2f}'} | {row.seeds:.0f} |"
        for ratio in study.uniform_ratios
        for kind in KINDS
        if (ratio, kind) in found.index
        for row in [found.loc[(ratio, kind)]]
    ]
    front = np.mean([len(result["search"]["front"]) for result in results])
    command = "NASBENCH_DATA=... python experiments/elasticize_fashion.py"
    yaml_file = "experiments/elasticize_fashion.yaml"
    blocks = [
        "# A trained network made elastic, against uniform width pruning",
        f"```\n{command} {yaml_file}\n{command} {yaml_file} --report docs/results\n```",
        _wrapped(
            f"A plain ResNet ({first['plain']['test'][0]['num_macs'] / 1e6:.2f} million MACs) is",
            f"trained on Fashion-MNIST for {study.training['epochs']} epochs: {plain.mean():.2f} %",
            f"of the 10,000 official test images (seeds: {len(results)}, from {plain.min():.2f} to",
            f"{plain.max():.2f}). Everything starts from its weights, with channels sorted by",
            "importance:",
        ),
        "\n".join(
            [
                _item(
                    "*every width alike*: all widths at one share, cut out and fine-tuned alone",
                    f"for {epochs} epochs, and for {2 * epochs}: uniform width pruning.",
                ),
                _item(
                    f"*the front*: one supernet of {first['search']['size']:,.0f} sub-networks,",
                    f"fine-tuned by the sandwich rule for {epochs} epochs and searched by `auto`",
                    f"for validation error against MACs, {study.num_trials} sub-networks measured;",
                    f"{front:.0f} are on the front.",
                ),
                _item(
                    "*picked*: for each share the best of the front on validation data that",
                    "costs no more; with inherited weights, and fine-tuned alone for",
                    f"{epochs} epochs, so that its weights, too, were trained for {2 * epochs}.",
                ),
            ]
        ),
        _wrapped(
            f"{first['sizes']['train']:,} training images, batches of",
            f"{study.training['batch_size']}, AdamW with a cosine; one thread of a machine with",
            f"{os.cpu_count()} cores that other work shared ({platform.machine()}, torch",
            f"{torch.__version__}). Accuracies are of test images that chose nothing; spread is",
            "the standard deviation over seeds.",
        ),
        "\n".join(
            [
                "| share of widths | network | MMACs | test accuracy [%] | spread | seeds |",
                "|--:|---|--:|--:|--:|--:|",
                *rows,
            ]
        ),
        "![Test accuracy against multiply-accumulates](elasticize.png)",
        "\n".join(
            [
                _item(
                    "Picked and fine-tuned, against every width alike of as many epochs:",
                    _gains(table, "picked", "uniform, twice"),
                ),
                _item(
                    "Picked, inherited weights, against every width alike fine-tuned alone:",
                    _gains(table, "picked, inherited", "uniform"),
                ),
            ]
        ),
        "The numbers: [elasticize.csv](elasticize.csv).\n",
    ]
    return "\n\n".join(blocks)


def _gains(table: pd.DataFrame, kind: str, other: str) -> str:
    """How much more accurate one kind is than another, over pairs of a share and a seed."""
    wide = table[table.kind != "front"].pivot_table(
        index=["seed", "ratio"], columns="kind", values="top1_accuracy"
    )
    wide = wide.reindex(columns=list(KINDS))
    gains = 100 * (wide[kind] - wide[other]).dropna()
    if gains.empty:
        return "not measured yet."
    return (
        f"{gains.mean():+.2f} points on average over {len(gains)} pairs of a share and a seed, "
        f"from {gains.min():+.2f} to {gains.max():+.2f}."
    )


def _wrapped(*text: str) -> str:
    return textwrap.fill(" ".join(text), 110)


def _item(*text: str) -> str:
    return textwrap.fill(" ".join(text), 110, initial_indent="- ", subsequent_indent="  ")


def figure(table: pd.DataFrame, path: Path) -> None:
    """Test accuracy against MACs: fronts of all seeds beside uniform pruning."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, ax = plt.subplots(figsize=(5.6, 3.8), dpi=160, layout="constrained")
    for number, (_, front) in enumerate(table[table.kind == "front"].groupby("seed")):
        front = front.sort_values("num_macs")
        label = "front, inherited weights" if number == 0 else None
        ax.plot(front.num_macs, 100 * front.top1_accuracy, color="#0072b2", lw=0.9, label=label)
    styles = {
        "uniform": ("uniform width pruning, fine-tuned", "#d55e00", "s"),
        "uniform, twice": ("the same, twice as long", "#d55e00", "x"),
        "picked": ("picked from the front, fine-tuned", "#0072b2", "o"),
        "plain": ("the network itself", "black", "*"),
    }
    for kind, (label, color, marker) in styles.items():
        of = table[table.kind == kind]
        ax.plot(
            of.num_macs, 100 * of.top1_accuracy, ls="", marker=marker, color=color, ms=5,
            mfc="none" if kind != "plain" else color, label=label,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("multiply-accumulates")
    ax.set_ylabel("top-1 accuracy on test [%]")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path)
    plt.close(figure)


def report(study: Study, results: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Print the table; write the page, its figure and the numbers."""
    if not results:
        print("no seed is finished yet")
        return
    table = rows(results)
    print(summary(table).round(2).to_string())
    minutes = [
        sum(part["cpu_seconds"] or np.nan for part in parts) / 60
        for r in results
        for parts in ([r["plain"]], r["uniform"], [r["supernet"], r["search"]])
    ]
    minutes = np.round(minutes, 1).tolist()
    print(f"CPU minutes of each seed's plain, uniform, and supernet with search: {minutes}")
    print(f"{platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores")
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "elasticize.csv", index=False, float_format="%.6g")
    figure(table, folder / "elasticize.png")
    (folder / "elasticize.md").write_text(page(study, results, table))


def main() -> None:
    """Find what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("--report", type=Path, help="train nothing; report to this folder")
    asked = parser.parse_args()
    study = Study.model_validate(yaml.safe_load(asked.study.read_text()))
    if asked.report is not None:
        report(study, finished(study), asked.report)
        return
    torch.set_num_threads(1)
    task = build_task(study)
    results = [Seed(study, task, seed).run() for seed in study.seeds]
    report(study, results, study.folder / "report")


if __name__ == "__main__":
    main()
