"""What a space holds, known before any training."""

from collections.abc import Mapping
from dataclasses import dataclass

from nasbench.config import RunConfig
from nasbench.errors import RequestError
from nasbench.experiment.parts import build_supernet, build_task, check_reachable, counts_of
from nasbench.objectives import Constraint


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Size of a space and exact counts of its extremes.

    Args:
        counts: "smallest", "middle" and "largest" -> what is counted of that sub-network.
        constraints: each constraint of the configuration -> whether it can be met.
    """

    family: str
    size: int
    counts: Mapping[str, Mapping[str, float]]
    constraints: Mapping[str, str]

    def ratio(self, metric: str) -> float:
        """Largest to smallest."""
        return self.counts["largest"][metric] / self.counts["smallest"][metric]


def profile(config: RunConfig) -> Profile:
    """Build the supernet and count; RequestError for unknown names."""
    supernet = build_supernet(config, build_task(config))
    space = supernet.space
    middle = space.from_genome((space.num_choices - 1) // 2)
    counts = {
        name: counts_of(supernet, architecture)
        for name, architecture in (
            ("smallest", supernet.smallest),
            ("middle", middle),
            ("largest", supernet.largest),
        )
    }
    constraints = {}
    for text in config.search.constraints:
        constraint = Constraint.parse(text)
        try:
            check_reachable(constraint, counts["smallest"], counts["largest"])
        except RequestError as error:
            constraints[text] = str(error)
        else:
            is_counted = constraint.metric in counts["smallest"]
            constraints[text] = "can be met" if is_counted else "not known before measuring"
    family = f"{config.supernet.family}/{config.supernet.preset}"
    return Profile(family=family, size=space.size, counts=counts, constraints=constraints)
