"""Does a shape that is learned by gradient beat plain ways to make a network smaller?

    NASBENCH_DATA=data OMP_NUM_THREADS=1 python experiments/tas_study.py experiments/tas_study.yaml
    python experiments/tas_study.py experiments/tas_study.yaml --report docs/results

For each network, seed and target share of its MACs, shapes are proposed in four ways:

    tas       the search by gradient
    uniform   all widths alike, the depth as it is
    random    any shape of these MACs
    auto      a supernet trained by the sandwich rule, searched by `auto`; the most accurate shape

and each is trained with fresh weights by the same recipe, on labels or with distillation from the
unpruned network, and measured on test data. Every part has a result file of its own in the study's
folder, so the same command carries on where it was stopped; the first seeds and the parts that
answer the question come first. The second command trains nothing: it measures latencies that are
missing, prints the tables and writes the figure.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from study import build, found_once, train_and_test

from nasbench.config import (
    EvaluationConfig,
    SearchConfig,
    Section,
    ShapeSearchConfig,
    SupernetConfig,
    TaskConfig,
    TrainingConfig,
)
from nasbench.evaluation import Evaluator
from nasbench.hardware import ENGINES, LatencyMeasurement, LatencyProtocol, measure_latency
from nasbench.objectives import Objective
from nasbench.search import ALGORITHMS, SearchProblem
from nasbench.search.loop import run_search
from nasbench.space import Architecture
from nasbench.store import TrialStore
from nasbench.supernet import Supernet
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.shape_search import (
    COSTS,
    ExpectedCost,
    TransformableNetwork,
    search_shape,
)
from nasbench.supernet.training.checkpoint import load_latest
from nasbench.supernet.training.trainer import Teacher, train_supernet

UNPRUNED = "unpruned"
METHODS = ("tas", "uniform", "random", "auto")
LABELS = {
    "tas": "TAS",
    "uniform": "uniform widths",
    "random": "random shape",
    "auto": "supernet, auto",
}
PROTOCOL = LatencyProtocol(num_warmup=30, num_repeats=300, has_control=True)


class Study(Section):
    """All about one study."""

    folder: Path
    task: TaskConfig
    supernets: dict[str, SupernetConfig]
    training: dict[str, Any]
    shape_search: dict[str, Any]
    supernet_training: dict[str, Any]
    """What replaces settings of `training` for the supernet that `auto` searches."""
    search: SearchConfig = SearchConfig(objectives=("top1_error", "num_macs"))
    evaluation: EvaluationConfig = EvaluationConfig()
    targets: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Shares of the MACs, those that matter most first."""
    seeds: tuple[int, ...] = (0,)
    distilled: tuple[str, ...] = ("tas", "uniform")
    """Methods whose shapes are trained with distillation, too."""


@dataclass(frozen=True)
class Case:
    """One network and one seed."""

    study: Study
    network: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where its parts lie."""
        return self.study.folder / f"{self.network}-seed{self.seed}"

    def build(self) -> tuple[Any, Supernet[Any]]:
        """The task, and a supernet with fresh weights."""
        config = self.study.supernets[self.network]
        return build(self.study.task, config, self.seed)

    @property
    def training(self) -> dict[str, Any]:
        """How networks are trained by themselves."""
        return {**self.study.training, "strategy": "single_path", "options": {}}


# -- ways to propose a shape ----------------------------------------------------------------------


def found_shape(case: Case, method: str, target: float) -> dict[str, Any]:
    """The shape that a method proposes, with the CPU seconds that it took."""
    result = case.folder / f"{method}-{target:.0%}.json"
    return found_once(result, partial(_FIND[method], case, target))


def _described(
    supernet: Supernet[Any], architecture: Architecture, cpu_seconds: float, **more: Any
) -> dict[str, Any]:
    share = supernet.count(architecture)["num_macs"] / supernet.count(supernet.largest)["num_macs"]
    found = {"architecture": dict(architecture), "macs_share": share, "cpu_seconds": cpu_seconds}
    return {**found, **more}


def _by_gradient(case: Case, target: float) -> dict[str, Any]:
    start = time.process_time()
    task, supernet = case.build()
    folder = case.folder / f"tas-{target:.0%}"
    is_resumed = folder.exists()
    cost = ExpectedCost(supernet, COSTS["num_macs"])
    found = search_shape(
        TransformableNetwork(supernet, seed=case.seed),
        task,
        TrainingConfig.model_validate(case.training),
        ShapeSearchConfig.model_validate(case.study.shape_search),
        cost,
        target=target,
        seed=case.seed,
        folder=folder,
        fingerprint=folder.name,
    )
    seconds = float("nan") if is_resumed else time.process_time() - start
    history = [
        {"epoch": r.epoch, "cost": r.cost, "expected_cost": r.expected_cost, "loss": r.loss}
        for r in found.history
    ]
    _, plain = case.build()
    return _described(plain, found.architecture, seconds, history=history)


def _uniform(case: Case, target: float) -> dict[str, Any]:
    _, supernet = case.build()
    return _described(supernet, uniform_shape(supernet, target), 0.0)


def uniform_shape(supernet: Supernet[Any], target: float) -> Architecture:
    """All widths alike, as large as fit; then single ones, in the order of computation, while they
    do. Depths, kernel sizes and expansion ratios stay the largest.
    """
    space = supernet.space
    limit = target * supernet.count(supernet.largest)["num_macs"]
    widths = {d.name: d.rising for d in space if d.name.endswith("width")}

    def fits(chosen: Mapping[str, int]) -> bool:
        return supernet.count({**space.largest, **chosen})["num_macs"] <= limit

    def alike(share: float) -> dict[str, int]:
        return {
            name: min(rising, key=lambda width: abs(width - share * rising[-1]))
            for name, rising in widths.items()
        }

    share = next(s for s in np.linspace(1, 0, 1001) if fits(alike(s)))
    chosen = alike(share)
    for name, rising in widths.items():
        larger = {**chosen, name: rising[min(rising.index(chosen[name]) + 1, len(rising) - 1)]}
        if fits(larger):
            chosen = larger
    return space.canonical({**space.largest, **chosen})


def _random(case: Case, target: float) -> dict[str, Any]:
    _, supernet = case.build()
    space, rng = supernet.space, np.random.default_rng([case.seed, int(100 * target)])
    tolerance = ShapeSearchConfig.model_validate(case.study.shape_search).tolerance
    largest = supernet.count(supernet.largest)["num_macs"]
    for _ in range(1000):
        for architecture in space.from_genomes(space.sample_choices(100, rng)):
            share = supernet.count(architecture)["num_macs"] / largest
            if target - tolerance <= share <= target:
                return _described(supernet, architecture, 0.0)
    raise SystemExit(f"no random shape has {target:.0%} of the MACs")


def _by_supernet(case: Case, target: float) -> dict[str, Any]:
    """The most accurate on validation data that fits; one supernet and search for all targets."""
    _, supernet = case.build()
    searched = found_once(case.folder / "supernet.json", partial(_search_supernet, case))
    limit = target * supernet.count(supernet.largest)["num_macs"]
    fitting = [trial for trial in searched["trials"] if trial["num_macs"] <= limit]
    best = max(fitting, key=lambda trial: trial["top1_accuracy"])
    architecture = supernet.space.canonical(best["architecture"])
    return _described(supernet, architecture, searched["cpu_seconds"])


def _search_supernet(case: Case) -> dict[str, Any]:
    start = time.process_time()
    task, supernet = case.build()
    folder = case.folder / "supernet"
    is_resumed = folder.exists()
    config = TrainingConfig.model_validate({**case.study.training, **case.study.supernet_training})
    train_supernet(supernet, task, config, seed=case.seed, folder=folder, fingerprint=folder.name)
    evaluator = Evaluator(supernet, task, case.study.evaluation)
    objectives = [Objective.of(name) for name in case.study.search.objectives]

    def count(architecture: Architecture) -> float:
        return float(supernet.count(architecture)["num_macs"])

    problem = SearchProblem(supernet.space, objectives, counted={"num_macs": count})
    search = case.study.search
    trials = run_search(
        problem,
        ALGORITHMS[search.algorithm](problem, seed=case.seed, **search.options),
        TrialStore(None, supernet.space, objectives, fingerprint="study"),
        lambda asked: (t.completed(evaluator.evaluate(t.architecture).measurements) for t in asked),
        num_trials=search.num_trials,
        batch_size=search.batch_size,
        initial=(supernet.largest, supernet.smallest),
    )
    seconds = float("nan") if is_resumed else time.process_time() - start
    found = [{"architecture": dict(t.architecture), **t.measurements} for t in trials]
    return {"cpu_seconds": seconds, "trials": found}


_FIND: dict[str, Callable[[Case, float], dict[str, Any]]] = {
    "tas": _by_gradient,
    "uniform": _uniform,
    "random": _random,
    "auto": _by_supernet,
}


# -- training what was proposed -------------------------------------------------------------------


def trained(case: Case, method: str, target: float, *, is_distilled: bool) -> dict[str, Any]:
    """Train a shape by itself and test it; the unpruned network for the method of that name."""
    name = UNPRUNED if method == UNPRUNED else f"{method}-{target:.0%}"
    folder = case.folder / f"trained-{name}{'-distilled' if is_distilled else ''}"

    def find() -> dict[str, Any]:
        task, supernet = case.build()
        architecture = supernet.largest
        if method != UNPRUNED:
            chosen = found_shape(case, method, target)["architecture"]
            architecture = supernet.space.canonical(chosen)
        network = NetworkAlone.of(supernet, architecture, seed=case.seed)
        settings, teacher = case.training, None
        if is_distilled:
            shape_search = ShapeSearchConfig.model_validate(case.study.shape_search)
            teacher = Teacher(_unpruned(case), shape_search.distillation_weight)
            temperature = shape_search.distillation_temperature
            settings = {**settings, "distillation": {"temperature": temperature}}
        found = train_and_test(
            network, task, settings, case.study.evaluation, [network.largest],
            seed=case.seed, folder=folder, teacher=teacher,
        )  # fmt: skip
        about = {"network": case.network, "seed": case.seed, "method": method, "target": target}
        return {**about, "distilled": is_distilled, "architecture": dict(architecture), **found}

    return found_once(folder / "result.json", find)


def _unpruned(case: Case) -> NetworkAlone:
    """The trained unpruned network."""
    _, supernet = case.build()
    network = NetworkAlone.of(supernet, supernet.largest, seed=case.seed)
    folder = case.folder / f"trained-{UNPRUNED}"
    checkpoint = load_latest(folder, folder.name)
    assert checkpoint is not None, "the unpruned network is trained first"
    network.load_weights(checkpoint.trained_weights)
    return network.eval()


def parts(study: Study) -> list[tuple[Case, str, float, bool]]:
    """Every network to train, those first that answer the question."""
    found = []
    for seed in study.seeds:
        cases = [Case(study, network, seed) for network in study.supernets]
        found += [(case, UNPRUNED, 1.0, False) for case in cases]
        for methods, is_distilled in (
            (("tas", "uniform"), False),
            (("random",), False),
            (study.distilled[:1], True),
            (("auto",), False),
            (study.distilled[1:], True),
        ):
            for target in study.targets:
                for case in cases:
                    found += [(case, method, target, is_distilled) for method in methods]
    return found


# -- latency --------------------------------------------------------------------------------------


def latency(study: Study, result: Mapping[str, Any]) -> dict[str, Any]:
    """How long the network of a result takes, beside a control network that shows drift."""
    case = Case(study, result["network"], result["seed"])
    _, supernet = case.build()
    architecture = supernet.space.canonical(result["architecture"])
    name = f"{result['network']}-{architecture.id}.json"

    def find() -> dict[str, Any]:
        engine = ENGINES["onnxruntime"]()
        artifact = engine.compile(supernet.extract(architecture), supernet.example_inputs(1))
        return measure_latency(engine, artifact, PROTOCOL).to_json()

    return found_once(study.folder / "latency" / name, find)


# -- what came of it ------------------------------------------------------------------------------


def table(study: Study) -> pd.DataFrame:
    """One row per trained network: shares of MACs, accuracy, latency, and what its search took."""
    rows = []
    for case, method, target, is_distilled in parts(study):
        name = UNPRUNED if method == UNPRUNED else f"{method}-{target:.0%}"
        folder = f"trained-{name}{'-distilled' if is_distilled else ''}"
        file = case.folder / folder / "result.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        measured = LatencyMeasurement.from_json(latency(study, result))
        seconds = 0.0
        if method != UNPRUNED:
            seconds = found_shape(case, method, target)["cpu_seconds"]
        (test,) = result["test"]
        rows.append(
            {
                "network": case.network,
                "seed": case.seed,
                "method": method,
                "distilled": is_distilled,
                "target": target,
                "num_macs": test["num_macs"],
                "num_parameters": test["num_parameters"],
                "test_accuracy": test["top1_accuracy"],
                "latency_to_control": measured.relative_to_control,
                "latency_ms": measured.median_ms,
                "search_cpu_minutes": seconds / 60,
                "training_cpu_minutes": (result["cpu_seconds"] or np.nan) / 60,
            }
        )
    frame = pd.DataFrame(rows)
    largest = frame[frame.method == UNPRUNED].set_index(["network", "seed"]).num_macs
    keys = pd.MultiIndex.from_frame(frame[["network", "seed"]])
    frame["macs_share"] = frame.num_macs.to_numpy() / largest.reindex(keys).to_numpy()
    return frame


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and the difference to uniform widths trained the same way, in points."""
    by = ["network", "distilled", "target", "method"]
    mean = frame.groupby(by, sort=False).agg(
        seeds=("seed", "size"),
        macs=("macs_share", "mean"),
        accuracy=("test_accuracy", "mean"),
        spread=("test_accuracy", "std"),
        latency=("latency_to_control", "mean"),
        search_minutes=("search_cpu_minutes", "mean"),
    )
    mean[["macs", "accuracy", "spread"]] *= 100
    wide = frame.set_index([*by, "seed"]).test_accuracy
    uniform = wide.xs("uniform", level="method") if "uniform" in frame.method.to_numpy() else wide
    gains = {}
    for (*key, method, seed), accuracy in wide.items():
        against = uniform.get((*key, seed))
        if against is not None and method != "uniform":
            gains.setdefault((*key, method), []).append(100 * (accuracy - against))
    mean["over uniform"] = pd.Series({key: np.mean(found) for key, found in gains.items()})
    return mean.round(2)


def figure(frame: pd.DataFrame, path: Path) -> None:
    """Test accuracy against the share of MACs, one panel per network."""
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(frame.network))
    drawn, axes = plt.subplots(
        1, len(networks), figsize=(4.6 * len(networks), 3.6), dpi=160, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    colors = dict(zip(METHODS, ("#0072B2", "#D55E00", "#999999", "#009E73"), strict=True))
    markers = dict(zip(METHODS, "os^D", strict=True))
    for ax, network in zip(axes[0], networks, strict=True):
        of = frame[frame.network == network]
        unpruned = 100 * of[of.method == UNPRUNED].test_accuracy.mean()
        ax.axhline(unpruned, color="k", lw=0.8, ls=":")
        ax.annotate("unpruned", (0.01, unpruned), xycoords=("axes fraction", "data"),
                    fontsize=7, va="bottom")  # fmt: skip
        for (method, is_distilled), points in of[of.method != UNPRUNED].groupby(
            ["method", "distilled"], sort=False
        ):
            mean = points.groupby("target")[["macs_share", "test_accuracy"]].mean() * 100
            label = LABELS[method] + (", distilled" if is_distilled else "")
            style = {"color": colors[method], "marker": markers[method], "ms": 4}
            line = "--" if is_distilled else "-"
            ax.plot(mean.macs_share, mean.test_accuracy, lw=1.2, ls=line, label=label, **style)
        ax.set_title(network, fontsize=9)
        ax.set_xlabel("multiply-accumulates [% of unpruned]")
        ax.set_ylabel("top-1 accuracy on test [%]")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
    axes[0][0].legend(frameon=False, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path)
    plt.close(drawn)


def report(study: Study, folder: Path) -> None:
    """Print the table; write the numbers and the figure."""
    frame = table(study)
    print(summary(frame).to_string())
    unpruned = frame[frame.method == UNPRUNED]
    print("\n", unpruned[["network", "seed", "test_accuracy", "latency_to_control", "latency_ms",
                          "num_macs", "training_cpu_minutes"]].to_string())  # fmt: skip
    print(f"\n{platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores")
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "tas.csv", index=False, float_format="%.6g")
    figure(frame, folder / "tas.png")


def run(study: Study) -> None:
    """Do the parts that are missing, in order."""
    asked: Sequence[tuple[Case, str, float, bool]] = parts(study)
    start = time.monotonic()
    for number, (case, method, target, is_distilled) in enumerate(asked, 1):
        found = trained(case, method, target, is_distilled=is_distilled)
        share = "" if method == UNPRUNED else f" at {target:.0%}"
        print(
            f"{number} of {len(asked)}, {(time.monotonic() - start) / 60:.0f} min: {case.network} "
            f"seed {case.seed} {method}{share}{' distilled' if is_distilled else ''}, "
            f"test accuracy {found['test'][0]['top1_accuracy']:.4f}, "
            f"{found['test'][0]['num_macs']:,} MACs",
            flush=True,
        )


def main() -> None:
    """Train what is missing; or report what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("--report", type=Path, help="train nothing; report to this folder")
    asked = parser.parse_args()
    study = Study.model_validate(yaml.safe_load(asked.study.read_text()))
    if asked.report is None:
        run(study)
    else:
        report(study, asked.report)


if __name__ == "__main__":
    main()
