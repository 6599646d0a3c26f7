"""Writing an export: every target, each verified, and the manifest last.

A folder with a `manifest.json` is a good export; a failed one leaves an earlier export as it was.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import WorkError
from nasbench.export import EXPORTERS
from nasbench.export.base import Exporter, Run
from nasbench.folders import replace_folder


def export_subnetwork(
    module: nn.Module,
    *,
    inputs: Tensor,
    expected: Tensor,
    targets: Sequence[str],
    folder: Path,
    tolerance: float,
    description: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a sub-network to `folder` as every target, and a manifest.

    Args:
        module: the extracted sub-network, in eval mode.
        inputs: real samples of shape (N, ...).
        expected: what the supernet's active sub-network computes of them.
        targets: names in `EXPORTERS`.
        folder: replaced as a whole when everything is verified.
        tolerance: largest allowed absolute difference of any output.
        description: goes into the manifest before what is found here.

    Returns:
        The manifest.

    Raises:
        WorkError: if a written file computes something else; `folder` is left as it was.
        MissingExtraError: if a target's package is not installed; nothing is written.
    """
    exporters = {target: EXPORTERS[target]() for target in targets}
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = {
            exporter.file_name: _write_verified(
                target, exporter, module, inputs, expected, partial, tolerance
            )
            for target, exporter in exporters.items()
        }
        manifest = {
            **description,
            "input": {"shape": ["batch", *inputs.shape[1:]], "dtype": "float32"},
            "output": {"shape": ["batch", *expected.shape[1:]], "dtype": "float32"},
            "verified_on": f"{len(inputs)} test samples",
            "tolerance": tolerance,
            "files": files,
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _write_verified(
    target: str,
    exporter: Exporter,
    module: nn.Module,
    inputs: Tensor,
    expected: Tensor,
    folder: Path,
    tolerance: float,
) -> dict[str, Any]:
    path = folder / exporter.file_name
    exporter.write(module, (inputs[:2],), path)
    difference = largest_difference(exporter.load(path, _blank(module)), inputs, expected)
    if not difference <= tolerance:
        raise WorkError(
            f"the exported file {exporter.file_name} differs from the supernet's active "
            f"sub-network by up to {difference:.3g}, more than the tolerance {tolerance:g}; "
            "nothing was exported"
        )
    return {
        "target": target,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "largest_difference": difference,
    }


def largest_difference(run: Run, inputs: Tensor, expected: Tensor) -> float:
    """Largest absolute difference of any output; NaN where an output is no number."""
    return float((run(inputs) - expected).abs().max())


def _blank(module: nn.Module) -> nn.Module:
    """The same structure with weights that compute nothing, so that only a file can fill it."""
    blank = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in blank.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    return blank
