"""The search loop: ask, evaluate, record, tell.

The store is the loop's memory. A batch is committed before it is evaluated, every trial is
committed as it finishes, and the algorithm learns only what is in the store, in the order of trial
numbers. A resumed search therefore tells a fresh algorithm the same batches, and goes on as the
uninterrupted one would have: an algorithm's state is nothing but what it was told.

Where K batches are evaluated at a time, a batch is proposed when all but the last K - 1 before it
are finished, and what those found so far is not told. So who finishes first changes no proposal.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from nasbench.errors import WorkError
from nasbench.objectives import losses_of, violations_of
from nasbench.search.base import SearchAlgorithm, SearchProblem
from nasbench.space import Architecture
from nasbench.store import TrialStore
from nasbench.trials import Trial, TrialState

Evaluate = Callable[[Sequence[Trial]], Iterable[Trial]]
"""Takes RUNNING trials and yields each of them finished, in any order. More may be appended to the
sequence until the last is yielded."""


def run_search(
    problem: SearchProblem,
    algorithm: SearchAlgorithm,
    store: TrialStore,
    evaluate: Evaluate,
    *,
    num_trials: int,
    batch_size: int,
    concurrent_batches: int = 1,
    initial: Sequence[Architecture] = (),
    max_consecutive_failures: int = 10,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Search until `num_trials` trials are finished or the space is exhausted.

    Args:
        problem: what the algorithm optimizes.
        algorithm: fresh; it is told what the store holds.
        store: the trials of this search, perhaps of an earlier process.
        evaluate: measures architectures.
        num_trials: the budget, failed trials and those of an earlier process included.
        batch_size: proposals that are evaluated, and learned from, together.
        concurrent_batches: batches that are evaluated at a time. With more than one, evaluators do
            not wait for a batch's slowest trial, and each batch is proposed without knowing what
            the others find.
        initial: distinct architectures that are evaluated before the algorithm is asked, as a batch
            of their own; they count.
        max_consecutive_failures: this many failures in a row stop the search.
        on_trial: called with each trial that finished in this process, after it is committed.

    Returns:
        All finished trials, in the order of their numbers.

    Raises:
        WorkError: if too many trials in a row failed.
        RequestError: if another process searches with this store.
    """
    with store.claimed():
        evaluation = _Evaluation(store, evaluate, max_consecutive_failures, on_trial)
        trials = evaluation.trials
        seen = {trial.architecture for trial in trials}
        in_flight: deque[range] = deque()
        for numbers in _batches(len(initial), num_trials, batch_size):
            if len(in_flight) == concurrent_batches:
                _tell(problem, algorithm, evaluation.finished(in_flight.popleft()))
            num_missing = numbers.stop - max(numbers.start, len(trials))
            if num_missing > 0:
                is_first = numbers.start < len(initial)
                proposals = initial[: len(numbers)] if is_first else algorithm.ask(len(numbers))
                # An earlier process with a smaller budget may have committed the first of these.
                news = [architecture for architecture in proposals if architecture not in seen]
                trials += store.propose(news[:num_missing])
                seen.update(trial.architecture for trial in trials[numbers.start :])
            batch = trials[numbers.start : numbers.stop]
            if batch:
                algorithm.expect([trial.architecture for trial in batch])
                evaluation.begin(batch)
                in_flight.append(range(numbers.start, numbers.start + len(batch)))
            if len(batch) < len(numbers):
                break  # the space is exhausted
        for numbers in in_flight:
            _tell(problem, algorithm, evaluation.finished(numbers))
        return trials[:num_trials]


class _Evaluation:
    """Trials on their way from proposed to finished.

    Attributes:
        trials: all of the store, in the order of their numbers, as they are now.
    """

    def __init__(
        self,
        store: TrialStore,
        evaluate: Evaluate,
        max_consecutive_failures: int,
        on_trial: Callable[[Trial], None] | None,
    ) -> None:
        self.trials = store.trials()
        self._store, self._evaluate, self._on_trial = store, evaluate, on_trial
        self._max_failures, self._num_failures = max_consecutive_failures, 0
        self._unfinished: set[int] = set()
        self._asked: list[Trial] = []
        self._answers: Iterator[Trial] = iter(())

    def begin(self, batch: Sequence[Trial]) -> None:
        """Have the trials evaluated that are not finished yet."""
        news = [trial for trial in batch if not trial.state.is_finished]
        if not self._unfinished:
            self._asked = []
            self._answers = iter(self._evaluate(self._asked)) if news else iter(())
        self._asked += news
        self._unfinished.update(trial.number for trial in news)

    def finished(self, numbers: range) -> list[Trial]:
        """Trials that were begun, once all of them are finished; meanwhile others may finish, too.

        Raises:
            WorkError: if too many in a row failed.
        """
        while not self._unfinished.isdisjoint(numbers):
            self._finish(next(self._answers))
        return self.trials[numbers.start : numbers.stop]

    def _finish(self, trial: Trial) -> None:
        self._store.finish(trial)
        self.trials[trial.number] = trial
        self._unfinished.remove(trial.number)
        if self._on_trial is not None:
            self._on_trial(trial)
        self._num_failures = self._num_failures + 1 if trial.state is TrialState.FAILED else 0
        if self._num_failures >= self._max_failures:
            raise WorkError(
                f"{self._num_failures} trials in a row failed, the last with: {trial.error}; "
                "mend the cause and run the same command again"
            )


def _batches(num_initial: int, num_trials: int, batch_size: int) -> Iterator[range]:
    """Numbers of the trials of every batch."""
    if num_initial:
        yield range(min(num_initial, num_trials))
    for start in range(num_initial, num_trials, batch_size):
        yield range(start, min(start + batch_size, num_trials))


def _tell(problem: SearchProblem, algorithm: SearchAlgorithm, batch: Sequence[Trial]) -> None:
    """Tell the batch; a failed trial has losses that are no number."""
    unknown = {o.metric: math.nan for o in problem.objectives}
    unknown |= {c.metric: math.nan for c in problem.constraints}
    measurements = [trial.measurements or unknown for trial in batch]
    algorithm.tell(
        [trial.architecture for trial in batch],
        losses_of(problem.objectives, measurements),
        violations_of(problem.constraints, measurements),
    )
