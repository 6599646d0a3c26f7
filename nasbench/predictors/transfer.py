"""Transfer: another device's model as the prior of this one, corrected by a few measurements.

Devices mostly agree on which network is slower (Lee et al., HELP: Hardware-Adaptive Efficient
Latency Prediction for NAS via Meta-Learning, NeurIPS 2021, learn from that). Here what the prior
predicts is a feature of a Gaussian process: the only one where that makes the measurements most
probable, so that a scaled or bent copy of the prior needs a handful of them; else beside the
features that the prior itself reads, or, where the devices differ in kind, beside others.

Shape legend: N architectures, D dimensions, F features.
"""

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors.base import Floats, Predictor
from nasbench.predictors.encoding import Encoding, joined
from nasbench.predictors.gaussian_process import GaussianProcessPredictor
from nasbench.space import Genomes, SearchSpace

_LESS_LIKELY = -3.0  # log odds of other features than the prior's


class TransferPredictor(GaussianProcessPredictor):
    """A Gaussian process that also reads what a fitted predictor says.

    Args:
        space: what the genomes belong to.
        seed: of all randomness in fitting.
        encoding: beside the prior; as for every predictor.
        prior: learned another metric of the same space: latency on another device, accuracy on
            another data set or after fewer epochs.

    Raises:
        RequestError: without a prior, or if its space is another one.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        encoding: str | Encoding | None = None,
        prior: Predictor | None = None,
    ) -> None:
        if prior is None:
            raise RequestError(
                "predictor 'transfer' corrects another one; give it a fitted predictor as prior"
            )
        if prior.space != space:
            raise RequestError("the prior learned architectures of another space")
        super().__init__(space, seed, encoding=encoding)
        said = _Prior(prior)
        others = {joined(said, encode): _LESS_LIKELY for encode in self._beliefs}
        self._beliefs = {said: 0.0, joined(said, prior.encode): 0.0} | others


class _Prior(Encoding):
    """What a fitted predictor says: one column."""

    def __init__(self, prior: Predictor) -> None:
        self._prior = prior
        self.groups = np.zeros(1, dtype=np.int64)

    def _encode(self, genomes: Genomes) -> Floats:
        return self._prior.predict(genomes).mean[:, None]
