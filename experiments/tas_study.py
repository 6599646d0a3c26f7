"""Does a shape that is learned by gradient beat plain ways to make a network smaller?

    NASBENCH_DATA=data OMP_NUM_THREADS=1 python experiments/tas_study.py experiments/tas_study.yaml
    python experiments/tas_results.py experiments/tas_study.yaml docs/results

For each network, seed and target share of its MACs, shapes are proposed in four ways:

    tas       the search by gradient
    uniform   all widths alike, the depth as it is
    random    any shape of these MACs
    auto      a supernet trained by the sandwich rule, searched by `auto`; the most accurate shape

and each is trained with fresh weights by the same recipe, on labels or with distillation from the
unpruned network, and measured on test data. Every part has a result file of its own in the study's
folder, so the same command carries on where it was stopped; the parts that answer the question come
first, under all seeds. The second command makes a page of what there is.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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
from nasbench.supernet.training.phases import Teacher
from nasbench.supernet.training.trainer import train_supernet

UNPRUNED = "unpruned"
METHODS = ("tas", "uniform", "random", "auto")


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
    """The trained unpruned network; trained again where only its result is still there."""
    task, supernet = case.build()
    network = NetworkAlone.of(supernet, supernet.largest, seed=case.seed)
    folder = case.folder / f"trained-{UNPRUNED}"
    checkpoint = load_latest(folder, folder.name)
    if checkpoint is None:
        config = TrainingConfig.model_validate(case.training)
        train_supernet(
            network, task, config, seed=case.seed, folder=folder, fingerprint=folder.name
        )
    else:
        network.load_weights(checkpoint.trained_weights)
    return network.eval()


def parts(study: Study) -> list[tuple[Case, str, float, bool]]:
    """Every network to train: under all seeds those first that answer the question."""
    found = []
    for methods, is_distilled in (
        (("tas", "uniform"), False),
        (("auto",), False),
        (study.distilled[:1], True),
        (("random",), False),
        (study.distilled[1:], True),
    ):
        for seed in study.seeds:
            cases = [Case(study, network, seed) for network in study.supernets]
            if methods == ("tas", "uniform"):
                found += [(case, UNPRUNED, 1.0, False) for case in cases]
            for target in study.targets:
                for case in cases:
                    found += [(case, method, target, is_distilled) for method in methods]
    return found


# -- the whole -------------------------------------------------------------------------------------


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


def read_study(path: Path) -> Study:
    """The study of a YAML file."""
    return Study.model_validate(yaml.safe_load(path.read_text()))


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    run(read_study(parser.parse_args().study))


if __name__ == "__main__":
    main()
