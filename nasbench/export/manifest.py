"""Writing an export: every target, each verified in its own runtime, and the manifest last.

A folder with a `manifest.json` is a good export; a failed one leaves an earlier export as it was.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError, WorkError
from nasbench.export import EXPORTERS
from nasbench.export.base import Exporter
from nasbench.export.programs import Inputs, Program, programs_of
from nasbench.folders import replace_folder

MANIFEST = "manifest.json"

Measure = Callable[[str, nn.Module, Path], Mapping[str, Any]]
"""What is measured of a target: (target, the network in its runtime, the file that is opened)."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How much a written file may differ from the network that it was written from.

    Args:
        float32: the largest absolute difference of any output.
        int8: root mean square of the difference, as a share of that of the outputs.
    """

    float32: float
    int8: float


@dataclass(frozen=True, kw_only=True)
class Subnetwork:
    """A network that is to be exported, with what shows that its files compute the same.

    Args:
        module: extracted, in eval mode.
        inputs: real samples of what its `forward` takes, (N, ...) each.
        expected: what the supernet's active sub-network computes of them, or the network that was
            trained alone.
        calibration: other real samples, in batches, which int8 targets choose their scales by.
    """

    module: nn.Module
    inputs: Inputs
    expected: Tensor
    calibration: Sequence[Inputs] = field(default=(), repr=False)

    def programs(self) -> dict[str, Program]:
        """Its programs."""
        return programs_of(self.module, self.inputs, calibration=self.calibration)


def export_subnetwork(
    subnetwork: Subnetwork,
    *,
    targets: Sequence[str],
    folder: Path,
    tolerances: Tolerances,
    description: Mapping[str, Any],
    attachments: Mapping[str, str] | None = None,
    measure: Measure | None = None,
    on_target: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write a sub-network to `folder` as every target, and a manifest.

    Args:
        targets: names in `EXPORTERS`.
        folder: replaced as a whole when everything is verified.
        description: goes into the manifest before what is found here.
        attachments: name of a file -> its text; what is needed beside the network.
        measure: of every target, once it is verified.
        on_target: called when a target is written, verified and measured.

    Returns:
        The manifest.

    Raises:
        WorkError: if a written file computes something else; `folder` is left as it was.
        RequestError: if a target cannot write such a network; nothing is written.
        MissingExtraError: if a target's package is not installed; nothing is written.
    """
    exporters = {target: EXPORTERS[target]() for target in targets}
    programs = subnetwork.programs()
    check_targets(exporters, programs)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found, files = {}, {}
        for target, exporter in exporters.items():
            written = exporter.write(subnetwork.module, programs, partial)
            network = exporter.load(partial, {name: p.inputs for name, p in programs.items()})
            names = exporter.file_names(programs)
            found[target] = {
                "runtime": exporter.runtime,
                "precision": exporter.precision,
                **_verified(target, exporter.precision, network, subnetwork, tolerances),
                **(measure(target, network, partial / names[0]) if measure else {}),
            }
            for name in names:
                path = partial / name
                files[name] = {
                    "target": target,
                    "bytes": path.stat().st_size,
                    "sha256": sha256_of(path),
                    **written.get(name, {}),
                }
            if on_target is not None:
                on_target(target)
        for name, text in (attachments or {}).items():
            (partial / name).write_text(text, encoding="utf-8")
            files[name] = {"sha256": sha256_of(partial / name)}
        manifest = {
            **description,
            "programs": {name: program.to_json() for name, program in programs.items()},
            "verified_on": f"{len(subnetwork.expected)} test samples",
            "targets": found,
            "files": files,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def check_targets(exporters: Mapping[str, Exporter], programs: Mapping[str, Program]) -> None:
    """RequestError for a target that cannot write a network of these programs."""
    for target, exporter in exporters.items():
        reason = exporter.refusal(programs)
        if reason is not None:
            raise RequestError(f"the target '{target}' cannot write this network: {reason}")


def sha256_of(path: Path) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _verified(
    target: str, precision: str, network: nn.Module, subnetwork: Subnetwork, allowed: Tolerances
) -> dict[str, float]:
    """How far a written network is from the one it was written from; WorkError if too far."""
    found = computed(network, subnetwork.inputs)
    if precision == "float32":
        name, tolerance = "largest_difference", allowed.float32
        difference = float((found - subnetwork.expected).abs().max())
    else:
        name, tolerance = "relative_rms_difference", allowed.int8
        difference = float(_rms(found - subnetwork.expected) / _rms(subnetwork.expected))
    if not difference <= tolerance:  # NaN, too, is too far
        measured = name.replace("_", " ")
        raise WorkError(
            f"what the target '{target}' wrote differs from the network that it was written from: "
            f"its {measured} is {difference:.3g}, more than the tolerance {tolerance:g} of "
            f"{precision}; nothing was exported"
        )
    return {name: difference, "tolerance": tolerance}


def _rms(x: Tensor) -> Tensor:
    return x.double().square().mean().sqrt()


@torch.inference_mode()
def computed(network: Any, inputs: Inputs) -> Tensor:
    """What a network computes; one with a cache reads its tokens in three parts."""
    if not hasattr(network, "decode"):
        found: Tensor = network(*inputs)
        return found
    *source, tokens_BT = inputs
    state = network.encode(*source) if source else ()
    middle = tokens_BT.shape[1] // 2
    pieces = []
    for part in (
        tokens_BT[:, :middle],
        tokens_BT[:, middle : middle + 1],
        tokens_BT[:, middle + 1 :],
    ):
        if part.shape[1]:
            logits_BTV, state = network.decode(part, state)
            pieces.append(logits_BTV)
    return torch.cat(pieces, dim=1)
