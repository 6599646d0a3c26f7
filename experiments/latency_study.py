"""How well latency is known on this machine: repeated, from a look-up table, from few samples.

    NASBENCH_DATA=data OMP_NUM_THREADS=1 python experiments/latency_study.py runs/latency
    python experiments/latency_study.py runs/latency --tables

Measures the MobileNetV3 space of experiments/fashion_mnist.yaml in ONNX Runtime on one thread. The
first command carries on where it was stopped; the second prints the tables of
docs/results/latency.md from what is there.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.cli.progress import PlainLines
from nasbench.config import load_config
from nasbench.experiment.device_files import (
    LookupFile,
    MeasurementLog,
    PredictorFile,
    read_device_file,
)
from nasbench.experiment.devices import (
    DeviceRequest,
    build_lookup_table,
    choose_networks,
    fit_device,
)
from nasbench.experiment.run import Run
from nasbench.hardware import CAREFUL, ENGINES, LatencyMeasurement, measure_latency
from nasbench.plots import plot_parity, save
from nasbench.predictors import PREDICTORS
from nasbench.predictors.encoding import Counted, OneHot, joined
from nasbench.predictors.quality import Quality, measure_quality
from nasbench.space import Architecture

CONFIG = Path(__file__).with_name("fashion_mnist.yaml")
DEVICE = "here"
NUM_NETWORKS = 120  # drawn at random; every seed learns from some and is judged by the others
NUM_LINE = 10  # networks that a table's line is fitted to
SEEDS = range(10)
NUM_REPEATED, NUM_REPETITIONS = 8, 12
PREDICTOR_NAMES = ("gp", "auto", "ridge", "lightgbm")


def request_for(folder: Path) -> DeviceRequest:
    """What the study measures."""
    return DeviceRequest(Run(folder, load_config(CONFIG)), DEVICE, "onnxruntime", CAREFUL)


def measure(request: DeviceRequest) -> None:
    """Whole networks, blocks, and some networks again and again, turn by turn."""
    progress = PlainLines()
    fit_device(request, num_samples=50, num_tested=NUM_NETWORKS, progress=progress)
    build_lookup_table(request, num_fitted=NUM_LINE, num_tested=0, progress=progress)
    supernet, engine = request.supernet(), ENGINES["onnxruntime"]()
    networks, _ = choose_networks(supernet, NUM_REPEATED, 0, seed=0)
    log = MeasurementLog(request.folder / "repeated.jsonl")
    progress.start("repeat", NUM_REPEATED * NUM_REPETITIONS, 0)
    artifacts = {
        each.id: engine.compile(supernet.extract(each), supernet.example_inputs())
        for each in networks
    }
    for repetition in range(NUM_REPETITIONS):
        for name, artifact in artifacts.items():
            key = f"{name} {repetition}"
            if log.find(key, request.engine, request.protocol) is None:
                log.add(key, measure_latency(engine, artifact, request.protocol))
            progress.advance(key)


# -- tables -------------------------------------------------------------------------------------


def print_tables(request: DeviceRequest) -> None:
    """Everything that docs/results/latency.md shows."""
    networks = read_device_file(request.folder / "predictor.json")
    table = read_device_file(request.folder / "lookup_table.json")
    assert isinstance(networks, PredictorFile)
    assert isinstance(table, LookupFile)
    print_conditions(request, networks, table)
    print_repeated(request.folder / "repeated.jsonl")
    print_models(request, networks, table)
    draw_table(request, networks, table)


def print_conditions(request: DeviceRequest, networks: PredictorFile, table: LookupFile) -> None:
    """Under which conditions it was measured, and how much there was of it."""
    measured = list(logged(request.folder / "samples.jsonl"))
    blocks = [each for key, each in measured if key in table.block_ms]
    whole = [each for key, each in measured if " " not in key and key != "nothing"]
    print(json.dumps(networks.conditions, indent=1))
    for name, group in (("blocks", blocks), ("whole networks", whole)):
        precise = np.mean([each.stopped_by == "precision" for each in group])
        loads = np.array([each.load_average for each in group])
        drift = np.median([each.drift for each in group])
        passes = np.median([each.num_repeats for each in group])
        medians = np.array([each.median_ms for each in group])
        print(
            f"{name}: {len(group)}, {100 * precise:.0f} % to within 2 %, median of passes "
            f"{passes:.0f}, median drift of the control {100 * drift:.1f} %, load average "
            f"{loads.min():.1f} to {loads.max():.1f}, latency {medians.min():.4f} to "
            f"{medians.max():.4f} ms"
        )
    line = table.corrected(request.supernet()).correction
    print(f"line: {line}, overhead {table.overhead_ms:.4f} ms")


def print_repeated(path: Path) -> None:
    """Spread of a repeated measurement, as it is and relative to the control."""
    groups: dict[str, list[LatencyMeasurement]] = {}
    for key, each in logged(path):
        groups.setdefault(key.split()[0], []).append(each)
    print("\n| network [ms] | median's spread | its range | ratio's spread | its range |")
    print("|---|---|---|---|---|")
    rows = []
    for group in groups.values():
        medians = np.array([each.median_ms for each in group])
        ratios = np.array([each.relative_to_control for each in group], dtype=float)
        row = [f(x) for x in (medians, ratios) for f in (variation, extent)]
        rows.append((float(np.median(medians)), row))
    for median, row in sorted(rows):
        print(f"| {median:.4f} | " + " | ".join(f"{100 * x:.1f} %" for x in row) + " |")
    usual = np.median([row for _, row in rows], axis=0)
    print("| median | " + " | ".join(f"{100 * x:.1f} %" for x in usual) + " |")


def variation(values: np.ndarray) -> float:
    """Standard deviation as a share of the mean."""
    return float(values.std(ddof=1) / values.mean())


def extent(values: np.ndarray) -> float:
    """From the lowest to the highest, as a share of the median."""
    return float(np.ptp(values) / np.median(values))


def print_models(request: DeviceRequest, networks: PredictorFile, table: LookupFile) -> None:
    """Each model learned from some of the random networks, judged by the others."""
    supernet = request.supernet()
    space = supernet.space
    everything = [each for each in networks.tested_on if each not in table.fitted_to]
    genomes = space.to_genomes([Architecture(each.architecture) for each in everything])
    values = np.array([each.latency_ms for each in everything])
    counted = Counted(space, supernet.count)
    models: dict[str, tuple[Any, int]] = {
        "MACs alone, a line": (
            lambda seed: PREDICTORS["ridge"](space, seed, encoding=macs(space, supernet)),
            50,
        ),
        "look-up table": (lambda _: table.predictor(supernet), NUM_LINE),
        **{
            name: (lambda seed, name=name: PREDICTORS[name](space, seed), 50)
            for name in PREDICTOR_NAMES
        },
        "gp, with counts": (
            lambda seed: PREDICTORS["gp"](space, seed, encoding=joined(OneHot(space), counted)),
            50,
        ),
        "transfer from the table": (
            lambda seed: PREDICTORS["transfer"](space, seed, prior=table.fitted(supernet)),
            20,
        ),
    }
    print("\n| model | whole networks | MAPE | tau | within 1 std |")
    print("|---|---|---|---|---|")
    for name, (make, size) in models.items():
        found: list[Quality] = []
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(values))
            known, unknown = order[:size], order[50:]
            predictor = make(seed).fit(genomes[known], values[known])
            found.append(measure_quality(predictor.predict(genomes[unknown]), values[unknown]))
        mape = 100 * np.array([each.mape for each in found], dtype=float)
        tau = np.array([each.tau for each in found])
        coverage = 100 * np.mean([each.coverage for each in found])
        print(
            f"| {name} | {size} | {mape.mean():.2f} % ({mape.std():.2f}) | {tau.mean():.3f} "
            f"({tau.std():.3f}) | {coverage:.0f} % |"
        )


def draw_table(request: DeviceRequest, networks: PredictorFile, table: LookupFile) -> None:
    """What the table, with the line of `lookup_table.json`, says of the random networks."""
    supernet = request.supernet()
    architectures = [Architecture(each.architecture) for each in networks.tested_on]
    prediction = table.fitted(supernet).predict(supernet.space.to_genomes(architectures))
    values = np.array([each.latency_ms for each in networks.tested_on])
    path = request.folder / "lookup_table.png"
    save(plot_parity(values, prediction, "latency_ms"), path)
    quality = measure_quality(prediction, values)
    print(f"\nfigure: {path}, MAPE {100 * (quality.mape or 0):.2f} %, tau {quality.tau:.3f}")


def macs(space: Any, supernet: Any) -> Counted:
    """The encoding of a network by its MACs and their logarithm."""
    return Counted(space, lambda a: {"num_macs": supernet.count(a)["num_macs"]})


def logged(path: Path) -> Iterator[tuple[str, LatencyMeasurement]]:
    """The measurements of a log, in their order."""
    for line in path.read_text().splitlines():
        content = json.loads(line)
        yield content["network"], LatencyMeasurement.from_json(content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    if arguments.tables:
        print_tables(request_for(arguments.folder))
    else:
        measure(request_for(arguments.folder))
