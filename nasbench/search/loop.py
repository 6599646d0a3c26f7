"""The search loop: ask, evaluate, record, tell.

The store is the loop's memory. A batch is committed before it is evaluated, every trial is
committed as it finishes, and the algorithm learns only what is in the store, in the order of trial
numbers. A resumed search therefore tells a fresh algorithm the same batches, and goes on as the
uninterrupted one would have: an algorithm's state is nothing but what it was told.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from nasbench.errors import WorkError
from nasbench.objectives import losses_of, violations_of
from nasbench.search.base import SearchAlgorithm, SearchProblem
from nasbench.space import Architecture
from nasbench.store import TrialStore
from nasbench.trials import Trial, TrialState

Evaluate = Callable[[Sequence[Trial]], Iterable[Trial]]
"""Takes RUNNING trials and yields each of them finished, in any order."""


def run_search(
    problem: SearchProblem,
    algorithm: SearchAlgorithm,
    store: TrialStore,
    evaluate: Evaluate,
    *,
    num_trials: int,
    batch_size: int,
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
        return _search(
            problem,
            algorithm,
            store,
            evaluate,
            num_trials=num_trials,
            batch_size=batch_size,
            initial=initial,
            max_consecutive_failures=max_consecutive_failures,
            on_trial=on_trial,
        )


def _search(
    problem: SearchProblem,
    algorithm: SearchAlgorithm,
    store: TrialStore,
    evaluate: Evaluate,
    *,
    num_trials: int,
    batch_size: int,
    initial: Sequence[Architecture],
    max_consecutive_failures: int,
    on_trial: Callable[[Trial], None] | None,
) -> list[Trial]:
    """`run_search`, while this process alone writes to the store."""
    known = store.trials()
    seen = {trial.architecture for trial in known}
    failures = 0
    for start, count in _batches(len(initial), num_trials, batch_size):
        batch = known[start : start + count]
        if len(batch) < count:
            proposals = initial[:count] if start < len(initial) else algorithm.ask(count)
            # An earlier process with a smaller budget may have committed the first of these.
            news = [architecture for architecture in proposals if architecture not in seen]
            batch += store.propose(news[: count - len(batch)])
            seen.update(trial.architecture for trial in batch)
        finished = {trial.number: trial for trial in batch if trial.state.is_finished}
        unfinished = [trial for trial in batch if not trial.state.is_finished]
        for trial in evaluate(unfinished) if unfinished else ():
            store.finish(trial)
            finished[trial.number] = trial
            if on_trial is not None:
                on_trial(trial)
            failures = failures + 1 if trial.state is TrialState.FAILED else 0
            if failures >= max_consecutive_failures:
                raise WorkError(
                    f"{failures} trials in a row failed, the last with: {trial.error}; "
                    "mend the cause and run the same command again"
                )
        batch = [finished[trial.number] for trial in batch]
        known[start : start + count] = batch
        if batch:
            _tell(problem, algorithm, batch)
        if len(batch) < count:
            break  # the space is exhausted
    return known[:num_trials]


def _batches(num_initial: int, num_trials: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Number of the first trial and of trials, of every batch."""
    if num_initial:
        yield 0, min(num_initial, num_trials)
    for start in range(num_initial, num_trials, batch_size):
        yield start, min(batch_size, num_trials - start)


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
