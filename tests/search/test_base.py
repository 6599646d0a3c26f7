"""What `SearchAlgorithm` does for whoever implements `_propose`."""

import numpy as np
import pytest

from nasbench.objectives import Constraint
from nasbench.search import SearchAlgorithm, SearchProblem
from nasbench.search.random_search import RandomSearch
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, TINY_SPACE, ToyProblem

TOY = ToyProblem(MIXED_SPACE)


class Scripted(SearchAlgorithm):
    """Proposes what it is given, and remembers what it was asked with."""

    def __init__(self, problem, genomes, seed=0):
        super().__init__(problem, seed)
        self.script, self.draws = genomes, []

    def _propose(self, count, rng):
        self.draws.append(rng.random())
        return self.script


def test_the_first_new_candidates_are_taken_in_their_order():
    genomes, losses = TOY.sample(10)
    algorithm = Scripted(TOY.problem, np.repeat(genomes, 2, axis=0))
    architectures = MIXED_SPACE.from_genomes(genomes)
    algorithm.tell(architectures[:3], losses[:3])
    assert algorithm.ask(4) == architectures[3:7]
    assert algorithm.ask(3) == architectures[7:]


def test_candidates_need_not_be_canonical():
    genomes, _ = TOY.sample(10)
    scrambled = np.where(MIXED_SPACE.active(genomes), genomes, MIXED_SPACE.num_choices - 1)
    algorithm = Scripted(TOY.problem, np.concatenate([scrambled, genomes]))
    assert algorithm.ask(10) == MIXED_SPACE.from_genomes(genomes)
    assert set(algorithm.ask(5)).isdisjoint(MIXED_SPACE.from_genomes(genomes))


def test_what_is_missing_is_completed():
    genomes, _ = TOY.sample(3)
    asked = Scripted(TOY.problem, genomes).ask(8)
    assert asked[:3] == MIXED_SPACE.from_genomes(genomes)
    assert len(set(asked)) == 8


def test_what_was_handed_out_stays_as_more_is_told():
    genomes, losses = TOY.sample(90)
    architectures = MIXED_SPACE.from_genomes(genomes)
    algorithm = RandomSearch(TOY.problem)
    algorithm.tell(architectures[:30], losses[:30])
    early = algorithm.genomes, algorithm.losses, algorithm.violations
    for start in range(30, 90, 10):
        algorithm.tell(architectures[start : start + 10], losses[start : start + 10])
    np.testing.assert_array_equal(algorithm.genomes, genomes)
    np.testing.assert_array_equal(algorithm.losses, losses)
    np.testing.assert_array_equal(early[0], genomes[:30])
    np.testing.assert_array_equal(early[1], losses[:30])
    assert len(early[2]) == 30


def test_every_question_draws_anew_and_repeats_in_a_replay():
    genomes, losses = TOY.sample(30)
    architectures = MIXED_SPACE.from_genomes(genomes)
    first, replay = Scripted(TOY.problem, genomes), Scripted(TOY.problem, genomes)
    for start in (0, 10, 20):
        first.ask(5)
        first.ask(5)
        first.tell(architectures[start : start + 10], losses[start : start + 10])
    first.ask(5)
    assert len(set(first.draws)) == 7
    for start in (0, 10, 20):
        replay.tell(architectures[start : start + 10], losses[start : start + 10])
    replay.ask(5)
    assert replay.draws == first.draws[-1:]
    assert Scripted(TOY.problem, genomes, seed=1).ask(1)


def test_what_was_measured_is_kept_in_order_and_once():
    genomes, losses = TOY.sample(6)
    architectures = MIXED_SPACE.from_genomes(genomes)
    algorithm = Scripted(TOY.problem, genomes)
    failed = np.array([[False], [True], [False], [False]])
    algorithm.tell(architectures[:4], np.where(failed, np.nan, losses[:4]))
    algorithm.tell(architectures[1:] + architectures[1:], np.tile(losses[1:], (2, 1)) + 0.0)
    algorithm.tell(architectures, losses + 1.0)
    order = [0, 2, 3, 1, 4, 5]
    assert (algorithm.genomes == genomes[order]).all()
    assert (algorithm.losses == losses[order]).all()
    assert (algorithm.violations == 0).all()


def test_violations_that_are_infinite_say_that_nothing_was_measured():
    problem = SearchProblem(TINY_SPACE, TOY.problem.objectives, [Constraint("latency_ms", "<=", 1)])
    algorithm = Scripted(problem, np.zeros((1, 3), dtype=int))
    algorithm.tell(list(TINY_SPACE.enumerate())[:2], np.zeros((2, 2)), np.array([np.inf, 0.5]))
    assert algorithm.violations.tolist() == [0.5]


def test_pending_is_what_was_asked_and_not_told():
    algorithm = RandomSearch(TOY.problem)
    assert algorithm.pending.shape == (0, len(MIXED_SPACE))
    asked = algorithm.ask(5)
    algorithm.tell(asked[1:3], np.zeros((2, 2)))
    assert MIXED_SPACE.from_genomes(algorithm.pending) == [asked[0], *asked[3:]]


@pytest.mark.parametrize("bound", [30.0, 12.0])
def test_feasible_candidates_are_found_where_chance_would_not(bound):
    def size(architecture):
        return float(MOBILE_SPACE.to_genome(architecture).sum())

    random = MOBILE_SPACE.from_genomes(MOBILE_SPACE.sample_genomes(1000, np.random.default_rng(0)))
    assert min(map(size, random)) > 12
    problem = SearchProblem(
        MOBILE_SPACE, TOY.problem.objectives, [Constraint("size", "<=", bound)], {"size": size}
    )
    assert max(map(size, RandomSearch(problem).ask(16))) <= bound
