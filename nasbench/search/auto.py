"""The default algorithm: cheap predictors that say how sure they are, and what they make likely.

Shape legend: N candidates, M objectives.
"""

import numpy as np

from nasbench.errors import RequestError
from nasbench.predictors import PREDICTORS
from nasbench.search.acquisition import HypervolumeGain
from nasbench.search.base import SearchAlgorithm
from nasbench.search.earlier import EarlierSearch, EarlierTrials
from nasbench.search.failures import SuccessPredictor
from nasbench.search.inner_search import Candidates, evolve_candidates
from nasbench.search.problem import Floats, SearchProblem, genome_keys
from nasbench.search.selection import Rows, best_rows, diverse_rows
from nasbench.search.surrogate import Surrogate
from nasbench.space import Genomes

_NUM_INITIAL = 20
_NUM_INITIAL_AFTER_EARLIER = 10
_EXPECTED_FRACTION = 0.5  # of them, from the front that earlier trials predict
_NUM_MEASURED_STARTS = 100
_NUM_RANDOM_STARTS = 500
_NUM_CONSIDERED = 1_000  # of the pool, those of the best predicted ranks
_MIN_SAMPLES = 5  # where many of the first trials failed
_FAR_OFF = 1e6  # a violation that nothing measured has
_SURENESS = 0.6  # share of the predicted deviations, most of which is noise and no chance


class AutoSearch(SearchAlgorithm):
    """Proposes the candidates that are expected to add most to the hypervolume.

    One predictor per objective that cannot be counted learns the measured losses, stretched near
    the best (`Stretch`). Candidates are what NSGA-II meets on its way to the predicted front,
    begun at the measured one; where the space is no larger than that, all of it. Of them those
    are proposed that together add the most hypervolume on the stretched scale, averaged over
    what they may turn out to be (`HypervolumeGain`). What is pending counts as measured in that
    average, so that batches and asynchronous workers are kept apart. Once trials fail, what a
    candidate adds counts by the probability that it can be measured (`SuccessPredictor`). Some
    proposals are of the best predicted rank instead, spread over it as those of `linas`: the
    predictors are surer than they should be, so that once nothing is expected to add more, what
    a candidate adds says less than how it ranks. Some are random, so that a wrong predictor cannot
    lock the search in.

    Trials of an earlier search, on another device or data set, shorten that: half of the first
    proposals are on the front that they predict, and each predictor corrects what the earlier
    trials say instead of learning it anew.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        num_initial: told trials before the first prediction; None is 20, or 10 after an earlier
            search.
        predictor: a name of `PREDICTORS`, one instance of which learns each objective. `auto`
            chooses among several; on the tables of the benchmark it always chose `gp`.
        pool_size: children that NSGA-II breeds per `ask`.
        random_fraction: probability that a proposal is random, 0 to 1.
        rank_fraction: probability that one of the others is chosen by its predicted rank, 0 to 1.
        earlier: trials of another search of the same space.
        transfer: whether predictors correct those of the earlier trials; false takes only the
            first proposals from them.
        reduce_below: leave out choices that a smaller share of the candidates make that earlier
            trials predict to be good (but for random proposals); 0 leaves out none.
    """

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        num_initial: int | None = None,
        predictor: str = "gp",
        pool_size: int = 2_000,
        random_fraction: float = 0.1,
        rank_fraction: float = 0.3,
        earlier: EarlierTrials | None = None,
        transfer: bool = True,
        reduce_below: float = 0.0,
    ) -> None:
        super().__init__(problem, seed)
        if num_initial is None:
            num_initial = _NUM_INITIAL if earlier is None else _NUM_INITIAL_AFTER_EARLIER
        if num_initial < 1 or pool_size < 1:
            raise RequestError(
                f"num_initial and pool_size are at least 1, but they were {num_initial} and "
                f"{pool_size}"
            )
        for name, value in (("random", random_fraction), ("rank", rank_fraction)):
            if not 0 <= value <= 1:
                raise RequestError(f"{name}_fraction is 0 to 1, but it was {value}")
        if not 0 <= reduce_below < 1:
            raise RequestError(f"reduce_below is 0 or more and below 1, but it was {reduce_below}")
        if reduce_below and earlier is None:
            raise RequestError("reduce_below needs an earlier search, which says what is rare")
        PREDICTORS.check(predictor)
        self._num_initial = num_initial
        self._pool_size = pool_size
        self._random_fraction = random_fraction
        self._rank_fraction = rank_fraction
        self._earlier: EarlierSearch | None = None
        if earlier is not None:
            self._earlier = EarlierSearch(problem, self.counted, earlier, seed, reduce_below)
        self._is_reduced = reduce_below > 0
        self._success = SuccessPredictor(problem.space, seed)
        self._surrogate = Surrogate(
            problem,
            self.counted,
            predictor,
            seed,
            stretched=True,
            priors=self._earlier.predictors if self._earlier is not None and transfer else {},
        )

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        random = self.problem.space.sample_choices(count, rng)
        if self._num_told < self._num_initial or len(self.genomes) < _MIN_SAMPLES:
            num_expected = int((rng.random(count) < _EXPECTED_FRACTION).sum())
            return np.concatenate([self._expected(num_expected), random])
        if self._surrogate.num_samples < len(self.genomes):
            self._surrogate.fit(self.genomes, self.losses, self.violations)
        count -= int((rng.random(count) < self._random_fraction).sum())
        num_ranked = int((rng.random(count) < self._rank_fraction).sum())
        pool = self._pool(rng)
        rows = self._gaining(pool, count - num_ranked, rng)
        rows = np.concatenate([rows, self._ranked(pool, num_ranked, rows)])
        return np.concatenate([pool.genomes[rows], random])

    def _expected(self, count: int) -> Genomes:
        """At most `count` new ones on the front that an earlier search predicts."""
        if self._earlier is None:
            return self.genomes[:0]
        known = self._earlier.expected(np.concatenate([self.genomes, self.pending]))
        news = self._unknown(self._earlier.met)
        return news.genomes[diverse_rows(news.losses, news.violations, count, known.losses)]

    def _unknown(self, candidates: Candidates) -> Candidates:
        keys = genome_keys(candidates.genomes)
        return candidates.take(np.flatnonzero([not self.is_known(key) for key in keys]))

    def _score(self, genomes: Genomes) -> tuple[Floats, Floats]:
        losses, violations = self._surrogate.score(genomes)
        violations += _FAR_OFF * (self._chances(genomes) == 0)
        if self._earlier is not None and self._is_reduced:
            violations += _FAR_OFF * self._earlier.num_rare(genomes)
        return losses, violations

    def _pool(self, rng: np.random.Generator) -> Candidates:
        """Promising candidates that are not known yet, with predicted losses, best first."""
        space = self.problem.space
        if space.size <= self._pool_size:
            found = Candidates.scored(self.every_genome, self._score)
        else:
            measured = best_rows(self.losses, self.violations, _NUM_MEASURED_STARTS)
            start = np.concatenate(
                [
                    self.genomes[measured],
                    space.sample_choices(_NUM_RANDOM_STARTS, rng),
                    self._expected(_NUM_MEASURED_STARTS),
                ]
            )
            found = evolve_candidates(space, self._score, start, self._pool_size, rng)
        return self._unknown(found).best(_NUM_CONSIDERED)

    def _gaining(self, pool: Candidates, count: int, rng: np.random.Generator) -> Rows:
        """At most `count` rows of the pool: those of the greatest gain, or the least violated."""
        feasible = np.flatnonzero(pool.violations == 0)
        measured = self.losses[self.violations == 0]
        if len(measured) == 0 or len(feasible) == 0:
            return np.arange(len(pool.genomes))[:count]
        genomes = pool.genomes[feasible]
        gain = HypervolumeGain(self._surrogate.on_scale(measured), rng)
        gain.take(*self._believed(self.pending))
        rows = feasible[gain.best(*self._believed(genomes), count, self._chances(genomes))]
        return np.concatenate([rows, _others(pool, rows)])[:count]

    def _ranked(self, pool: Candidates, count: int, taken: Rows) -> Rows:
        """At most `count` other rows of the pool: the best ranks, away from what is taken."""
        others = _others(pool, taken)
        pending, _ = self._surrogate.score(self.pending)
        known = np.concatenate([pending, pool.losses[taken]])
        rest = pool.take(others)
        return others[diverse_rows(rest.losses, rest.violations, count, known)]

    def _chances(self, genomes: Genomes) -> Floats:
        """How likely candidates can be measured, of shape (N,)."""
        return self._success.probabilities(genomes, self.genomes, self.failed)

    def _believed(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Means and deviations on the stretched scale, each of shape (N, M)."""
        means, stds = self._surrogate.predict(genomes)
        return means, _SURENESS * stds


def _others(pool: Candidates, rows: Rows) -> Rows:
    """The rows of the pool that are not among these, in order."""
    return np.setdiff1d(np.arange(len(pool.genomes)), rows)
