import warnings

import numpy as np
import optuna
import pytest

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.search import ALGORITHMS
from nasbench.testing.algorithms import tell
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

TOY = ToyProblem(MOBILE_SPACE)
SMALL = ToyProblem(MIXED_SPACE)
FAST = ["tpe", "optuna_nsga2"]
NAMES = [*FAST, pytest.param("gp", marks=pytest.mark.slow)]  # a process takes seconds to fit


def told(name, toy, num_trials, violations=None, **options):
    algorithm = ALGORITHMS[name](toy.problem, **options)
    genomes, losses = toy.sample(num_trials)
    architectures = toy.problem.space.from_genomes(genomes)
    algorithm.tell(architectures, losses, None if violations is None else violations(genomes))
    return algorithm


@pytest.mark.parametrize("name", NAMES)
def test_each_beats_random_search(name):
    volumes = {}
    for which in ("random", name):
        algorithm = ALGORITHMS[which](SMALL.problem, seed=1)
        while len(algorithm.losses) < (60 if name == "gp" else 120):
            tell(algorithm, SMALL, algorithm.ask(10))
        volumes[which] = hypervolume(algorithm.losses, np.array([2.0, 2.0]))
    assert volumes[name] > 1.05 * volumes["random"]


@pytest.mark.parametrize("name", NAMES)
def test_the_feasible_are_learned_from(name):
    algorithm = told(name, SMALL, 100, lambda genomes: np.where(genomes[:, 4] == 1, 0.0, 1.0))
    proposed = MIXED_SPACE.to_genomes(algorithm.ask(10))
    assert (proposed[:, 4] == 1).mean() > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_the_study_holds_what_was_told_and_nothing_else(name):
    algorithm = told(name, SMALL, 60)
    for _ in range(2):
        algorithm.ask(3)
    states = [trial.state for trial in algorithm._study.get_trials(deepcopy=False)]
    assert states.count(optuna.trial.TrialState.COMPLETE) == 60
    assert optuna.trial.TrialState.RUNNING not in states


def test_what_is_pending_is_shown_as_running():
    algorithm = told("tpe", SMALL, 60)
    pending = algorithm.ask(4)
    seen = []

    class Spy(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):
            running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
            seen.append([other.params for other in running if other.number != trial.number])
            return {}

    algorithm._sampler = lambda seed: Spy(seed)
    algorithm.ask(2)
    assert len(seen[0]) == 4
    assert len(seen[1]) == 5
    depths = [MIXED_SPACE["depth"].index(architecture["depth"]) for architecture in pending]
    assert [params["depth"] for params in seen[0]] == depths


def test_tpe_is_not_told_of_inactive_dimensions():
    algorithm = told("tpe", SMALL, 40)
    algorithm.ask(1)
    for trial, genome in zip(algorithm._study.trials, algorithm.genomes, strict=False):
        active = MIXED_SPACE.active(genome[None])[0]
        names = {d.name for d, is_active in zip(MIXED_SPACE, active, strict=True) if is_active}
        assert trial.params.keys() == names


def test_numbers_are_ordered_and_names_are_not():
    trial = (lambda a: a.ask(1) and a._study.trials[0])(told("optuna_nsga2", SMALL, 5))
    kinds = {name: type(d).__name__ for name, d in trial.distributions.items()}
    assert kinds["depth"] == "IntDistribution"
    assert kinds["norm"] == kinds["is_residual"] == "CategoricalDistribution"


def test_what_a_parent_does_not_have_is_uniform_in_it():
    algorithm = told("optuna_nsga2", SMALL, 300)
    algorithm.ask(1)
    shallow = [t.params for t in algorithm._study.trials[:300] if t.params["depth"] == 0]
    widths = np.bincount([params["block3.width"] for params in shallow], minlength=4)
    assert (widths > 0.15 * len(shallow)).all()


def test_nsga2_has_generations_in_the_order_told():
    algorithm = told("optuna_nsga2", TOY, 45, population=20)
    best_of_the_first = set(MOBILE_SPACE.from_genomes(algorithm.genomes[:40]))
    children = MOBILE_SPACE.to_genomes(algorithm.ask(30))
    parents = MOBILE_SPACE.to_genomes(list(best_of_the_first))
    differing = (children[:, None] != parents[None]).mean(axis=2).min(axis=1)
    random = (TOY.sample(30, seed=9)[0][:, None] != parents[None]).mean(axis=2).min(axis=1)
    assert differing.mean() < 0.8 * random.mean()


@pytest.mark.slow
def test_tpe_can_model_dimensions_together():
    algorithm = told("tpe", SMALL, 60, multivariate=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(algorithm.ask(10))) == 10
    assert algorithm.ask(5) != told("tpe", SMALL, 60).ask(5)


@pytest.mark.slow
def test_gp_learns_from_the_best():
    algorithm = told("gp", SMALL, 60, max_trials=25)
    algorithm.ask(1)
    values = [t.values for t in algorithm._study.trials if t.state.name == "COMPLETE"]
    assert len(values) == 25
    assert np.mean(values) < algorithm.losses.mean()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("optuna_nsga2", {"population": 1}, "at least two members, but it was 1"),
        ("gp", {"num_initial": 0}, "at least 1 and at most max_trials, but they were 0 and 200"),
        ("gp", {"max_trials": 5}, "but they were 20 and 5"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(RequestError, match=message):
        ALGORITHMS[name](SMALL.problem, **options)
