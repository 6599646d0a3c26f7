"""What int8 is worth: accuracy, latency and size of networks in float32 and in int8.

    python experiments/int8_study.py digits
    python experiments/int8_study.py fashion_mnist

The smallest and the largest sub-network of each experiment's space, each trained alone, are
exported for every target that has both precisions. What was found already is read again; the table
that docs/results/exports.md holds is printed at the end.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from nasbench.config import load_config
from nasbench.experiment import Run
from nasbench.experiment.exporting import verified_inputs, write_export
from nasbench.experiment.parts import build_supernet, build_task
from nasbench.experiment.progress import SILENT
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.training.trainer import train_supernet

TARGETS = ("onnx", "onnx_int8", "executorch", "executorch_int8")
EPOCHS = {"digits": 32, "fashion_mnist": 2}
SIZES = ("smallest", "largest")


def ship(experiment: str, size: str, folder: Path) -> dict[str, Any]:
    """The manifest of a network, which is trained and exported if it was not before."""
    if not (folder / size / "manifest.json").exists():
        overrides = [
            f"training.epochs={EPOCHS[experiment]}",
            "training.strategy=single_path",
            f"training.warmup_epochs={0.1 * EPOCHS[experiment]}",
            "training.num_threads=1",
            "training.monitor_every=0",
            f"export.targets=[{','.join(TARGETS)}]",
        ]
        config = load_config(Path(__file__).with_name(f"{experiment}.yaml"), overrides)
        task = build_task(config)
        supernet = build_supernet(config, task)
        architecture = getattr(supernet, size)
        network = NetworkAlone.of(supernet, architecture, seed=config.seed)
        training = folder / f"{size}-training"
        train_supernet(
            network, task, config.training, seed=config.seed, folder=training,
            fingerprint=f"{experiment} {size}",
        )  # fmt: skip
        module, inputs = network.network.eval(), verified_inputs(task)
        with torch.inference_mode():
            expected = module(*inputs)
        counts = supernet.count(architecture)
        description = {"architecture_id": architecture.id, "size": size, "measurements": counts}
        run = Run(folder, config)
        write_export(run, task, module, inputs, expected, folder / size, description, SILENT)
    manifest: dict[str, Any] = json.loads((folder / size / "manifest.json").read_text())
    return manifest


def rows(experiment: str, manifest: dict[str, Any]) -> list[str]:
    """The lines of the table for one network."""
    macs = manifest["measurements"]["num_macs"]
    name = f"{experiment}, {manifest['size']} ({macs / 1e6:.2f} M MACs)"
    found = []
    for target, of in manifest["targets"].items():
        files = [file for file in manifest["files"].values() if file.get("target") == target]
        fractions = [f["delegated_fraction"] for f in files if "delegated_fraction" in f]
        cells = (
            name,
            f"`{target}`",
            f"{100 * of['test']['top1_accuracy']:.2f} %",
            f"{of['latency']['latency_ms']:.3f}",
            f"{of['latency']['latency_p10_ms']:.3f} to {of['latency']['latency_p90_ms']:.3f}",
            f"{sum(file['bytes'] for file in files) / 1000:.0f}",
            f"{fractions[0]:.0%}" if fractions else "",
        )
        found.append(f"| {' | '.join(cells)} |")
        name = ""
    return found


def main() -> None:
    """Find what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiments", nargs="+", choices=EPOCHS)
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    arguments = parser.parse_args()
    lines = [
        "| network | target | test accuracy | median [ms] | p10 to p90 [ms] | kB | delegated |",
        "|---|---|---|---|---|---|---|",
    ]
    for experiment in arguments.experiments:
        for size in SIZES:
            manifest = ship(experiment, size, arguments.out / experiment)
            lines += rows(experiment, manifest)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
