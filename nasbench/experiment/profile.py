"""What spaces hold, known before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nasbench.config import RunConfig
from nasbench.cost import count_parameters
from nasbench.errors import RequestError
from nasbench.experiment.parts import build_supernet, build_task, check_reachable, counts_of
from nasbench.objectives import Constraint
from nasbench.space import Choice, ElasticDimension
from nasbench.supernet import SUPERNETS
from nasbench.supernet.base import Supernet
from nasbench.supernet.elasticized import Elasticized, StaticPart


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Size of a space and exact counts of its extremes.

    Args:
        name: family and preset.
        size: number of sub-networks.
        counts: "smallest", "middle" and "largest" -> what is counted of that sub-network.
        constraints: each constraint of a configuration -> whether it can be met.
        num_trained: parameters that training holds; not counted for a family's presets.
        num_added: those of them that plain slices would not need, and no sub-network takes along.
        elastic: the elastic dimensions with their choices; not told of a family's presets.
        found: of a network of one's own, the dimensions that were found in it.
        static: what of it stays as it is, with the reasons.
    """

    name: str
    size: int
    counts: Mapping[str, Mapping[str, float]]
    constraints: Mapping[str, str] = field(default_factory=dict)
    num_trained: int = 0
    num_added: int = 0
    elastic: Mapping[str, Sequence[Choice]] = field(default_factory=dict)
    found: tuple[ElasticDimension, ...] = ()
    static: tuple[StaticPart, ...] = ()

    def ratio(self, metric: str) -> float:
        """Largest to smallest."""
        return self.counts["largest"][metric] / self.counts["smallest"][metric]


def profile_run(config: RunConfig) -> Profile:
    """The space of a configuration, and what its constraints leave; RequestError as in a run."""
    _, asked = config.network_sections()
    task = build_task(config)
    with torch.device("meta"):
        supernet = build_supernet(config, task)
        sliced = SUPERNETS[asked.family].build(**_without_sharing(supernet))
    num_trained, num_sliced = count_parameters(supernet), count_parameters(sliced)
    counts = _counts(supernet)
    constraints = {text: _verdict(text, counts) for text in config.search.constraints}
    name = f"{asked.family} {asked.preset if asked.pretrained is None else asked.pretrained.name}"
    return Profile(
        name=name,
        size=supernet.space.size,
        counts=counts,
        constraints=constraints,
        num_trained=num_trained,
        num_added=num_trained - num_sliced,
        elastic={dimension.name: dimension.choices for dimension in supernet.space},
        **_of_own_network(supernet),
    )


def profile_family(family: str) -> list[Profile]:
    """Every preset of a supernet family, for the inputs that the preset declares."""
    profiles = []
    for preset in SUPERNETS[family].presets:
        with torch.device("meta"):  # sizes only: large presets take no memory
            supernet = SUPERNETS[family].build(preset)
        profiles.append(
            Profile(
                name=f"{family} {preset}",
                size=supernet.space.size,
                counts=_counts(supernet),
                **_of_own_network(supernet),
            )
        )
    return profiles


def _of_own_network(supernet: Supernet[Any]) -> dict[str, Any]:
    """What was found in a network that is no family's."""
    if not isinstance(supernet, Elasticized):
        return {}
    return {"found": supernet.space.dimensions, "static": supernet.static}


def _without_sharing(supernet: Supernet[Any]) -> dict[str, Any]:
    """What builds the same supernet of slices."""
    family = SUPERNETS[supernet.settings["family"]]
    names = ("preset", "spec", *family.settings)
    return {name: supernet.settings[name] for name in names if name in supernet.settings}


def _counts(supernet: Supernet[Any]) -> dict[str, dict[str, float]]:
    space = supernet.space
    middle = space.from_genome((space.num_choices - 1) // 2)
    named = {"smallest": supernet.smallest, "middle": middle, "largest": supernet.largest}
    return {name: counts_of(supernet, architecture) for name, architecture in named.items()}


def _verdict(text: str, counts: Mapping[str, Mapping[str, float]]) -> str:
    constraint = Constraint.parse(text)
    try:
        check_reachable(constraint, counts["smallest"], counts["largest"])
    except RequestError as error:
        return str(error)
    return "can be met" if constraint.metric in counts["smallest"] else "only measuring can tell"
