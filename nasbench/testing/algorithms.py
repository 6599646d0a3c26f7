"""The contract of search algorithms: subclass it, and every entry of `ALGORITHMS` is enrolled.

An algorithm of your own passes the same tests once it is registered, or under the name by which
a configuration calls it:

    class TestMyAlgorithm(SearchAlgorithmContract):
        names = ("my_package.my_module:MyAlgorithm",)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from nasbench.errors import MissingExtraError, RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.search import ALGORITHMS, SearchAlgorithm, SearchProblem
from nasbench.space import Architecture, SearchSpace
from nasbench.testing.toys import (
    MIXED_SPACE,
    MOBILE_SPACE,
    ONLY_SPACE,
    TINY_SPACE,
    ToyProblem,
)

Make = Callable[..., SearchAlgorithm]

TOY = ToyProblem(MIXED_SPACE)
NUM_LEARNED = 60  # trials after which an algorithm does not propose at random any more


class SearchAlgorithmContract:
    """What every algorithm promises, before it has learned anything and after."""

    names: ClassVar[Sequence[str]] = ()
    nightly: ClassVar[Sequence[str]] = ()  # those of them whose tests are marked `nightly`

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "make" in metafunc.fixturenames:
            names = [
                pytest.param(name, marks=pytest.mark.nightly if name in self.nightly else ())
                for name in self.names or sorted(ALGORITHMS)
            ]
            metafunc.parametrize("make", names, indirect=True)

    @pytest.fixture
    def make(self, request: pytest.FixtureRequest) -> Make:
        make = partial(ALGORITHMS[request.param])
        try:
            make(TOY.problem)
        except MissingExtraError as error:
            pytest.skip(str(error))
        return make

    # -- what is asked ----------------------------------------------------------------------

    @pytest.mark.parametrize("num_told", [0, NUM_LEARNED])
    @pytest.mark.parametrize("space", [MIXED_SPACE, MOBILE_SPACE], ids=["small", "large"])
    def test_proposals_are_distinct_canonical_members(self, make, space, num_told):
        proposed = started(make, ToyProblem(space), num_told).ask(20)
        assert len(set(proposed)) == len(proposed) == 20
        assert [space.canonical(architecture) for architecture in proposed] == proposed

    def test_nothing_known_is_proposed(self, make):
        algorithm = started(make, TOY, NUM_LEARNED)
        known = set(MIXED_SPACE.from_genomes(TOY.sample(NUM_LEARNED)[0]))
        for _ in range(3):  # the second batch finds the first one pending
            first, second = algorithm.ask(9), algorithm.ask(9)
            assert known.isdisjoint(first + second)
            assert set(first).isdisjoint(second)
            known.update(first + second)
            tell(algorithm, TOY, first[::-1])
            tell(algorithm, TOY, second[:4])

    def test_a_question_for_none_is_answered(self, make):
        assert make(TOY.problem).ask(0) == []

    @pytest.mark.parametrize("batch_size", [1, 5, 40])
    def test_a_small_space_is_searched_to_its_end(self, make, batch_size):
        toy = ToyProblem(TINY_SPACE)
        algorithm = make(toy.problem)
        found = []
        while batch := algorithm.ask(batch_size):
            assert len(batch) == min(batch_size, TINY_SPACE.size - len(found))
            found += batch
            tell(algorithm, toy, batch)
        assert len(set(found)) == len(found) == TINY_SPACE.size

    def test_the_last_architectures_are_found_after_learning(self, make):
        algorithm = make(TOY.problem)
        everything = list(MIXED_SPACE.enumerate())
        last = everything[7::211]
        tell(algorithm, TOY, [a for a in everything if a not in set(last)])
        assert set(algorithm.ask(len(last) + 1)) == set(last)
        assert algorithm.ask(1) == []

    @pytest.mark.parametrize("space", [ONLY_SPACE, SearchSpace([])], ids=["fixed", "empty"])
    def test_a_space_of_one_architecture_has_one_proposal(self, make, space):
        algorithm = make(ToyProblem(space).problem)
        assert algorithm.ask(3) == [space.largest]
        tell(algorithm, ToyProblem(space), [space.largest] * NUM_LEARNED)
        assert algorithm.ask(3) == []

    # -- randomness -------------------------------------------------------------------------

    @pytest.mark.parametrize("num_told", [0, NUM_LEARNED])
    def test_the_same_seed_proposes_the_same(self, make, num_told):
        asked = [started(make, TOY, num_told, seed=7).ask(16) for _ in range(2)]
        assert asked[0] == asked[1]

    def test_another_seed_begins_elsewhere(self, make):
        assert make(TOY.problem, seed=7).ask(16) != make(TOY.problem, seed=8).ask(16)

    def test_a_replay_goes_on_as_the_original(self, make):
        original = make(TOY.problem, seed=3)
        batches = []
        for size in (30, 1, 25, 16, 16):
            batches.append(original.ask(size))
            tell(original, TOY, batches[-1])
        replay = make(TOY.problem, seed=3)
        for batch in batches:
            tell(replay, TOY, batch)
        assert replay.ask(12) == original.ask(12)

    # -- what is told -----------------------------------------------------------------------

    def test_failed_trials_are_not_proposed_again(self, make):
        toy = ToyProblem(TINY_SPACE)
        algorithm = make(toy.problem)
        failed = algorithm.ask(5)
        algorithm.tell(failed, np.full((5, 2), np.nan))
        assert set(algorithm.ask(20)) == set(TINY_SPACE.enumerate()) - set(failed)

    def test_failures_among_successes_do_no_harm(self, make):
        algorithm = started(make, TOY, NUM_LEARNED)
        for _ in range(2):
            batch = algorithm.ask(8)
            losses = TOY.losses(MIXED_SPACE.to_genomes(batch))
            losses[::3] = np.nan
            losses[1, 0] = np.inf
            algorithm.tell(batch, losses)
        assert len(algorithm.ask(8)) == 8

    def test_an_architecture_may_be_told_twice(self, make):
        algorithm = started(make, TOY, NUM_LEARNED)
        batch = algorithm.ask(6)
        tell(algorithm, TOY, batch + batch)
        tell(algorithm, TOY, batch)
        assert set(algorithm.ask(12)).isdisjoint(batch)

    def test_equal_losses_are_no_obstacle(self, make):
        algorithm = make(TOY.problem)
        told = MIXED_SPACE.from_genomes(TOY.sample(NUM_LEARNED)[0])
        algorithm.tell(told, np.ones((len(told), 2)))
        assert len(algorithm.ask(10)) == 10

    @pytest.mark.parametrize("num_objectives", [1, 3, 4])
    def test_any_number_of_objectives(self, make, num_objectives):
        toy = ToyProblem(MIXED_SPACE, num_objectives)
        algorithm = started(make, toy, NUM_LEARNED)
        tell(algorithm, toy, algorithm.ask(10))
        assert len(algorithm.ask(10)) == 10

    @pytest.mark.parametrize("bound", [0.0, -9.0], ids=["some feasible", "none feasible"])
    def test_constraints_of_every_kind(self, make, bound):
        problem = SearchProblem(
            MIXED_SPACE,
            TOY.problem.objectives,
            constraints=[
                Constraint("loss0", "<=", bound),
                Constraint("unseen", "<=", bound),
                Constraint("depth", "<=", 2),
            ],
            counted={"depth": lambda architecture: float(architecture["depth"])},
        )
        algorithm = make(problem)
        architectures = MIXED_SPACE.from_genomes(TOY.sample(NUM_LEARNED)[0])
        for _ in range(3):
            losses = TOY.losses(MIXED_SPACE.to_genomes(architectures))
            measured = {"loss0": losses[:, 0], "unseen": losses.sum(axis=1)}
            measured["depth"] = np.array([a["depth"] for a in architectures], dtype=float)
            violations = [
                sum(c.violation(measured[c.metric][row]) for c in problem.constraints)
                for row in range(len(losses))
            ]
            algorithm.tell(architectures, losses, np.array(violations))
            architectures = algorithm.ask(8)
            assert len(architectures) == 8

    def test_what_is_counted_as_infeasible_waits_for_the_end(self, make):
        problem = SearchProblem(
            TINY_SPACE,
            [Objective("loss0", "minimize")],
            constraints=[Constraint("depth", "<=", 1)],
            counted={"depth": lambda architecture: float(architecture["depth"])},
        )
        algorithm = make(problem)
        assert {a["depth"] for a in algorithm.ask(3)} == {1}
        assert {a["depth"] for a in algorithm.ask(9)} == {2}

    # -- refusals ---------------------------------------------------------------------------

    def test_refusals_are_sentences_and_change_nothing(self, make):
        algorithm = started(make, TOY, NUM_LEARNED)
        foreign = list(TINY_SPACE.enumerate())[:2]
        member = [MIXED_SPACE.largest, MIXED_SPACE.smallest]
        constrained = make(
            SearchProblem(MIXED_SPACE, TOY.problem.objectives, [Constraint("x", "<=", 1.0)])
        )
        for refused, message in [
            (lambda: algorithm.ask(-1), "at least 0, but it was -1"),
            (lambda: algorithm.tell(foreign, np.zeros((2, 2))), "elastic dimension"),
            (lambda: algorithm.tell(member, np.zeros((2, 3))), r"losses of shape \(2, 2\)"),
            (lambda: algorithm.tell(member, np.zeros(2)), r"losses of shape \(2, 2\)"),
            (lambda: algorithm.tell(member, np.zeros((2, 2)), np.zeros(3)), r"shape \(2,\)"),
            (lambda: algorithm.tell(member, np.zeros((2, 2)), [0.0, -1.0]), "row 1 is -1"),
            (lambda: constrained.tell(member, np.zeros((2, 2))), "has constraints"),
            (lambda: make(TOY.problem, seed=-1), "seed is at least 0"),
        ]:
            with pytest.raises(RequestError, match=message):
                refused()
        assert algorithm.ask(8) == started(make, TOY, NUM_LEARNED).ask(8)


def started(make: Make, toy: ToyProblem, num_told: int, seed: int = 0) -> SearchAlgorithm:
    """An algorithm that was told random trials, none of which it proposed."""
    algorithm = make(toy.problem, seed=seed)
    if num_told:
        genomes, losses = toy.sample(num_told)
        algorithm.tell(toy.problem.space.from_genomes(genomes), losses)
    return algorithm


def tell(
    algorithm: SearchAlgorithm, toy: ToyProblem, architectures: Sequence[Architecture]
) -> None:
    """Evaluate and tell."""
    space: SearchSpace = toy.problem.space
    algorithm.tell(architectures, toy.losses(space.to_genomes(architectures)))
