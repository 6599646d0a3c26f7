"""Attentive sampling: contests at equal cost decide which sub-networks are trained.

Wang et al., AttentiveNAS (CVPR 2021).
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nasbench.errors import RequestError
from nasbench.space import Architecture, Genomes
from nasbench.supernet.nested.chain import Subnetworks
from nasbench.supernet.training.strategies import BigNAS, Contest
from nasbench.tasks.options import check_whole_number


@dataclass(frozen=True)
class AttentiveSampling(BigNAS):
    """BigNAS's recipe, where contests at equal cost take the place of random sub-networks.

    Wang et al., AttentiveNAS: Improving Neural Architecture Search via Attentive Sampling (CVPR
    2021). For each contest, MACs are drawn as often as random sub-networks have them; candidates of
    about those MACs are drawn choice by choice, as often as random sub-networks of those MACs have
    each choice. The paper's bins are 25 million FLOPs wide; ours divide the space's range equally.

    Args:
        num_candidates: of a contest; 3 in the paper.
        winner: "best" trains the candidate of the lowest loss (the paper's BestUp), "worst" that
            of the highest (WorstUp).
        num_bins: of MACs, from the smallest sub-network's to the largest's.
    """

    num_candidates: int = 3
    winner: Literal["best", "worst"] = "best"
    num_bins: int = 32
    _table: "CostTable" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("training.options.num_candidates", self.num_candidates, 1)
        check_whole_number("training.options.num_bins", self.num_bins, 1)
        if self.winner not in ("best", "worst"):
            raise RequestError(f"training.options.winner is best or worst, not {self.winner!r}")
        object.__setattr__(self, "_table", CostTable(self.subnetworks, self.num_bins))

    def _between(self, rng: np.random.Generator) -> list[Contest]:
        winner: Literal["lowest_loss", "highest_loss"]
        winner = "lowest_loss" if self.winner == "best" else "highest_loss"
        return [
            Contest(tuple(self._table.draw(self.num_candidates, rng)), winner)
            for _ in range(self.num_random)
        ]


class CostTable:
    """How often random sub-networks have which MACs, and which choices at those MACs.

    A bin of MACs that none of them falls into is never drawn.
    """

    NUM_SAMPLES = 2048
    MAX_TRIES = 100  # the paper's

    def __init__(self, subnetworks: Subnetworks, num_bins: int) -> None:
        self._subnetworks = subnetworks
        space = subnetworks.space
        lowest, highest = self._macs(space.smallest), self._macs(space.largest)
        self._edges = np.linspace(lowest, highest, num_bins + 1)[1:-1]
        genomes = space.sample_choices(self.NUM_SAMPLES, np.random.default_rng(0))
        members: dict[int, list[Genomes]] = defaultdict(list)
        for genome in genomes:
            members[self._bin(space.from_genome(genome))].append(genome)
        self._bins = sorted(members)
        self._members = {number: np.stack(members[number]) for number in self._bins}
        self._shares = np.array([len(members[number]) for number in self._bins]) / len(genomes)

    def _macs(self, architecture: Architecture) -> int:
        return self._subnetworks.count(architecture)["num_macs"]

    def _bin(self, architecture: Architecture) -> int:
        return int(np.searchsorted(self._edges, self._macs(architecture), side="right"))

    def draw(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Sub-networks of one bin; where choices do not meet it, members of the table."""
        target = self._bins[rng.choice(len(self._bins), p=self._shares)]
        members = self._members[target]
        space = self._subnetworks.space
        found: list[Architecture] = []
        for genome in self._combined(members, rng):
            architecture = space.from_genome(genome)
            if self._bin(architecture) == target:
                found.append(architecture)
                if len(found) == count:
                    return found
        rest = rng.integers(0, len(members), size=count - len(found))
        return found + space.from_genomes(members[rest])

    def _combined(self, members: Genomes, rng: np.random.Generator) -> Genomes:
        """Genomes that take each choice from a member, every dimension from another one."""
        rows = rng.integers(0, len(members), size=(self.MAX_TRIES, members.shape[1]))
        columns = np.arange(members.shape[1])
        return self._subnetworks.space.canonical_genomes(members[rows, columns])
