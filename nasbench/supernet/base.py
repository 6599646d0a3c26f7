"""The contract of supernets, and of the registered families that build them.

A supernet holds many sub-networks in one set of weights. An architecture of its space names one
of them, which can be made active in place, extracted as an independent module, or counted.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.space import Architecture, Choice, SearchSpace
from nasbench.supernet.blocks import Block
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import Counts, ElasticLinear
from nasbench.supernet.searchable import Searchable
from nasbench.supernet.sharing import SHARINGS, ElasticLayer, ReadsArchitecture

Shape = TypeVar("Shape")


class Supernet(nn.Module, ABC, Generic[Shape]):
    """Many networks in one set of weights, one of which is active.

    A family turns an architecture into a `Shape`, a value of its own that says every size of that
    sub-network, and computes, extracts and counts from shapes alone. So what is counted or
    extracted is what was activated, and nothing but the shape in `self.shape` is ever switched.

    A family's constructor ends with `self.activate(self.space.largest)`.

    Args:
        space: the architectures of its sub-networks.
        settings: what makes this supernet again: the family, and the arguments of its `build`.
        spec: what the settings stand for, in full; a part of the fingerprint.
    """

    def __init__(self, space: SearchSpace, settings: Mapping[str, Any], spec: Any) -> None:
        super().__init__()
        self.space = space
        self.settings = dict(settings)
        self.spec = spec
        self.mixture: ReadsArchitecture | None = None

    # -- what a family says -------------------------------------------------------------------

    @abstractmethod
    def shape_of(self, architecture: Architecture) -> Shape:
        """The sizes of the sub-network that a member of the space stands for."""

    @abstractmethod
    def extract_shape(self, shape: Shape) -> nn.Module:
        """A plain module of this shape that holds copies of its share of weights and buffers."""

    @abstractmethod
    def count_shape(self, shape: Shape) -> Counts:
        """Exact counts of `extract_shape`'s module, from the sizes alone."""

    @abstractmethod
    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Inputs of the shape and type that `forward` takes; the same at every call."""

    # -- what a family may say, for training strategies that ask for it ------------------------

    @property
    def output_layer(self) -> nn.Module:
        """The module whose input are the last features, which distillation can compare.

        Raises:
            RequestError: if the family names none.
        """
        raise self._names_no("layer of last features, which feature distillation compares")

    def residual_ends(self) -> list[nn.Module]:
        """The last module of each residual branch; with zero parameters the branch adds nothing."""
        return []

    def channel_groups(self) -> list[ChannelGroup]:
        """The channels that may be sorted."""
        return []

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """The layers that a mixture usually mixes, those of one block together."""
        return []

    def _exits(self, *inputs: Any) -> dict[int, Any]:  # noqa: ARG002
        """What `forward_exits` returns, of leading slices; without any exits a RequestError."""
        raise self._names_no("exits at its depths, which one pass could compute")

    # -- what a family may say, for look-up tables of latency -----------------------------------

    def blocks_of_shape(self, shape: Shape) -> list[Block]:  # noqa: ARG002 - the default has none
        """The blocks that a sub-network is computed from, one after the other.

        Raises:
            RequestError: if the family names none.
        """
        raise self._names_no("blocks, which a look-up table of latency adds up")

    def distinct_blocks(self) -> dict[str, Block]:
        """Every block of any sub-network of the space, by its key.

        Raises:
            RequestError: if the family names none.
        """
        raise self._names_no("blocks, which a look-up table of latency adds up")

    # -- what a family may say, for a search of shapes by gradient ------------------------------

    def searchable(self) -> Searchable:
        """Which dimension decides which layer or stage, and what each piece costs.

        Raises:
            RequestError: if the family does not say it.
        """
        raise self._names_no("layers by dimension, which a search of shapes by gradient mixes")

    # -- what every supernet does -------------------------------------------------------------

    def forward_exits(self, *inputs: Any) -> dict[int, Any]:
        """What the active sub-network computes at each depth up to its own, in one pass.

        Depth -> output, from the shallowest choice on; each is the output of the sub-network that
        differs from the active one in its `depth` alone.

        Raises:
            RequestError: if the family has no exits at a choice of depth, or where weights are not
                the same at every depth.
        """
        if self.mixture is not None:
            raise RequestError(
                f"with sharing '{self.settings['sharing']}' each depth has weights of its own, so "
                "one pass cannot compute them all; use sharing 'slice'"
            )
        return self._exits(*inputs)

    def activate(self, architecture: Mapping[str, Choice]) -> None:
        """Make a sub-network the one that later forward passes compute.

        Raises:
            RequestError: if the architecture is none of this space's; nothing has changed then.
        """
        member = self._member(architecture)
        self.shape, self._architecture = self.shape_of(member), member
        self._mix_for(member)

    def _mix_for(self, architecture: Architecture) -> None:
        """Let weights that depend on the architecture be those of this one."""
        if self.mixture is not None:
            self.mixture.switch(architecture)

    @contextmanager
    def _mixed_for(self, architecture: Architecture) -> Iterator[None]:
        """The same for a block of code; which architecture is active does not change."""
        self._mix_for(architecture)
        try:
            yield
        finally:
            self._mix_for(self._architecture)

    @property
    def architecture(self) -> Architecture:
        """The active architecture; the largest one after building."""
        return self._architecture

    @torch.no_grad()
    def extract(self, architecture: Mapping[str, Choice]) -> nn.Module:
        """An independent plain module, in eval mode, that computes what this sub-network does.

        Its weights and normalization statistics are copies; which architecture is active does
        not change. Statistics are those that the supernet holds: calibrate for this
        architecture before.
        """
        member = self._member(architecture)
        with self._mixed_for(member):
            return self.extract_shape(self.shape_of(member)).eval()

    def count(self, architecture: Mapping[str, Choice]) -> dict[str, int]:
        """Exact `num_parameters` and `num_macs` (per example) of a sub-network."""
        return asdict(self.count_shape(self.shape_of(self._member(architecture))))

    def blocks_of(self, architecture: Mapping[str, Choice]) -> list[Block]:
        """The blocks of a sub-network; RequestError if the family names none."""
        member = self._member(architecture)

        def with_its_weights(block: Block) -> Block:
            def make() -> nn.Module:
                with self._mixed_for(member):
                    return block.make()

            return replace(block, make=make)

        return [with_its_weights(block) for block in self.blocks_of_shape(self.shape_of(member))]

    @torch.no_grad()
    def zero_residual_branches(self) -> None:
        """Let every residual branch start at zero: the blocks are identities, which train faster.

        Goyal et al., Accurate, Large Minibatch SGD (2017), used by BigNAS.

        Raises:
            RequestError: if the family names no residual branches.
        """
        ends = self.residual_ends()
        if not ends:
            raise self._names_no("residual branches, which this training strategy starts at zero")
        for end in ends:
            for parameter in end.parameters():
                parameter.zero_()

    def sort_channels(
        self,
        trained: Mapping[str, Sequence[Choice]] | None = None,
        *,
        batches: Sequence[tuple[Tensor, ...]] = (),
    ) -> None:
        """Put the most important channels first; the largest sub-network computes what it did.

        Args:
            trained: dimension -> choices whose sub-networks have been trained and keep their
                channels, in whatever order; None says only the largest.
            batches: inputs of `forward`; where there are some, importance is not that of weights
                alone, but counts what the channels of the largest sub-network carry for them.

        Raises:
            RequestError: if the family names no groups of channels; or for batches, if layers other
                than linear ones read them.
        """
        groups = self.channel_groups()
        if not groups:
            raise self._names_no("groups of channels, which this training strategy sorts")
        carried: Sequence[Tensor | None] = [None] * len(groups)
        if batches:
            carried = self._carried(groups, batches)
        for group, carried_C in zip(groups, carried, strict=True):
            group.sort((trained or {}).get(group.dimension, ()), carried_C)

    @torch.no_grad()
    def _carried(
        self, groups: Sequence[ChannelGroup], batches: Sequence[tuple[Tensor, ...]]
    ) -> list[Tensor]:
        """The root mean square of each channel's values, for each group."""
        squares: dict[object, list[Tensor]] = {group.reader: [] for group in groups}
        readers = [
            m for m in self.modules() if isinstance(m, ElasticLinear) and m.shared in squares
        ]
        if len(readers) != len(groups):
            raise self._names_no("linear layer for each group, whose inputs could be looked at")

        def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(layer, ElasticLinear)
            squares[layer.shared].append(inputs[0].square().flatten(0, -2).mean(dim=0))

        hooks = [reader.register_forward_pre_hook(note) for reader in readers]
        was_training, active = self.training, self.architecture
        self.eval().activate(self.largest)
        try:
            for inputs in batches:
                self(*inputs)
        finally:
            self.train(was_training).activate(active)
            for hook in hooks:
                hook.remove()
        return [torch.stack(squares[group.reader]).mean(dim=0).sqrt() for group in groups]

    def _names_no(self, what: str) -> RequestError:
        return RequestError(f"the family '{self.settings['family']}' names no {what}")

    @property
    def largest(self) -> Architecture:
        """Every dimension at its maximum."""
        return self.space.largest

    @property
    def smallest(self) -> Architecture:
        """Every dimension at its minimum."""
        return self.space.smallest

    @property
    def fingerprint(self) -> str:
        """Names the space, the network and the kind of weight sharing, but not the seed.

        Two supernets of one fingerprint can exchange weights.
        """
        elsewhere = {"family", "preset", "seed", "spec", "pretrained"}
        elsewhere |= {field.name for field in fields(self.spec)}
        sharing = [value for name, value in self.settings.items() if name not in elsewhere]
        identity = [self.space.fingerprint, asdict(self.spec), *sharing]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return f"{self.settings['family']}/{self.settings['preset']}/{digest[:16]}"

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copy a `state_dict` of this supernet's kind into it.

        Raises:
            RequestError: if a name or a shape differs; nothing has changed then.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        given = {name: tuple(tensor.shape) for name, tensor in state.items()}
        for name in sorted(expected.keys() | given):
            if expected.get(name) != given.get(name):
                raise RequestError(
                    f"these are no weights of the supernet {self.fingerprint}: '{name}' has "
                    f"{_shape_text(given.get(name))} in them and "
                    f"{_shape_text(expected.get(name))} in the supernet"
                )
        self.load_state_dict(dict(state))

    def _member(self, architecture: Mapping[str, Choice]) -> Architecture:
        try:
            return self.space.canonical(architecture)
        except RequestError as error:
            raise RequestError(
                f"the architecture is not in the space of the supernet {self.fingerprint}: {error}"
            ) from error


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "no place" if shape is None else f"shape {shape}"


Spec = TypeVar("Spec")


@dataclass(frozen=True)
class SupernetFamily(Generic[Spec]):
    """An entry of `SUPERNETS`: a kind of supernet with its presets.

    Args:
        name: the key in the registry.
        presets: name -> frozen dataclass that says all about a supernet; one is named "tiny".
        settings: the fields of a preset that `build` can replace (where the task decides them).
        supernet: makes the supernet: (spec, settings) -> Supernet.
    """

    name: str
    presets: Mapping[str, Spec]
    settings: tuple[str, ...]
    supernet: Callable[[Spec, dict[str, Any]], Supernet]

    def build(
        self,
        preset: str = "tiny",
        *,
        spec: Mapping[str, Any] | None = None,
        sharing: str = "slice",
        seed: int = 0,
        **settings: Any,
    ) -> Supernet:
        """A supernet with fresh weights, which depend on nothing but the seed.

        Args:
            preset: a name in `presets`; or, with a spec, its name in the fingerprint.
            spec: everything that a preset says, as plain values, to take in place of one.
            sharing: a name in `nasbench.supernet.sharing.SHARINGS`.
            seed: of the initial weights; the global random state is left as it was.
            settings: replacements for fields of the preset, of the names in `self.settings`, and
                settings of the sharing.

        Raises:
            RequestError: for an unknown preset, sharing or setting, or an impossible value.
        """
        chosen = self._preset(preset) if spec is None else self._read(spec)
        kind = SHARINGS[sharing]
        of_sharing = [field.name for field in fields(kind)]
        for name in settings:
            if name not in self.settings and name not in of_sharing:
                possible = ("preset", "spec", "sharing", "seed", *self.settings, *of_sharing)
                raise unknown_name(f"setting of {self.name}", name, possible)
        of_preset = {name: settings[name] for name in settings if name in self.settings}
        built: Any = replace(chosen, **of_preset)  # type: ignore[type-var]
        share = kind(**{name: settings[name] for name in settings if name in of_sharing})
        recorded = {
            "family": self.name,
            "preset": preset,
            **({} if spec is None else {"spec": asdict(built)}),
            "sharing": sharing,
            "seed": seed,
            **{name: getattr(built, name) for name in self.settings},
            **asdict(share),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return share.share(lambda: self.supernet(built, recorded))

    def _preset(self, name: str) -> Spec:
        if name not in self.presets:
            raise unknown_name(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def _read(self, spec: Mapping[str, Any]) -> Spec:
        """The spec that plain values stand for; RequestError where they are none of this family."""
        try:
            kind: type[Spec] = type(self.presets["tiny"])
            return TypeAdapter(kind).validate_python(dict(spec))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RequestError(
                f"this is no spec of the family '{self.name}': {where}: {first['msg']}"
            ) from None
