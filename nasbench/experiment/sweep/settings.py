"""A sweep's YAML: a run, and what its members change of it.

    name: digits_sweep
    base: digits.yaml                        # beside this file
    settings: {training.epochs: 8}           # of all members
    grid:                                    # every combination
      search.algorithm: [random, linas]
      seed: [0, 1, 2]
    sampled:                                 # and of each, so many draws
      num_samples: 4
      settings: {training.learning_rate: {log_uniform: [0.003, 0.1]}}

Every member is known, and its settings are validated, before anything runs.
"""

import copy
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from nasbench.config import (
    RunConfig,
    Section,
    parse_config,
    parse_override,
    read_yaml,
    set_setting,
    validated,
)
from nasbench.errors import RequestError

_MAX_NAME = 80
_SIGNIFICANT = 4  # digits of a sampled number, so that names and tables can be read

_ELSEWHERE = {
    "name": "a member is named after its settings",
    "resources.workers": "set members.workers",
    "resources.address": "name the cluster with --address",
}

Setting = Annotated[str, Field(min_length=1)]


class Distribution(Section):
    """Where the values of a sampled setting come from: exactly one of these."""

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    """Uniform in the logarithm; both ends are above 0."""
    integers: tuple[int, int] | None = None
    """Both ends can be drawn."""
    choice: tuple[Any, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_one_that_can_be_drawn_from(self) -> Self:
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(type(self).model_fields)}, not "
                f"{', '.join(given) or 'none'}"
            )
        ((name, value),) = given.items()
        if name != "choice" and value[0] > value[1]:
            raise ValueError(f"{name} begins at {value[0]}, above its end {value[1]}")
        if name == "log_uniform" and value[0] <= 0:
            raise ValueError(f"log_uniform begins at {value[0]}, which has no logarithm")
        return self

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.choice is not None:
            return self.choice[int(rng.integers(len(self.choice)))]
        if self.integers is not None:
            return int(rng.integers(*self.integers, endpoint=True))
        if self.log_uniform is not None:
            low, high = np.log(self.log_uniform)
            return float(f"{np.exp(rng.uniform(low, high)):.{_SIGNIFICANT}g}")
        assert self.uniform is not None
        return float(f"{rng.uniform(*self.uniform):.{_SIGNIFICANT}g}")


class SampledConfig(Section):
    """A sampled set: each draw gives every one of its settings a value."""

    num_samples: PositiveInt
    seed: NonNegativeInt = 0
    settings: dict[Setting, Distribution] = Field(min_length=1)


class EarlyStoppingConfig(Section):
    """ASHA (Li et al., MLSys 2020): trainings that lag behind the others are stopped.

    They are compared by the mean of the task's first metric over the sub-networks that training
    looks at, so `training.monitor_every` decides how often they can be.
    """

    grace_epochs: PositiveInt
    """None is stopped before it has trained so long."""
    reduction_factor: float = Field(default=3, gt=1)
    """After so many times the epochs, one of so many may go on."""


class MembersConfig(Section):
    """What each member occupies while it is done; changes no result, but for rounding."""

    cpus: PositiveInt = 1
    gpus: NonNegativeFloat = 0
    """Of each member; 0.25 lets four share a GPU."""
    workers: NonNegativeInt = 0
    """Further processes that evaluate, of `resources.cpus_per_worker` CPUs each; with 0 a member
    is a single process."""
    max_concurrent: PositiveInt | None = None
    """Members under way at once; None takes as many as the cluster has room for."""
    max_retries: NonNegativeInt = 3
    """How often a member is started again after its process or node died."""


class SweepConfig(Section):
    """What a sweep's YAML says."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: Path
    """The YAML of a run; relative to the sweep's file."""
    settings: dict[Setting, Any] = Field(default={})
    """`section.setting: value`, for all members."""
    grid: dict[Setting, tuple[Any, ...]] = Field(default={})
    """`section.setting: [values]`; members are all combinations."""
    sampled: SampledConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    members: MembersConfig = MembersConfig()

    @property
    def varied(self) -> list[str]:
        """The settings in which members differ."""
        return [*self.grid, *(self.sampled.settings if self.sampled else ())]

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if not self.grid and self.sampled is None:
            raise ValueError("varies nothing; give a grid, or a sampled set")
        for setting, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{setting} is empty; give at least one value")
            if len({_written(value) for value in values}) < len(values):
                raise ValueError(f"grid.{setting} has a value twice")
        places = [*self.settings, *self.varied]
        for setting in places:
            if setting in _ELSEWHERE:
                raise ValueError(f"'{setting}' cannot be set here; {_ELSEWHERE[setting]}")
        for setting in self.varied:
            same = [place for place in places if _is_within(place, setting)]
            if len(same) > 1:
                raise ValueError(f"'{setting}' is set twice, by '{same[0]}' and '{same[1]}'")
        return self


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Args:
        name: of its folder.
        settings: what it has for each setting that the sweep varies.
        config: all of it.
        leader: the member whose supernet it takes, since their training is the same; None where it
            trains its own, or none.
    """

    name: str
    settings: Mapping[str, Any]
    config: RunConfig
    leader: str | None = None

    def group(self, without: Collection[str] = ()) -> str:
        """What it shares with the members that differ from it in their seed alone.

        Args:
            without: settings that need not be told.
        """
        told = {k: value for k, value in self.settings.items() if k != "seed" and k not in without}
        if len(told) == 1:
            return _shown(*told.values())
        words = (f"{_leaf(key, told)} {_shown(value)}" for key, value in told.items())
        return ", ".join(words) or "all"


@dataclass(frozen=True)
class Sweep:
    """A sweep with its members, in order."""

    config: SweepConfig
    members: Sequence[Member] = field(repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when any member, or the way they are done, does."""
        asked = {m.name: m.config.model_dump(mode="json") for m in self.members}
        asked["early_stopping"] = self.config.model_dump(mode="json")["early_stopping"]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep's YAML file and make its members.

    Args:
        path: the file.
        overrides: `section.setting=value` each, of all members.

    Raises:
        RequestError: if a file is missing or not YAML, or any member's settings are unfit.
    """
    content = read_yaml(path)
    if "base" not in content and ("task" in content or "table" in content):
        raise RequestError(f"'{path}' describes one run, not a sweep; use: nasbench run {path}")
    config = validated(SweepConfig, content, source=str(path))
    base = read_yaml(path.parent / config.base)
    for name, value in [*config.settings.items(), *_overriding(config, overrides)]:
        set_setting(base, name, value)
    varied = list(_combinations(config))
    members = [
        _member(name, settings, base, config, source=str(path))
        for name, settings in zip(_names(varied), varied, strict=True)
    ]
    return Sweep(config, _led(members))


def _overriding(config: SweepConfig, overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What overrides say of all members; RequestError for what members differ in."""
    for name, value in map(parse_override, overrides):
        if name in _ELSEWHERE:
            raise RequestError(f"'{name}' cannot be set for a sweep; {_ELSEWHERE[name]}")
        if any(_is_within(name, varied) or _is_within(varied, name) for varied in config.varied):
            raise RequestError(f"'{name}' is what the sweep varies; change its YAML instead")
        yield name, value


def _is_within(setting: str, other: str) -> bool:
    """Whether it is the other setting or a part of it."""
    return setting == other or setting.startswith(f"{other}.")


def _combinations(config: SweepConfig) -> Iterator[dict[str, Any]]:
    """The varied settings of each member: every draw at every point of the grid, none twice."""
    draws: list[dict[str, Any]] = [{}]
    if config.sampled is not None:
        rng = np.random.default_rng(config.sampled.seed)
        drawn = config.sampled.settings.items()
        draws = [
            {name: distribution.draw(rng) for name, distribution in drawn}
            for _ in range(config.sampled.num_samples)
        ]
    seen = set()
    for values in product(*config.grid.values()):
        for draw in draws:
            settings = {**draw, **dict(zip(config.grid, values, strict=True))}
            if (text := _written(settings)) not in seen:
                seen.add(text)
                yield settings


def _member(
    name: str,
    settings: Mapping[str, Any],
    base: Mapping[str, Any],
    sweep: SweepConfig,
    source: str,
) -> Member:
    source = f"{source}: member '{name}'"
    content = copy.deepcopy(dict(base))
    for setting, value in settings.items():
        set_setting(content, setting, value)
    content["name"] = name
    if "table" not in content:
        set_setting(content, "resources.workers", sweep.members.workers)
    config = parse_config(content, source=source)
    if config.training.num_workers > 1:
        raise RequestError(
            f"{source}: training.num_workers={config.training.num_workers}, but a member of a "
            "sweep trains in one process; set it to 1"
        )
    if sweep.early_stopping is not None:
        _check_can_be_stopped(config, sweep.early_stopping, source)
    return Member(name, settings, _with_absolute_paths(config))


def _check_can_be_stopped(config: RunConfig, asked: EarlyStoppingConfig, source: str) -> None:
    """RequestError where early stopping would do nothing."""
    if config.table is not None:
        raise RequestError(f"{source}: a search of a table trains nothing to be stopped early")
    every = config.training.monitor_every
    if not 0 < every <= asked.grace_epochs:
        raise RequestError(
            f"{source}: training.monitor_every={every:g} gives early_stopping nothing to compare "
            f"trainings by after {asked.grace_epochs} epochs; set it to 1"
        )


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same for a process in another folder."""
    changed = {}
    for name, section in config:
        paths = {}
        if isinstance(section, Section):
            paths = {key: value for key, value in section if isinstance(value, Path)}
        if paths:
            absolute = {key: path.expanduser().absolute() for key, path in paths.items()}
            changed[name] = section.model_copy(update=absolute)
    return config.model_copy(update=changed)


def _led(members: Sequence[Member]) -> list[Member]:
    """The members with their leaders: of those whose training is the same, the first trains."""
    leaders: dict[str, str] = {}
    led = []
    for member in members:
        config = member.config
        if config.table is not None:
            led.append(member)
            continue
        identity = config.identity()
        parts = [config.seed, identity["task"], identity["supernet"], identity["training"]]
        leader = leaders.setdefault(_written(parts), member.name)
        led.append(member if leader == member.name else replace(member, leader=leader))
    return led


def _names(varied: Sequence[Mapping[str, Any]]) -> list[str]:
    """A folder's name for each member, which says what it varies."""
    names = []
    for settings in varied:
        name = "_".join(f"{_leaf(key, settings)}-{_shown(v)}" for key, v in settings.items())
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
        if len(name) > _MAX_NAME:
            name = f"{name[: _MAX_NAME - 9]}_{_digest(settings)}"
        names.append(name)
    return [
        name if names.count(name) == 1 else f"{name}_{_digest(settings)}"
        for name, settings in zip(names, varied, strict=True)
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(_written(value).encode()).hexdigest()[:8]


def _leaf(key: str, among: Iterable[str]) -> str:
    """The last part of a setting's name, where that is enough to tell it from the others."""
    last = key.rpartition(".")[2]
    return last if [k.rpartition(".")[2] for k in among].count(last) == 1 else key


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(_shown(v) for v in value.values())
    if isinstance(value, list | tuple):
        return "-".join(_shown(v) for v in value)
    return str(value)


def _written(value: object) -> str:
    """A text that two values share only if they are equal."""
    return json.dumps(value, sort_keys=True, default=str)
