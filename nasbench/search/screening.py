"""Screening: a cheap evaluation first, and the full one of what could reach the front.

A cheap evaluation uses a part of the data, so what it says of a sub-network is off by some amount
either way. How much is known from the trials that were evaluated both ways: a trial is given, in
every objective that depends on data, the largest improvement from the cheap to the full evaluation
that any trial before had. If a fully evaluated trial dominates it even so, or it violates a
constraint that is counted, it is left at its cheap values; all others are evaluated fully. What is
left is dominated by a fully evaluated trial or infeasible, so it is on no front.

A search algorithm is told the values that a trial ended with, cheap ones as if they were full.

A trial is judged by the batches before its own. So the number of workers, the order in which they
finish and a kill change nothing.

Shape legend: N trials, M objectives.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nasbench.objectives import losses_of, violations_of
from nasbench.search.problem import SearchProblem
from nasbench.trials import CHEAP, FULL, Trial, TrialState

Losses = NDArray[np.float64]

_MIN_KNOWN = 10  # trials that were evaluated both ways, before any is judged


class Screening:
    """Evaluates trials of a search, cheaply first.

    Args:
        problem: whose counted metrics are exact in a cheap evaluation, too.
        evaluate: evaluates trials as their `fidelity` says.
        history: all trials of the search that are finished, at the moment of the call.
        num_initial: of the search's first batch.
        batch_size: of the others.
    """

    def __init__(
        self,
        problem: SearchProblem,
        evaluate: Callable[[Sequence[Trial]], Iterable[Trial]],
        history: Callable[[], Sequence[Trial]],
        *,
        num_initial: int,
        batch_size: int,
    ) -> None:
        self._problem, self._evaluate, self._history = problem, evaluate, history
        self._num_initial, self._batch_size = num_initial, batch_size

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial of a batch finished."""
        if not trials:
            return
        begin = self._begin_of_batch(min(trial.number for trial in trials))
        front_NM, margins_M = self._known(begin)
        cheap = [replace(trial, provenance={"fidelity": CHEAP}) for trial in trials]
        screened: dict[int, Trial] = {}
        for trial in self._evaluate(cheap):
            if trial.state is not TrialState.COMPLETE:
                yield trial
            elif self._is_hopeless(trial, front_NM, margins_M):
                facts = {**trial.provenance, "fidelity": CHEAP}
                yield trial.completed(trial.measurements, facts)
            else:
                screened[trial.number] = trial
        promising = [trial for trial in trials if trial.number in screened]
        for trial in self._evaluate(promising) if promising else ():
            if trial.state is TrialState.COMPLETE:
                before = dict(screened[trial.number].measurements)
                facts = {**trial.provenance, "fidelity": FULL, "screening": before}
                trial = trial.completed(trial.measurements, facts)
            yield trial

    def _begin_of_batch(self, number: int) -> int:
        if number < self._num_initial:
            return 0
        within = (number - self._num_initial) % self._batch_size
        return number - within

    def _known(self, begin: int) -> tuple[Losses, Losses | None]:
        """Of the batches before: feasible full trials (N, M); the margins (M,), None if unknown."""
        objectives = self._problem.objectives
        full = [
            trial
            for trial in self._history()
            if trial.number < begin
            and trial.state is TrialState.COMPLETE
            and trial.fidelity == FULL
        ]
        losses_NM = losses_of(objectives, [trial.measurements for trial in full])
        if len(full) < _MIN_KNOWN:
            return losses_NM, None
        cheap_NM = losses_of(objectives, [trial.provenance["screening"] for trial in full])
        margins_M = np.maximum(0.0, (cheap_NM - losses_NM).max(axis=0))
        violations_N = violations_of(
            self._problem.constraints, [trial.measurements for trial in full]
        )
        return losses_NM[violations_N == 0], margins_M

    def _is_hopeless(self, trial: Trial, front_NM: Losses, margins_M: Losses | None) -> bool:
        """Whether a cheaply evaluated trial cannot reach the front."""
        if margins_M is None:
            return False
        counted = [c for c in self._problem.constraints if c.metric in self._problem.counted]
        if violations_of(counted, [trial.measurements])[0] > 0:
            return True
        (best_M,) = losses_of(self._problem.objectives, [trial.measurements])
        best_M = best_M - margins_M  # counted metrics are the same both ways: their margin is 0
        is_dominated_N = (front_NM <= best_M).all(axis=1) & (front_NM < best_M).any(axis=1)
        return bool(is_dominated_N.any())
