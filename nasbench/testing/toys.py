"""Search spaces and problems whose answers are formulas, for contract suites and tests.

Shape legend: N architectures, D dimensions, M objectives.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nasbench.objectives import Objective
from nasbench.search import SearchProblem
from nasbench.space import ActiveWhen, Architecture, ElasticDimension, Genomes, SearchSpace
from nasbench.trials import FULL

TINY_SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2)),
        ElasticDimension("block1.kernel_size", (3, 5, 7)),
        ElasticDimension("block2.kernel_size", (3, 5, 7), ActiveWhen("depth", (2,))),
    ]
)
"""12 architectures."""

MIXED_SPACE = SearchSpace(
    [
        ElasticDimension("depth", (1, 2, 3)),
        ElasticDimension("block1.width", (16, 24, 32, 64)),
        ElasticDimension("block2.width", (16, 24, 32, 64), ActiveWhen("depth", (2, 3))),
        ElasticDimension("block3.width", (16, 24, 32, 64), ActiveWhen("depth", (3,))),
        ElasticDimension("norm", ("batch", "layer")),
        ElasticDimension("is_residual", (False, True)),
        ElasticDimension("stem", ("conv",)),
        ElasticDimension("excitation", ("none", "spatial", "channel")),
        ElasticDimension(
            "excitation.kind", ("mean", "max"), ActiveWhen("excitation", ("channel",))
        ),
        ElasticDimension("excitation.ratio", (2, 4, 8), ActiveWhen("excitation.kind", ("mean",))),
    ]
)
"""Every kind of dimension: numbers, names, booleans, a single choice, conditions on conditions."""

MOBILE_SPACE = SearchSpace(
    [ElasticDimension(f"stage{stage}.depth", (2, 3, 4)) for stage in range(5)]
    + [
        ElasticDimension(
            f"stage{stage}.block{block}.{name}",
            choices,
            ActiveWhen(f"stage{stage}.depth", tuple(range(block + 1, 5))) if block > 1 else None,
        )
        for stage in range(5)
        for block in range(4)
        for name, choices in (("kernel_size", (3, 5, 7)), ("expansion", (3, 4, 6)))
    ]
)
"""The 45 dimensions of Once-for-all's MobileNetV3 space (1908.09791): 2e19 architectures."""

ONLY_SPACE = SearchSpace([ElasticDimension("stem", ("conv",)), ElasticDimension("depth", (2,))])
"""One architecture."""


class ToyProblem:
    """Smooth losses on a space: each choice adds its share, and some pairs interact.

    Args:
        space: any.
        num_objectives: M.
        seed: of the formula.
        interaction: share of what pairs of dimensions contribute, 0 to 1.
    """

    def __init__(
        self, space: SearchSpace, num_objectives: int = 2, seed: int = 0, interaction: float = 0.3
    ) -> None:
        rng = np.random.default_rng(seed)
        num_columns = int(space.num_choices.sum())
        self._first_column = np.cumsum(space.num_choices) - space.num_choices
        self._shares = rng.normal(size=(num_columns, num_objectives))
        self._mix = rng.normal(size=(num_columns, 8, num_objectives)) / np.sqrt(8)
        self._interaction = interaction
        self.problem = SearchProblem(
            space, [Objective(f"loss{column}", "minimize") for column in range(num_objectives)]
        )

    def losses(self, genomes: Genomes) -> NDArray[np.float64]:
        """Losses of shape (N, M) of genomes of shape (N, D), canonical or not."""
        space = self.problem.space
        genomes = space.canonical_genomes(genomes)
        columns = self._first_column + genomes
        active = space.active(genomes)[:, :, None]
        added = (self._shares[columns] * active).sum(axis=1)
        mixed = np.tanh((self._mix[columns] * active[:, :, :, None]).sum(axis=1) / 3).sum(axis=1)
        total = (1 - self._interaction) * added + self._interaction * 3 * mixed
        return np.asarray(total / np.sqrt(max(1, len(space))))

    def sample(self, count: int, seed: int = 0) -> tuple[Genomes, NDArray[np.float64]]:
        """Random genomes, distinct where the space has enough, and their losses."""
        genomes = self.problem.space.sample_choices(4 * count, np.random.default_rng(seed))
        _, first = np.unique(genomes, axis=0, return_index=True)
        genomes = genomes[np.sort(first)[:count]]
        return genomes, self.losses(genomes)


@dataclass(frozen=True)
class ToyEvaluated:
    """Measurements without a network."""

    measurements: Mapping[str, float]
    artifact: None = None


@dataclass(frozen=True)
class ToyRecipe:
    """Builds evaluators that know the losses of `problem` by its formula; for a pool without torch.

    Args:
        seconds: that an evaluation sleeps, on average.
        spread: by which share of it architectures differ, at most.
        before: called with each architecture first; it may misbehave.
    """

    problem: ToyProblem = field(default_factory=lambda: ToyProblem(MOBILE_SPACE))
    seconds: float = 0.0
    spread: float = 0.0
    before: Callable[[Architecture], None] | None = None
    engine: None = None
    num_threads: int = 1

    def build(self) -> "ToyRecipe":
        """The recipe is its own evaluator."""
        return self

    def seconds_of(self, architecture: Architecture) -> float:
        """How long this architecture takes, the same each time."""
        position = int(architecture.id, 16) % 1000 / 999  # from 0 to 1
        return self.seconds * (1 + self.spread * (2 * position - 1))

    def evaluate(self, architecture: Architecture, *, fidelity: str = FULL) -> ToyEvaluated:  # noqa: ARG002
        """The losses, under the names of the problem's objectives."""
        if self.before is not None:
            self.before(architecture)
        if self.seconds:
            time.sleep(self.seconds_of(architecture))
        problem = self.problem.problem
        (losses,) = self.problem.losses(problem.space.to_genome(architecture)[None])
        names = [objective.metric for objective in problem.objectives]
        return ToyEvaluated(dict(zip(names, losses.tolist(), strict=True)))
