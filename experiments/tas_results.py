"""What the study of shapes by gradient found: a page, a figure and the numbers.

    python experiments/tas_results.py experiments/tas_study.yaml docs/results

Trains nothing: measures the latencies that are missing, and reports what is done of the study.
"""

import argparse
import json
import math
import os
import platform
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from study import found_once
from tas_study import METHODS, UNPRUNED, Case, Study, found_shape, parts, read_study

from nasbench.config import ShapeSearchConfig
from nasbench.hardware import ENGINES, LatencyMeasurement, LatencyProtocol, measure_latency

LABELS = {
    "tas": "TAS",
    "uniform": "uniform widths",
    "random": "random shape",
    "auto": "supernet, auto",
}
PROTOCOL = LatencyProtocol(num_warmup=30, num_repeats=300, has_control=True)


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
    if not rows:
        raise SystemExit(f"nothing is done yet in '{study.folder}'")
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
        minutes=("search_cpu_minutes", "mean"),
    )
    mean[["macs", "accuracy", "spread"]] *= 100
    accuracies = frame.set_index([*by, "seed"]).test_accuracy.to_dict()
    gains: dict[Any, list[float]] = {}
    for (*key, method, seed), accuracy in accuracies.items():
        uniform = accuracies.get((*key, "uniform", seed))
        if uniform is not None and method != "uniform":
            gains.setdefault((*key, method), []).append(100 * (accuracy - uniform))
    mean["gain"] = pd.Series({key: np.mean(found) for key, found in gains.items()}, dtype=float)
    return mean


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


HEADER = (
    "| network | target | shape | trained on | seeds | MACs | test accuracy | over uniform | "
    "latency / control | search |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def rows_of(found: pd.DataFrame) -> Iterator[str]:
    """Rows of the page's table, those of one network and target together."""
    order = {UNPRUNED: 0, **{method: place for place, method in enumerate(METHODS, 1)}}
    flat = found.reset_index()
    flat["place"] = flat.method.map(order)
    flat = flat.sort_values(["network", "target", "distilled", "place"], ascending=[1, 0, 1, 1])
    for row in flat.itertuples():
        spread = "" if math.isnan(row.spread) else f" ± {row.spread:.2f}"
        gain = "" if math.isnan(row.gain) else f"{row.gain:+.2f}"
        search = "unknown" if math.isnan(row.minutes) else f"{row.minutes:.1f} min"
        if row.method == UNPRUNED:
            target, label = "", UNPRUNED
        else:
            target, label = f"{100 * row.target:.0f} %", LABELS[row.method]
        yield (
            f"| {row.network} | {target} | {label} | "
            f"{'labels and the unpruned network' if row.distilled else 'labels'} | {row.seeds} | "
            f"{row.macs:.1f} % | {row.accuracy:.2f} %{spread} | {gain} | {row.latency:.2f} | "
            f"{search if row.method in ('tas', 'auto') else ''} |"
        )


def verdicts(found: pd.DataFrame) -> Iterator[str]:
    """How often each way beats uniform widths that were trained alike, and by how much."""
    gains = found.dropna(subset="gain").reset_index()
    for (method, is_distilled), of in gains.groupby(["method", "distilled"], sort=False):
        yield (
            f"- {LABELS[method]}{', distilled' if is_distilled else ''}: better at "
            f"{(of.gain > 0).sum()} of {len(of)} networks and targets, by {of.gain.mean():+.2f} "
            f"points in the mean (from {of.gain.min():+.2f} to {of.gain.max():+.2f})."
        )


def page(study: Study, frame: pd.DataFrame, yaml_name: str) -> str:
    """The page of results."""
    task, _ = Case(study, next(iter(study.supernets)), study.seeds[0]).build()
    num_train, num_test = len(task.splits["train"]), len(task.splits["test"])
    mean = float(frame.test_accuracy.mean())
    error = 100 * math.sqrt(mean * (1 - mean) / num_test)
    found = summary(frame)
    num_done, num_asked = len(frame), len(parts(study))
    search = ShapeSearchConfig.model_validate(study.shape_search)
    presets = ", ".join(f"`{s.family} {s.preset}`" for s in study.supernets.values())
    lines = [
        "# Shapes by gradient: what it was worth",
        "",
        "```",
        f"python experiments/tas_study.py experiments/{yaml_name}",
        f"python experiments/tas_results.py experiments/{yaml_name} docs/results",
        "```",
        "",
        f"Task `{study.task.name}`, {num_train:,} training and {num_test:,} test images, networks "
        f"{presets}. Every network is trained with fresh weights for {study.training['epochs']} "
        f"epochs by one recipe; a shape is searched for {search.epochs} epochs, each half of the "
        "images once. For each target share of MACs there are: the shape that the search by "
        "gradient found (TAS); all widths alike, then single ones larger while they fit; a random "
        "shape; and the most accurate shape that fits of those that `auto` measured, "
        f"{study.search.num_trials} of a supernet trained by the sandwich rule.",
        "",
        f"One standard error of an accuracy, from the number of test images alone, is {error:.2f} "
        "points, and another seed of training adds to it: smaller differences say nothing.",
        "",
        "![Test accuracy against the share of MACs](tas.png)",
        "",
        *([] if num_done == num_asked else [f"{num_done} of {num_asked} parts were done.", ""]),
        "Against uniform widths, trained alike:",
        "",
        *verdicts(found),
        "",
        HEADER + "\n".join(rows_of(found)),
        "",
        "± is the standard deviation over seeds. Latency is the median in ONNX Runtime, one "
        "thread, one image, as a ratio to that of a control network timed beside it, as other work "
        "shared the machine. Search is CPU minutes of one thread: of TAS for one target; of `auto` "
        "for the supernet and its measurements, which serve all targets. Training the shape comes "
        "on top. The numbers: [tas.csv](tas.csv).",
        "",
        f"{platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores.",
    ]
    is_text = [len(line) > 110 and not line.startswith("|") for line in lines]
    wrapped = [
        textwrap.fill(line, 110) if wraps else line
        for line, wraps in zip(lines, is_text, strict=True)
    ]
    return "\n".join(wrapped) + "\n"


def main() -> None:
    """Write the page, the figure and the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="a YAML file")
    parser.add_argument("folder", type=Path, help="of results")
    asked = parser.parse_args()
    study = read_study(asked.study)
    frame = table(study)
    print(summary(frame).round(2).to_string())
    asked.folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(asked.folder / "tas.csv", index=False, float_format="%.6g")
    figure(frame, asked.folder / "tas.png")
    (asked.folder / "tas.md").write_text(page(study, frame, asked.study.name))


if __name__ == "__main__":
    main()
