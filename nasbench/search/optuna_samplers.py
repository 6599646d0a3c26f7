"""Optuna's samplers as search algorithms. One of the two doors to Optuna; the other is the store.

A study in memory holds what was told. For every `ask` a sampler is made anew, seeded by what the
base class draws from, and what is pending is shown to it as running, so that nothing of an
earlier `ask` matters. Ordinal dimensions are integers and the others categories, all of them
choice indices. Constraints go through Optuna's own mechanism as one number, the violation.
"""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasbench.errors import RequestError
from nasbench.search.base import SearchAlgorithm
from nasbench.search.problem import SearchProblem, genome_keys
from nasbench.search.selection import best_rows
from nasbench.space import ElasticDimension, Genomes


class OptunaAlgorithm(SearchAlgorithm):
    """A sampler of Optuna in a nasbench search.

    Attributes:
        attempts_per_proposal: how often a sampler that proposes what is known may try again;
            what it then lacks is drawn at random.
        is_conditional: whether the sampler learns from trials that lack inactive dimensions.
            For those that do not, every trial has all dimensions.
    """

    attempts_per_proposal: ClassVar[int] = 2
    is_conditional: ClassVar[bool] = False

    def __init__(self, problem: SearchProblem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        self._distributions = {d.name: _distribution(d) for d in problem.space}
        self._position = {name: column for column, name in enumerate(self._distributions)}
        self._study = self._empty_study()
        self._num_learned = 0

    @abstractmethod
    def _sampler(self, seed: int) -> BaseSampler:
        """A new sampler."""

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        with _quiet():
            self._learn()
            self._study.sampler = self._sampler(int(rng.integers(2**31)))
            running = [self._running(genome) for genome in self.pending]
            proposed: dict[bytes, Genomes] = {}
            for _ in range(self.attempts_per_proposal * count):
                trial = self._study.ask()
                genome = self._suggested(trial)
                (key,) = genome_keys(genome[None])
                if not self.is_known(key):
                    proposed.setdefault(key, genome)
                running.append(trial.number)
                if len(proposed) == count:
                    break
            for number in running:
                self._study.tell(number, state=TrialState.FAIL)
        shape = len(proposed), len(self.problem.space)
        return np.array(list(proposed.values()), dtype=np.int64).reshape(shape)

    def _empty_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(directions=["minimize"] * len(self.problem.objectives))

    def _learn(self) -> None:
        """Add to the study what was told since the last time."""
        new = range(self._num_learned, len(self.genomes))
        self._study.add_trials([self._as_optuna(row) for row in new])
        self._num_learned = len(self.genomes)

    def _as_optuna(self, row: int, **settings: Any) -> FrozenTrial:
        """A measured trial as Optuna has it."""
        names = self._names(self.genomes[row])
        return create_trial(
            params=self._params(names, self._with_inactive(row)),
            distributions={name: self._distributions[name] for name in names},
            values=self.losses[row].tolist(),
            constraints=self._constraints(row),
            **settings,
        )

    def _constraints(self, row: int) -> dict[str, float]:
        return {"violation": float(self.violations[row])}

    def _running(self, genome: Genomes) -> int:
        """Show a pending genome to the sampler; the number by which to take it back."""
        names = self._names(genome)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=self._params(names, genome),
                distributions={name: self._distributions[name] for name in names},
            )
        )
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _names(self, genome: Genomes) -> list[str]:
        """The dimensions that a trial of this genome has."""
        if not self.is_conditional:
            return list(self._distributions)
        active = self.problem.space.active(genome[None])[0]
        return [
            name for name, is_active in zip(self._distributions, active, strict=True) if is_active
        ]

    def _params(self, names: Sequence[str], genome: Genomes) -> dict[str, int]:
        return {name: int(genome[self._position[name]]) for name in names}

    def _with_inactive(self, row: int) -> Genomes:
        """The genome of a measured trial with what the sampler is to read in inactive places."""
        genome: Genomes = self.genomes[row]
        return genome

    def _suggested(self, trial: optuna.Trial) -> Genomes:
        """The canonical genome that a sampler suggests, dimension by dimension."""
        space = self.problem.space
        genome = np.zeros(len(space), dtype=np.int64)
        for column, (name, distribution) in enumerate(self._distributions.items()):
            if not self.is_conditional or space.active(genome[None])[0, column]:
                genome[column] = trial._suggest(name, distribution)
        canonical: Genomes = space.canonical_genomes(genome[None])[0]
        return canonical


class TPE(OptunaAlgorithm):
    """Tree-structured Parzen estimators: choices more frequent among the best than the rest.

    Bergstra, Bardenet, Bengio and Kegl, Algorithms for Hyper-Parameter Optimization (NeurIPS
    2011); for several objectives Ozaki, Tanigaki, Watanabe and Onishi (GECCO 2020). Inactive
    dimensions are not suggested, and not learned from.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        multivariate: whether dimensions that are active together are modelled together
            (Optuna calls this a group); by default each is alone, Optuna's own default for
            several objectives, which takes longer.
    """

    is_conditional = True

    def __init__(
        self, problem: SearchProblem, seed: int = 0, *, multivariate: bool = False
    ) -> None:
        super().__init__(problem, seed)
        self._multivariate = multivariate

    def _sampler(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed, multivariate=self._multivariate, group=self._multivariate)


class OptunaNSGA2(OptunaAlgorithm):
    """Optuna's NSGA-II, whose generations are `population` trials in the order told.

    Deb et al. (IEEE TEC 2002). Dimensions that were inactive in a parent are uniformly random in
    it, so that what a child activates does not lean towards first choices.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        population: trials of a generation; 50 is Optuna's default.
    """

    def __init__(self, problem: SearchProblem, seed: int = 0, *, population: int = 50) -> None:
        if population < 2:
            raise RequestError(f"a population has at least two members, but it was {population}")
        super().__init__(problem, seed)
        self._population = population

    def _sampler(self, seed: int) -> BaseSampler:
        return NSGAIISampler(population_size=self._population, seed=seed)

    def _learn(self) -> None:
        """As in `OptunaAlgorithm`, and choose the parents of every generation.

        Optuna, when it chooses them during a proposal, has them in another order there.
        """
        super()._learn()
        sampler = NSGAIISampler(population_size=self._population)
        for generation in range(1, len(self.genomes) // self._population + 1):
            sampler.get_parent_population(self._study, generation)

    def _as_optuna(self, row: int, **settings: Any) -> FrozenTrial:
        generation = {NSGAIISampler._get_generation_key(): row // self._population}
        return super()._as_optuna(row, system_attrs=generation, **settings)

    def _with_inactive(self, row: int) -> Genomes:
        space = self.problem.space
        genome = self.genomes[row]
        drawn = self._rng(row).integers(0, space.num_choices)
        return np.where(space.active(genome[None])[0], genome, drawn)


class GP(OptunaAlgorithm):
    """Gaussian processes, one per objective, and the expected hypervolume improvement.

    Optuna's own, which needs torch. Inactive dimensions stand at their first choice. Every
    proposal of a batch refits the processes, in time cubic in the trials, so they learn from
    `max_trials` at most: the best by rank and crowding distance. It takes seconds per
    proposal nevertheless.

    Args:
        problem: what to search for.
        seed: of all randomness, at least 0.
        num_initial: measured trials before the first model.
        max_trials: the most trials to learn from.
    """

    attempts_per_proposal = 1

    def __init__(
        self,
        problem: SearchProblem,
        seed: int = 0,
        *,
        num_initial: int = 20,
        max_trials: int = 200,
    ) -> None:
        if num_initial < 1 or max_trials < num_initial:
            raise RequestError(
                "num_initial is at least 1 and at most max_trials, but they were "
                f"{num_initial} and {max_trials}"
            )
        super().__init__(problem, seed)
        self._num_initial = num_initial
        self._max_trials = max_trials

    def _propose(self, count: int, rng: np.random.Generator) -> Genomes:
        if len(self.genomes) < self._num_initial or self.problem.space.size == 1:
            return self.problem.space.sample_choices(count, rng)
        return super()._propose(count, rng)

    def _learn(self) -> None:
        best = best_rows(self.losses, self.violations, self._max_trials)
        self._study = self._empty_study()
        self._study.add_trials([self._as_optuna(row) for row in sorted(best)])

    def _constraints(self, row: int) -> dict[str, float]:
        return super()._constraints(row) if self.violations.any() else {}

    def _sampler(self, seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)


def _distribution(dimension: ElasticDimension) -> BaseDistribution:
    last = len(dimension.choices) - 1
    if dimension.is_ordinal:
        return IntDistribution(0, last)
    return CategoricalDistribution(range(last + 1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings that something is experimental in Optuna; the caller chose it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
