"""Does fine-tuning a pre-trained network as a supernet give smaller networks of its accuracy?

    python experiments/instatune.py experiments/instatune_minilm.yaml
    python experiments/instatune.py experiments/instatune_minilm.yaml --report docs/results

A pre-trained encoder is fine-tuned in several ways for as many optimizer steps each: its largest
sub-network alone, which is ordinary fine-tuning, and as a supernet with the losses of InstaTune
(Sridhar et al., 2023). Then sub-networks evenly over MACs are measured on test data with the
weights they inherit; and supernets are searched on validation data for accuracy against MACs or
latency, and the fronts measured on test data.

Every part has a result file of its own in the study's folder, so the same command carries on where
it was stopped.
"""

import argparse
import importlib.util
import platform
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import PositiveInt
from study import found_once

from nasbench.config import EvaluationConfig, Section, TaskConfig, TrainingConfig
from nasbench.errors import RequestError
from nasbench.evaluation import Evaluator
from nasbench.experiment.parts import public_data
from nasbench.hardware import ENGINES, LatencyProtocol, measure_latency
from nasbench.objectives import Objective
from nasbench.pareto import non_dominated
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.space import Architecture
from nasbench.supernet import Supernet
from nasbench.supernet.convert import convert
from nasbench.supernet.training.strategies import Assignment, SingleStage
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import TASKS, Task

PLAIN = "plain"


class LargestAlone(SingleStage):
    """Ordinary fine-tuning, `strategy: instatune:LargestAlone`: the largest on the labels."""

    def __init__(self, subnetworks: Any) -> None:
        self.largest = subnetworks.space.largest

    def assign(self, rng: np.random.Generator) -> list[Assignment]:  # noqa: ARG002
        """The largest."""
        return [Assignment(self.largest, labels=1.0)]


class Member(Section):
    """One way to fine-tune: settings that replace the study's own, and the order of heads."""

    training: dict[str, Any]
    order: str = "original"


class Search(Section):
    """One search of a member's sub-networks."""

    member: str
    algorithm: str
    cost: Literal["num_macs", "relative_latency"] = "num_macs"
    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults

    @property
    def name(self) -> str:
        """Names its folder."""
        end = "" if self.cost == "num_macs" else "-latency"
        return f"{self.member}-{self.algorithm}{end}"


class Study(Section):
    """All about one study; the network is in a folder, or in an installed package that has one."""

    folder: Path
    pretrained: Path | None = None
    package: str | None = None
    seed: int = 0
    task: TaskConfig
    elastic: dict[str, tuple[int, ...]]
    training: dict[str, Any]
    evaluation: EvaluationConfig = EvaluationConfig()
    num_ladder: PositiveInt = 5
    members: dict[str, Member]
    searches: tuple[Search, ...]
    num_trials: PositiveInt = 40
    batch_size: PositiveInt = 8
    latency: dict[str, Any] = {  # noqa: RUF012
        "num_threads": 1,
        "num_repeats": 100,
        "precision": 0.01,
        "has_control": True,
    }
    """Of ONNX Runtime; the ratio to the control's is what a search minimizes."""

    def network(self) -> Path:
        """The folder with config.json."""
        if self.pretrained is not None:
            return self.pretrained
        found = importlib.util.find_spec(str(self.package))
        if found is None or found.origin is None:
            raise RequestError(f"the package '{self.package}' is not installed")
        return next(Path(found.origin).parent.rglob("config.json")).parent


@cache
def build_task(config: str, tokenizer: Path) -> Task:
    """The task with the network's tokenizer, once."""
    asked = TaskConfig.model_validate_json(config)
    options = {**asked.options, "tokenizer": str(tokenizer)}
    return TASKS[asked.name](public_data(asked.data_dir), **options)


def build_member(study: Study, name: str) -> tuple[Task, Supernet[Any]]:
    """The task, and the pre-trained network as a supernet."""
    task = build_task(study.task.model_dump_json(), study.network() / "tokenizer.json")
    supernet = convert(
        study.network(),
        elastic=study.elastic,
        order=study.members[name].order,
        seed=study.seed,
        **task.network_settings,
    )
    return task, supernet


def train(study: Study, name: str) -> Evaluator:
    """Fine-tune a member, or load what was; how long it took has a file of its own."""
    task, supernet = build_member(study, name)
    config = TrainingConfig.model_validate({**study.training, **study.members[name].training})
    folder = study.folder / name
    is_resumed, start = folder.exists(), time.process_time()
    history = train_supernet(
        supernet, task, config, seed=study.seed, folder=folder / "supernet", fingerprint=name
    )
    seconds = None if is_resumed else time.process_time() - start
    found_once(
        folder / "training.json",
        lambda: {"cpu_seconds": seconds, "losses": [record["loss"] for record in history]},
    )
    return Evaluator(supernet, task, study.evaluation)


def ladder(study: Study, supernet: Supernet[Any]) -> list[Architecture]:
    """From the smallest to the largest, evenly over MACs."""
    space = supernet.space
    pool = space.from_genomes(space.sample_choices(4000, np.random.default_rng(0)))
    macs = np.array([supernet.count(architecture)["num_macs"] for architecture in pool])
    ends = [supernet.count(end)["num_macs"] for end in (space.smallest, space.largest)]
    between = [
        pool[int(np.abs(macs - target).argmin())]
        for target in np.linspace(*ends, study.num_ladder)[1:-1]
    ]
    return [space.smallest, *between, space.largest]


def measure(
    study: Study, name: str, evaluator: Evaluator, architecture: Architecture, split: str
) -> dict[str, Any]:
    """Measurements of a sub-network, taken once."""
    path = study.folder / name / split / f"{architecture.id}.json"

    def find() -> dict[str, Any]:
        measured = evaluator.evaluate(architecture, split).measurements  # type: ignore[arg-type]
        return {"architecture": architecture.to_json(), **measured}

    return found_once(path, find)


def time_network(study: Study, evaluator: Evaluator, architecture: Architecture) -> dict[str, Any]:
    """Counts of a sub-network, and its latency in ONNX Runtime."""
    engine = ENGINES["onnxruntime"]()
    inputs = evaluator.supernet.example_inputs(1)
    artifact = engine.compile(evaluator.extract(architecture), inputs)
    latency = measure_latency(engine, artifact, LatencyProtocol(**study.latency))
    return {
        **evaluator.supernet.count(architecture),
        **latency.to_metrics(),
        "relative_latency": latency.relative_to_control,
        "conditions": latency.conditions(),
    }


def search(study: Study, asked: Search, evaluator: Evaluator) -> dict[str, Any]:
    """Search a member on validation data, and measure its front on test data."""
    supernet = evaluator.supernet
    is_counted = asked.cost == "num_macs"

    def macs(architecture: Architecture) -> float:
        return float(supernet.count(architecture)["num_macs"])

    def cost(architecture: Architecture) -> float:
        if is_counted:
            return macs(architecture)
        path = study.folder / asked.member / "latency" / f"{architecture.id}.json"
        found = found_once(path, lambda: time_network(study, evaluator, architecture))
        return float(found["relative_latency"])

    problem = SearchProblem(
        supernet.space,
        [Objective.of("top1_error"), Objective(asked.cost, "minimize")],
        counted={"num_macs": macs} if is_counted else {},
    )
    algorithm = ALGORITHMS[asked.algorithm](problem, seed=study.seed, **asked.options)
    trials: list[Architecture] = []
    losses: list[list[float]] = []
    while len(trials) < study.num_trials:
        count = min(study.batch_size, study.num_trials - len(trials))
        proposed = algorithm.ask(count) if trials else [supernet.largest, supernet.smallest]
        if not proposed:
            break
        found = [measure(study, asked.member, evaluator, a, "validation") for a in proposed]
        rows = [[of["top1_error"], cost(a)] for of, a in zip(found, proposed, strict=True)]
        algorithm.tell(proposed, np.array(rows))
        trials += proposed
        losses += rows
        print(f"{asked.name}: {len(trials)} of {study.num_trials}", flush=True)
    front = np.flatnonzero(non_dominated(np.array(losses)))
    return {
        "search": asked.name,
        "num_trials": len(trials),
        "cost": asked.cost,
        "largest_cost": losses[0][1],
        "front": [
            {
                "validation": 1 - losses[i][0],
                "cost": losses[i][1],
                **measure(study, asked.member, evaluator, trials[i], "test"),
            }
            for i in front
        ],
    }


def run(study: Study) -> None:
    """Find what is missing, in the order of the study: each member, then its searches."""
    for name in study.members:
        evaluator = train(study, name)
        largest = evaluator.supernet.largest
        found_once(
            study.folder / f"ladder-{name}.json",
            lambda name=name, evaluator=evaluator, largest=largest: {
                "member": name,
                "validation": measure(study, name, evaluator, largest, "validation"),
                "test": [
                    measure(study, name, evaluator, architecture, "test")
                    for architecture in ladder(study, evaluator.supernet)
                ],
            },
        )
        print(f"{name} is trained and measured", flush=True)
        for asked in study.searches:
            if asked.member == name:
                path = study.folder / f"search-{asked.name}.json"
                found_once(path, lambda a=asked, e=evaluator: search(study, a, e))
    found_once(study.folder / "latencies.json", lambda: latencies(study))


# -- what came of it --------------------------------------------------------------------------


def results(study: Study, kind: str) -> Iterator[dict[str, Any]]:
    """What the finished parts of a kind found, in the order of the study."""
    names = study.members if kind == "ladder" else [asked.name for asked in study.searches]
    for name in names:
        path = study.folder / f"{kind}-{name}.json"
        if path.exists():
            yield found_once(path, dict)


def plain_network(study: Study) -> tuple[float, dict[str, Any]]:
    """Validation accuracy and test measurements of ordinary fine-tuning."""
    found = next(of for of in results(study, "ladder") if of["member"] == PLAIN)
    return found["validation"]["top1_accuracy"], found["test"][-1]


def chosen(front: list[dict[str, Any]], least: float) -> dict[str, Any] | None:
    """The sub-network of least cost with at least that accuracy on validation data."""
    good = [point for point in front if point["validation"] >= least]
    return min(good, key=lambda point: point["cost"]) if good else None


def latencies(study: Study) -> dict[str, Any]:
    """Median latency in ONNX Runtime of ordinary fine-tuning and of what each search chooses."""
    validation, plain = plain_network(study)
    asked = {PLAIN: (PLAIN, plain["architecture"])}
    for found in results(study, "search"):
        point = chosen(found["front"], validation - LATENCY_ALLOWED / 100)
        if point is not None:
            asked[found["search"]] = (found["search"].partition("-")[0], point["architecture"])
    measured = {}
    for name, (member, architecture) in asked.items():
        evaluator = train(study, member)
        canonical = evaluator.supernet.space.canonical(architecture)
        measured[name] = time_network(study, evaluator, canonical)
    return measured


def table(study: Study) -> pd.DataFrame:
    """One row per sub-network: of the ladders, and of each search's front."""
    rows = []
    for found in results(study, "ladder"):
        rows += [{"part": f"ladder of {found['member']}", **point} for point in found["test"]]
    for found in results(study, "search"):
        rows += [{"part": f"front of {found['search']}", **point} for point in found["front"]]
    frame = pd.DataFrame(rows).drop(columns="architecture")
    return frame.sort_values(["part", "num_macs"], kind="stable")


def text(study: Study) -> str:
    """What is found, in Markdown."""
    validation, plain = plain_network(study)
    macs = plain["num_macs"]
    lines = ["| fine-tuning | largest | 80 % | 60 % | 40 % | smallest | CPU [min] |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for found in results(study, "ladder"):
        points, member = found["test"], found["member"]
        at = [min(points, key=lambda p, s=share: abs(p["num_macs"] - s * macs)) for share in SHARES]
        took = found_once(study.folder / member / "training.json", dict)["cpu_seconds"]
        minutes = f"{took / 60:.1f}" if took else "resumed"
        cells = " | ".join(f"{100 * point['top1_accuracy']:.1f}" for point in at)
        lines.append(f"| `{member}` | {cells} | {minutes} |")
    lines += [
        "",
        "Test accuracy in percent of sub-networks with inherited weights, at about these shares of",
        f"the largest one's {macs / 1e6:.0f} million MACs; the smallest has "
        f"{min(p['num_macs'] for p in points) / macs:.0%}.",
        "",
        "| search | " + " | ".join(_allowed(points) for points in ALLOWED) + " | most accurate |",
        "|---|" + "--:|" * (len(ALLOWED) + 1),
    ]
    for found in results(study, "search"):
        picked = [chosen(found["front"], validation - points / 100) for points in ALLOWED]
        best = max(found["front"], key=lambda p: (p["validation"], -p["cost"]))
        cells = " | ".join(_cell(point, found["largest_cost"]) for point in [*picked, best])
        lines.append(f"| `{found['search']}`, {found['num_trials']} trials | {cells} |")
    lines += [
        "",
        "Of each search the sub-network of fewest MACs (of those named *latency*: of least",
        "latency) that is at most so much less accurate on validation data than plain fine-tuning",
        f"({100 * validation:.1f} %): its MACs or latency against the largest one's, and its test",
        f"accuracy (that of plain fine-tuning is {100 * plain['top1_accuracy']:.1f} %).",
    ]
    path = study.folder / "latencies.json"
    if path.exists():
        found = found_once(path, dict)
        lines += [
            "",
            f"| network, {_allowed(LATENCY_ALLOWED)} | MACs | latency [ms], of plain | beside a "
            "control |",
            "|---|--:|--:|--:|",
        ]
        whole = found[PLAIN]
        for name, measured in found.items():
            shares = [
                measured[key] / whole[key] for key in ("num_macs", "latency_ms", "relative_latency")
            ]
            lines.append(
                f"| `{name}` | {shares[0]:.0%} | {measured['latency_ms']:.1f}, {shares[1]:.0%} | "
                f"{shares[2]:.0%} |"
            )
        lines += [
            "",
            "Median latency in ONNX Runtime of one text of as many tokens as MACs are counted for,",
            "with one thread, on a machine that did other work. Beside a control: the ratio to a",
            "small network that was timed in turn, which such work slows down, too.",
        ]
    lines += ["", f"{platform.platform()}, torch {torch.__version__}, one thread."]
    return "\n".join(lines)


def _allowed(points: int) -> str:
    if points == 0:
        return "no loss"
    return f"{points} point{'s' if points > 1 else ''} below"


def _cell(point: dict[str, Any] | None, largest_cost: float) -> str:
    """Change of cost and test accuracy."""
    if point is None:
        return "none"
    change = point["cost"] / largest_cost - 1
    return f"{change:+.0%}, {100 * point['top1_accuracy']:.1f} %"


SHARES = (1.0, 0.8, 0.6, 0.4, 0.0)
ALLOWED = (0, 1, 2, 3, 5)  # percentage points on validation data
LATENCY_ALLOWED = 3


def figure(study: Study, path: Path) -> None:
    """Test accuracy against MACs: of ladders, and of fronts."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, 2, figsize=(9.6, 3.9), dpi=160, layout="constrained", sharey=True
    )
    _, plain = plain_network(study)
    colors = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    markers = "osD^vP"
    for ax, kind, key, of in (
        (axes[0], "ladder", "member", "test"),
        (axes[1], "search", "search", "front"),
    ):
        for number, found in enumerate(results(study, kind)):
            points = sorted(found[of], key=lambda point: point["num_macs"])
            member = list(study.members).index(found[key].partition("-")[0])
            style = {"color": colors[member], "marker": markers[number], "ms": 4, "lw": 1}
            ax.plot(
                [p["num_macs"] / 1e6 for p in points],
                [100 * p["top1_accuracy"] for p in points],
                label=found[key],
                **style,
            )
        ax.axhline(100 * plain["top1_accuracy"], color="k", lw=0.8, ls="--")
        ax.set_xlabel("multiply-accumulates of 64 tokens [millions]")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.legend(frameon=False, fontsize=7, loc="lower right")
    axes[0].set_title("evenly over MACs", fontsize=9)
    axes[1].set_title("fronts of searches (chosen on validation data)", fontsize=9)
    axes[0].set_ylabel("top-1 accuracy on test [%]")
    figure.savefig(path)
    plt.close(figure)


BEGIN, END = "<!-- found: begin -->", "<!-- found: end -->"


def report(study: Study, folder: Path) -> None:
    """Write the tables into the page, between its marks, and the figure and numbers beside it."""
    name = study.folder.name
    page = folder / "instatune.md"
    table(study).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    figure(study, folder / f"{name}.png")
    content = page.read_text()
    before, rest = content.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text(study)}\n{END}{after}")
    print(text(study))


def main() -> None:
    """Find what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument(
        "--report", type=Path, help="find nothing; write to the page in this folder"
    )
    asked = parser.parse_args()
    study = Study.model_validate(yaml.safe_load(asked.study.read_text()))
    torch.set_num_threads(study.training.get("num_threads") or torch.get_num_threads())
    if asked.report is None:
        run(study)
    else:
        report(study, asked.report)


if __name__ == "__main__":
    main()
