"""Screening: a cheap evaluation first, and the full one of what could reach the front.

A cheap evaluation uses a part of the data, so what it says of a sub-network is off by some amount
either way. How much is known from the trials that were evaluated both ways: a trial is given, in
every objective that depends on data, the largest improvement from the cheap to the full evaluation
that any trial before had. If a fully evaluated trial dominates it even so, or it violates a
constraint that is counted, it is left at its cheap values; all others are evaluated fully. What is
left is dominated by a fully evaluated trial or infeasible, so it is on no front.

A search algorithm is told the values that a trial ended with, cheap ones as if they were full.

A trial is judged by the batches that were finished before its own was proposed. So the number of
workers, the order in which they finish and a kill change nothing.

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
        concurrent_batches: how many are evaluated at a time.
    """

    def __init__(
        self,
        problem: SearchProblem,
        evaluate: Callable[[Sequence[Trial]], Iterable[Trial]],
        history: Callable[[], Sequence[Trial]],
        *,
        num_initial: int,
        batch_size: int,
        concurrent_batches: int = 1,
    ) -> None:
        self._problem, self._evaluate, self._history = problem, evaluate, history
        self._num_initial, self._batch_size = num_initial, batch_size
        self._concurrent_batches = concurrent_batches

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial finished; more may be appended until the last is yielded."""
        asked = [_cheap(trial) for trial in trials]
        num_taken = len(asked)
        screened: dict[int, Trial] = {}
        known: dict[int, tuple[Losses, Losses | None]] = {}  # by the number of trials known
        for trial in self._evaluate(asked):
            if trial.number in screened:
                before = dict(screened.pop(trial.number).measurements)
                if trial.state is TrialState.COMPLETE:
                    facts = {**trial.provenance, "fidelity": FULL, "screening": before}
                    trial = trial.completed(trial.measurements, facts)
                yield trial
            elif trial.state is not TrialState.COMPLETE:
                yield trial
            else:
                num_known = self._num_known(trial.number)
                if num_known not in known:
                    known[num_known] = self._known(num_known)
                    for old in sorted(known)[: -self._concurrent_batches]:
                        del known[old]
                if self._is_hopeless(trial, *known[num_known]):
                    facts = {**trial.provenance, "fidelity": CHEAP}
                    yield trial.completed(trial.measurements, facts)
                else:
                    screened[trial.number] = trial
                    asked.append(_full(trial))
            asked += [_cheap(trial) for trial in trials[num_taken:]]
            num_taken = len(trials)

    def _num_known(self, number: int) -> int:
        """How many trials were finished before a trial was proposed, whatever else is by now."""
        if number < self._num_initial:
            return 0
        batch = (number - self._num_initial) // self._batch_size - (self._concurrent_batches - 1)
        return self._num_initial + batch * self._batch_size if batch >= 0 else 0

    def _known(self, num_known: int) -> tuple[Losses, Losses | None]:
        """Of the first trials: feasible full ones (N, M); the margins (M,), None if unknown."""
        objectives = self._problem.objectives
        full = [
            trial
            for trial in self._history()
            if trial.number < num_known
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


def _cheap(trial: Trial) -> Trial:
    """The trial, to be evaluated cheaply."""
    return replace(trial, provenance={"fidelity": CHEAP})


def _full(trial: Trial) -> Trial:
    """The trial that was evaluated cheaply, to be evaluated fully."""
    return replace(trial, state=TrialState.RUNNING, measurements={}, provenance={})
