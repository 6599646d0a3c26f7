"""Writing a bundle: one file that holds a chain's weights once, and a manifest.

    FOLDER/
      manifest.json         the supernet, and each member's architecture and measurements
      weights.safetensors   weights/NAME, every weight of the supernet
                            statistics/NUMBER/NAME, what each member normalizes by

`nasbench.supernet.nested.model` reads it.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.folders import replace_folder
from nasbench.objectives import Objective
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import NORM_STATISTICS, normalization_layers
from nasbench.supernet.nested.chain import NestedChain
from nasbench.supernet.nested.model import FORMAT, MANIFEST, WEIGHTS, Statistics, read_manifest


def write_bundle(
    folder: Path,
    supernet: Supernet[Any],
    chain: NestedChain,
    *,
    statistics: Sequence[Statistics],
    validation: Sequence[Mapping[str, float]],
    test: Sequence[Mapping[str, float]],
    latency: Sequence[Mapping[str, Mapping[str, Any]]],
    quality: Objective,
    description: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a chain of a trained supernet.

    Args:
        folder: replaced as a whole when everything is written.
        statistics: what `calibrate` returned for each member.
        validation, test: each member's metrics, on data of that split.
        latency: of each member, device -> `latency_ms`, its percentiles, and their `conditions`.
        quality: the metric that says, on validation data, whether a larger member is better.
        description: goes into the manifest.

    Returns:
        The manifest.

    Raises:
        RequestError: if a list has not one entry per member; nothing is written.
    """
    lists = {"statistics": statistics, "validation": validation, "test": test, "latency": latency}
    for name, values in lists.items():
        if len(values) != len(chain):
            raise RequestError(
                f"a chain of {len(chain)} members has that many {name}, not {len(values)}"
            )
    members = [
        {
            "architecture_id": architecture.id,
            "architecture": architecture.to_json(),
            **supernet.count(architecture),
            "validation": dict(on_validation),
            "test": dict(on_test),
            "latency": {device: dict(of) for device, of in measured.items()},
        }
        for architecture, on_validation, on_test, measured in zip(
            chain, validation, test, latency, strict=True
        )
    ]
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        file = partial / WEIGHTS
        save_file(_tensors(supernet, statistics), file)
        manifest = {
            "format": FORMAT,
            **description,
            "supernet": supernet.settings,
            "fingerprint": supernet.fingerprint,
            "quality": {"metric": quality.metric, "direction": quality.direction},
            "weights": {
                "file": WEIGHTS,
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            },
            "members": members,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def add_latency(folder: Path, measured: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
    """Add to a bundle's manifest what was measured of its members on further devices.

    What was known of the same device is replaced.

    Args:
        measured: of each member, device -> `latency_ms`, its percentiles, and their `conditions`.

    Raises:
        RequestError: if there is no bundle, or not one entry per member; nothing is written then.
    """
    manifest = read_manifest(folder)
    members = manifest["members"]
    if len(measured) != len(members):
        raise RequestError(
            f"the bundle '{folder}' has {len(members)} members, but {len(measured)} were measured"
        )
    for member, found in zip(members, measured, strict=True):
        member["latency"] |= {device: dict(of) for device, of in found.items()}
    partial = folder / f".partial-{MANIFEST}"
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    partial.replace(folder / MANIFEST)


def keep_latency(before: Path, after: Path) -> None:
    """Copy to a bundle what another measured on devices that it does not know, if both hold the
    same weights and members.
    """
    old, new = read_manifest(before), read_manifest(after)
    architectures = [[m["architecture"] for m in each["members"]] for each in (old, new)]
    if old["weights"] == new["weights"] and architectures[0] == architectures[1]:
        pairs = zip(old["members"], new["members"], strict=True)
        add_latency(after, [{**a["latency"], **b["latency"]} for a, b in pairs])


def _tensors(supernet: Supernet[Any], statistics: Sequence[Statistics]) -> dict[str, Tensor]:
    """All that is stored, by name; nothing twice."""
    layers = normalization_layers(supernet)
    shared = {f"{layer}.{kind}" for layer in layers for kind in NORM_STATISTICS}
    tensors = {
        f"weights/{name}": tensor.detach().contiguous()
        for name, tensor in supernet.state_dict().items()
        if name not in shared
    }
    for number, of in enumerate(statistics):
        tensors |= {f"statistics/{number}/{name}": t.contiguous() for name, t in of.items()}
    return tensors
