"""A loaded bundle: one network for every budget, switched in place.

    model = NestedModel.load("runs/digits/nest")
    model.select("latency_ms <= 3", device="...")(images)    the largest member that fits
    model.at(0)(images)                                      the smallest

Every weight is in memory once. Switching sets which leading parts of it are used, and points the
normalization layers to the member's own statistics; it copies nothing.

Loading needs torch, safetensors and the families of `nasbench.supernet`: neither tasks nor search.
A bundle is two files, a manifest in JSON and tensors in safetensors, so that reading one runs
nothing that is in it. What it says is checked before it is believed.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.objectives import Constraint, Objective, parse_constraints
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.supernet.base import Supernet
from nasbench.supernet.layers import NORM_STATISTICS, normalization_layers

FORMAT = "nasbench nested sub-networks, version 1"
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"

_WHAT_DAMAGE_RAISES = (
    LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, MemoryError
)  # fmt: skip
Statistics = Mapping[str, Tensor]
"""Name of a normalization layer's buffer -> its leading entries, of one member."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One sub-network of a bundle, with what was measured of it.

    Args:
        validation: metrics on validation data, by which members are compared.
        test: metrics on test data, which chose nothing.
        latency: device -> `latency_ms`, its 10th and 90th percentile, and `conditions`.
        is_dominated: whether a smaller member is at least as good on validation data.
    """

    architecture: Architecture
    num_parameters: int
    num_macs: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    latency: Mapping[str, Mapping[str, Any]]
    is_dominated: bool

    def measurements(self, device: str | None) -> dict[str, float]:
        """Counts, validation metrics, and the latency on that device where there is one."""
        latency = self.latency.get(device or "", {})
        return {
            **self.validation,
            "num_parameters": self.num_parameters,
            "num_macs": self.num_macs,
            **{name: value for name, value in latency.items() if name != "conditions"},
        }


class NestedModel(nn.Module):
    """The members of a bundle in one set of weights, of which one is active; the largest at first.

    Args:
        supernet: holds the weights; is used as it is, in eval mode and without gradients.
        members: from the smallest to the largest.
        statistics: of each member's normalization layers; empty for networks without them.
        quality: the metric by which members are compared.
    """

    def __init__(
        self,
        supernet: Supernet[Any],
        members: Sequence[Member],
        statistics: Sequence[Statistics],
        quality: Objective,
    ) -> None:
        super().__init__()
        self.supernet = supernet.eval().requires_grad_(False)
        self.members, self.quality = tuple(members), quality
        norms = normalization_layers(supernet)
        # A layer that a member does not run holds no statistics then, so that running it fails.
        nothing = torch.empty(0)
        self._statistics = [
            [
                (norms[layer], kind, of.get(f"{layer}.{kind}", nothing))
                for layer in norms
                for kind in NORM_STATISTICS
            ]
            for of in statistics
        ]
        self.at(len(members) - 1)

    @classmethod
    def load(cls, path: str | Path, *, own_families: Collection[str] = ()) -> "NestedModel":
        """Read the bundle in a folder.

        Args:
            own_families: families of the form `module:object` whose code may be imported; those
                of nasbench are always known.

        Raises:
            RequestError: if there is no bundle, or it is damaged or not to be trusted.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        try:
            return cls._from(folder, manifest, own_families)
        except RequestError as error:
            raise RequestError(f"cannot load the bundle '{folder}': {error}") from error
        except _WHAT_DAMAGE_RAISES as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RequestError(f"cannot load the bundle '{folder}' ({reason})") from error

    @classmethod
    def _from(
        cls, folder: Path, manifest: Mapping[str, Any], own_families: Collection[str]
    ) -> "NestedModel":
        settings = _mapping(manifest, "supernet")
        family = settings["family"]
        if family not in SUPERNETS and family not in own_families:
            raise unknown_name("supernet family", family, {*SUPERNETS, *own_families})
        tensors = _read_tensors(folder / WEIGHTS, _mapping(manifest, "weights"))
        weights = {
            name.removeprefix("weights/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("weights/")
        }
        with torch.device("meta"):  # sizes first: a manifest alone takes no memory
            _check_weights(build_supernet(settings, with_pretrained=False), weights)
        supernet = build_supernet(settings, with_pretrained=False)
        supernet.load_state_dict(weights, strict=False, assign=True)
        found = manifest["members"]
        if not isinstance(found, list) or not found:
            raise RequestError("its manifest has no members")
        quality = Objective(**_mapping(manifest, "quality"))
        members = _members(supernet, found, quality)
        statistics = _statistics(supernet, tensors, len(members))
        return cls(supernet, members, statistics, quality)

    # -- which member ---------------------------------------------------------------------------

    def at(self, index: int) -> Self:
        """Make a member the active one: 0 is the smallest, -1 the largest. Returns the model.

        Raises:
            RequestError: if there is no such member; nothing has changed then.
        """
        if not -len(self.members) <= index < len(self.members):
            raise RequestError(
                f"there is no member {index}; the bundle has members 0 to {len(self.members) - 1}"
            )
        self.index = index % len(self.members)
        self.supernet.activate(self.members[self.index].architecture)
        for layer, kind, statistic in self._statistics[self.index]:
            setattr(layer, kind, statistic)
        return self

    @property
    def member(self) -> Member:
        """The active one."""
        return self.members[self.index]

    @property
    def devices(self) -> list[str]:
        """Those on which latencies were measured."""
        return sorted({device for member in self.members for device in member.latency})

    def select(self, where: str, *, device: str | None = None, skip_dominated: bool = True) -> Self:
        """Make the largest member active that respects the constraints. Returns the model.

        Args:
            where: constraints joined by "and": "latency_ms <= 3 and accuracy >= 90%". A percentage
                of what is no fraction is relative to the largest member.
            device: whose latencies count; may be left out where there is one.
            skip_dominated: whether to pass over members that are no better, on validation data,
                than a smaller one.

        Raises:
            RequestError: if no member does, or something was not measured; nothing has changed.
        """
        return self.at(self.find(where, device=device, skip_dominated=skip_dominated))

    def find(self, where: str, *, device: str | None = None, skip_dominated: bool = True) -> int:
        """The position of the member that `select` makes active."""
        constraints = parse_constraints(where)
        if any(c.metric.startswith("latency") for c in constraints):
            device = self._device(device)
        measured = [member.measurements(device) for member in self.members]
        for constraint in constraints:
            if constraint.metric not in measured[-1]:
                raise RequestError(
                    f"no '{constraint.metric}' was measured; possible: {', '.join(measured[-1])}"
                )
        absolute = [constraint.resolve(measured[-1]) for constraint in constraints]
        possible = [
            index
            for index, member in enumerate(self.members)
            if not (skip_dominated and member.is_dominated)
        ]
        for index in reversed(possible):
            if all(_violation(c, measured[index]) == 0 for c in absolute):
                return index
        farthest = max(absolute, key=lambda c: min(_violation(c, measured[i]) for i in possible))
        nearest = min(possible, key=lambda i: _violation(farthest, measured[i]))
        raise RequestError(
            f"no member has {' and '.join(map(str, absolute))}; member {nearest} has "
            f"{farthest.metric} {measured[nearest].get(farthest.metric, math.nan):.4g}"
        )

    def _device(self, device: str | None) -> str:
        if not self.devices:
            raise RequestError("no latency was measured of this bundle's members")
        if device is None and len(self.devices) > 1:
            raise RequestError(f"say on which device: {', '.join(self.devices)}")
        if device is not None and device not in self.devices:
            raise unknown_name("device", device, self.devices)
        return device or self.devices[0]

    # -- what it computes -----------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Any:
        """What the active member computes."""
        return self.supernet(*inputs)

    def extract(self, index: int) -> nn.Module:
        """A member as an independent plain module, with copies; the active one stays active."""
        active = self.index
        try:
            return self.at(index).supernet.extract(self.member.architecture)
        finally:
            self.at(active)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert all members' statistics along with the weights."""
        super()._apply(fn, recurse)
        self._statistics = [
            [(layer, kind, fn(statistic)) for layer, kind, statistic in of]
            for of in self._statistics
        ]
        return self.at(self.index)


def dominated(qualities: Sequence[float], direction: str) -> list[bool]:
    """Of members from the smallest to the largest: whether a smaller one is at least as good."""
    sign = 1.0 if direction == "maximize" else -1.0
    best, found = -math.inf, []
    for quality in qualities:
        found.append(sign * quality <= best)
        best = max(best, sign * quality)
    return found


def _violation(constraint: Constraint, measured: Mapping[str, float]) -> float:
    return constraint.violation(measured.get(constraint.metric, math.nan))


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle, as far as its manifest says."""
    try:
        read_manifest(folder)
    except RequestError:
        return False
    return True


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says of itself; RequestError where the folder holds none."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"'{folder}' is no bundle: it has no {MANIFEST}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"cannot read '{path}': {' '.join(str(error).split())}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RequestError(f"'{path}' is no manifest of the format '{FORMAT}'")
    return manifest


def _mapping(owner: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = owner.get(name)
    if not isinstance(found, dict):
        raise RequestError(f"'{name}' in its manifest is no object")
    return found


def _read_tensors(path: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """All tensors of the file, if it is the one that the manifest was written for."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read '{path}': {error.strerror}") from None
    if digest != expected.get("sha256"):
        raise RequestError(f"'{path.name}' is damaged: its hash is not that of its manifest")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RequestError(f"'{path.name}' is no safetensors file: {error}") from None


def _check_weights(supernet: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """RequestError unless these are all weights of the supernet and nothing else."""
    layers = normalization_layers(supernet)
    own = {f"{layer}.{kind}" for layer in layers for kind in NORM_STATISTICS}
    expected = {n: t for n, t in supernet.state_dict().items() if n not in own}
    for name in sorted(expected.keys() | weights):
        found = weights.get(name)
        if name not in expected or found is None:
            place = "file" if found is None else "network"
            raise RequestError(f"the weight '{name}' has no place in its {place}")
        if (found.shape, found.dtype) != (expected[name].shape, expected[name].dtype):
            raise RequestError(
                f"the weight '{name}' is {found.dtype} of shape {tuple(found.shape)}, and its "
                f"network has {expected[name].dtype} of shape {tuple(expected[name].shape)}"
            )


def _statistics(
    supernet: nn.Module, tensors: Mapping[str, Tensor], num_members: int
) -> list[dict[str, Tensor]]:
    """Of each member; RequestError for one that no layer can have."""
    layers = normalization_layers(supernet)
    found: list[dict[str, Tensor]] = [{} for _ in range(num_members)]
    for name, tensor in tensors.items():
        if name.startswith("weights/"):
            continue
        place, _, rest = name.partition("/")
        number, _, buffer = rest.partition("/")
        layer, _, kind = buffer.rpartition(".")
        if (
            place != "statistics"
            or not (number.isdecimal() and int(number) < num_members)
            or layer not in layers
            or kind not in NORM_STATISTICS
        ):
            raise RequestError(f"the tensor '{name}' has no place in its network")
        if (
            tensor.ndim != 1
            or len(tensor) > len(layers[layer].weight)
            or tensor.dtype != torch.float32
        ):
            raise RequestError(
                f"the tensor '{name}' is {tensor.dtype} of shape {tuple(tensor.shape)}, which its "
                "layer cannot have"
            )
        found[int(number)][buffer] = tensor
    return found


def _members(supernet: Supernet[Any], found: Sequence[Any], quality: Objective) -> list[Member]:
    """The members as the manifest describes them; RequestError where one is impossible."""
    described: list[dict[str, Any]] = []
    for number, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise RequestError(f"member {number} in its manifest is no object")
        architecture = supernet.space.canonical(_mapping(entry, "architecture"))
        validation = _numbers(_mapping(entry, "validation"))
        if quality.metric not in validation:
            raise RequestError(f"member {number} has no '{quality.metric}' on validation data")
        measured = _mapping(entry, "latency")
        described.append(
            {
                "architecture": architecture,
                **supernet.count(architecture),
                "validation": validation,
                "test": _numbers(_mapping(entry, "test")),
                "latency": {device: _latency(measured, device) for device in measured},
            }
        )
    qualities = [of["validation"][quality.metric] for of in described]
    behind = dominated(qualities, quality.direction)
    return [
        Member(**of, is_dominated=is_dominated)
        for of, is_dominated in zip(described, behind, strict=True)
    ]


def _latency(measured: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Numbers and their conditions."""
    found = _mapping(measured, device)
    conditions = _mapping(found, "conditions")
    return {**_numbers({n: found[n] for n in found if n != "conditions"}), "conditions": conditions}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The same, if all are finite numbers."""
    for name, value in found.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) < 1e300:
            raise RequestError(f"'{name}' in its manifest is no finite number, but {value!r}")
    return dict(found)
