"""Look-up tables: a network's latency as the sum of its blocks', corrected by a line.

Latencies of blocks nearly add up where a device computes one after the other (Cai et al.,
ProxylessNAS, ICLR 2019; Once-for-all, ICLR 2020, searches with such tables). Two things spoil the
sum: what starting any network costs is in each block's latency, so that is taken out of all but
one; and blocks that follow each other find their input in the cache, or keep it from what comes
later. The second is about the same share everywhere, so a line fitted to a few whole networks
mends it.

Shape legend: N architectures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors.base import Floats, Prediction, Predictor
from nasbench.predictors.encoding import Encoding
from nasbench.space import Architecture, Genomes, SearchSpace


@dataclass(frozen=True, slots=True)
class LookupTable:
    """What every block of a space takes.

    Args:
        block_ms: latency of each block by its key, as measured of it alone.
        overhead_ms: what a network takes that does nothing.
    """

    block_ms: Mapping[str, float]
    overhead_ms: float = 0.0

    def sum_ms(self, blocks: Sequence[str]) -> float:
        """The blocks' latencies with the overhead once.

        Raises:
            RequestError: if a block is not in the table.
        """
        for block in blocks:
            if block not in self.block_ms:
                raise RequestError(
                    f"the look-up table knows no block '{block}'; it belongs to another supernet"
                )
        overheads = (len(blocks) - 1) * self.overhead_ms
        return sum(self.block_ms[block] for block in blocks) - overheads


class _Summed(Encoding):
    """The sum of a table's entries: one column."""

    def __init__(
        self,
        space: SearchSpace,
        table: LookupTable,
        blocks_of: Callable[[Architecture], Sequence[str]],
    ) -> None:
        self._space, self._table, self._blocks_of = space, table, blocks_of
        self.groups = np.zeros(1, dtype=np.int64)

    def _encode(self, genomes: Genomes) -> Floats:
        networks = self._space.from_genomes(genomes)
        sums = [self._table.sum_ms(self._blocks_of(network)) for network in networks]
        return np.array(sums, dtype=np.float64).reshape(-1, 1)


class LookupPredictor(Predictor):
    """A line through the sums of a table, fitted by least squares to whole networks.

    Errors count in proportion to the sum, since what disturbs a latency makes it some share longer,
    and the standard deviation is in proportion to it: the root mean square of such errors of
    samples that were left out of the fit. (Where a sum is not positive, as no latency is, all
    errors count alike.)

    Args:
        space: what the genomes belong to.
        seed: nothing here is random.
        encoding: must be None; the sum is the only feature.
        table: latencies of the blocks.
        blocks_of: the keys of a network's blocks.

    Raises:
        RequestError: without a table, or with an encoding.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        encoding: str | Encoding | None = None,
        table: LookupTable | None = None,
        blocks_of: Callable[[Architecture], Sequence[str]] | None = None,
    ) -> None:
        if table is None or blocks_of is None:
            raise RequestError(
                "predictor 'lookup' adds up a table of blocks; make one with: nasbench lut build"
            )
        if encoding is not None:
            raise RequestError("predictor 'lookup' reads its table and takes no encoding")
        super().__init__(space, seed, encoding=_Summed(space, table, blocks_of))

    def _fit(self, genomes: Genomes, targets: Floats) -> None:
        sums = self.encode(genomes)[:, 0]
        self._errs_alike = bool((sums <= 0).any())
        shares = 1.0 / self._sizes(sums) ** 2
        shares /= shares.sum()
        self._sum, self._target = float(shares @ sums), float(shares @ targets)
        deviations = sums - self._sum
        squares = float(shares @ deviations**2)
        self._slope = float(shares @ (deviations * targets)) / squares if squares > 0 else 0.0
        residuals = targets - self._target - self._slope * deviations
        leverages = shares * (1.0 + (deviations**2 / squares if squares > 0 else 0.0))
        of_others = (self._target - shares * targets) / np.maximum(1.0 - shares, 1e-12)
        is_alone = leverages > 1.0 - 1e-9  # without it the others say nothing of the slope
        left = np.where(is_alone, 1.0, 1.0 - leverages)
        self._held_out = np.where(is_alone, of_others, targets - residuals / left)
        errors = (self._held_out - targets) / self._sizes(sums)
        self._error = float(np.sqrt(np.mean(errors**2)))

    @property
    def line(self) -> tuple[float, float]:
        """Slope and intercept in the unit of the values: slope x sum + intercept is predicted.

        Raises:
            RequestError: where nothing was learned yet.
        """
        self._learned()
        if self._scale == 0:
            return 0.0, self._center
        slope = self._scale * self._slope
        return slope, self._center + self._scale * self._target - slope * self._sum

    def _sizes(self, sums: Floats) -> Floats:
        """What errors are in proportion to."""
        return np.ones(len(sums)) if self._errs_alike else np.abs(sums)

    def _predict(self, genomes: Genomes) -> Prediction:
        sums = self.encode(genomes)[:, 0]
        mean = self._target + self._slope * (sums - self._sum)
        return Prediction(mean, self._error * self._sizes(sums))

    def _held_out_means(self) -> Floats:
        return np.asarray(self._held_out)
