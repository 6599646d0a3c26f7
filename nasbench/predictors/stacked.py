"""Ridge and support vector regression, stacked: the combination of LINAS's papers.

Cummings et al., A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
Modalities (2205.10358).
"""

from nasbench.predictors.encoding import Encoding
from nasbench.predictors.ensemble import EnsemblePredictor
from nasbench.space import SearchSpace


class StackedPredictor(EnsemblePredictor):
    """The ensemble of `ridge` and `svr`."""

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, encoding: str | Encoding | None = None
    ) -> None:
        super().__init__(space, seed, encoding=encoding, members=("ridge", "svr"))
