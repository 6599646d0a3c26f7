"""The contract of training strategies: subclass it, and every entry of `STRATEGIES` is enrolled.

A strategy of your own passes the same tests once it is registered, or under the name by which a
configuration calls it:

    class TestMyStrategy(StrategyContract):
        names = ("my_package.my_module:MyStrategy",)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Architecture, Choice, ElasticDimension, SearchSpace
from nasbench.supernet import SUPERNETS
from nasbench.supernet.training.strategies import (
    STRATEGIES,
    Assignment,
    Contest,
    Exits,
    Phase,
    build_strategy,
)


class ToySubnetworks:
    """A space of kernels, depths and widths whose MACs can be read off."""

    def __init__(self) -> None:
        self.space = SearchSpace(
            [
                ElasticDimension("stage.depth", (1, 2, 3)),
                ElasticDimension("block1.kernel_size", (3, 5, 7)),
                ElasticDimension("block1.width", (8, 16, 24, 32)),
                ElasticDimension("block3.width", (8, 16), ActiveWhen("stage.depth", (3,))),
            ]
        )

    def count(self, a: Mapping[str, Choice], /) -> Mapping[str, int]:
        """Depth times kernel area times width."""
        depth, side, width = (
            int(a[name]) for name in ("stage.depth", "block1.kernel_size", "block1.width")
        )
        return {"num_macs": depth * side**2 * width}

    def shape_of(self, a: Architecture, /) -> tuple[Choice, ...]:
        """Depth, kernel side and width."""
        return a["stage.depth"], a["block1.kernel_size"], a["block1.width"]


def architectures(assignments: Iterable[Assignment]) -> Iterator[Architecture]:
    """Every architecture that might be trained."""
    for assignment in assignments:
        chosen = assignment.architecture
        if isinstance(chosen, Exits):
            yield chosen.deepest
        else:
            yield from chosen.candidates if isinstance(chosen, Contest) else (chosen,)


class StrategyContract:
    """What every training strategy promises."""

    names: ClassVar[Sequence[str]] = ()
    num_epochs: ClassVar[int] = 12

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names or sorted(STRATEGIES))

    @pytest.fixture
    def space(self) -> SearchSpace:
        return ToySubnetworks().space

    @pytest.fixture
    def phases(self, name: str) -> list[Phase]:
        return build_strategy(name, ToySubnetworks(), {}).phases(self.num_epochs)

    def test_phases_last_as_long_as_training(self, name):
        for num_epochs in (6, 7, 12, 100):
            phases = build_strategy(name, ToySubnetworks(), {}).phases(num_epochs)
            assert sum(phase.num_epochs for phase in phases) == num_epochs
            assert all(phase.num_epochs >= 1 for phase in phases)

    def test_architectures_are_members_of_the_space(self, phases, space):
        for phase in phases:
            for architecture in architectures(phase.assign(np.random.default_rng(0))):
                assert space.canonical(architecture) == architecture

    def test_same_generator_same_assignments(self, phases):
        for phase in phases:
            first, second = (phase.assign(np.random.default_rng(5)) for _ in range(2))
            assert first == second

    def test_whoever_learns_from_the_largest_comes_after_it(self, phases, space):
        for phase in phases:
            first, *others = phase.assign(np.random.default_rng(0))
            assert first.labels > 0
            if any(other.largest for other in others):
                assert first.architecture == space.largest

    def test_there_is_a_teacher_before_anyone_learns_from_it(self, phases):
        is_frozen = False
        for phase in phases:
            is_frozen |= "freeze_teacher" in phase.preparations
            found = phase.assign(np.random.default_rng(0))
            assert is_frozen or not any(assignment.teacher for assignment in found)

    def test_every_assignment_has_a_target(self, phases):
        for phase in phases:
            for assignment in phase.assign(np.random.default_rng(0)):
                assert min(assignment.labels, assignment.largest, assignment.teacher) >= 0
                assert assignment.labels + assignment.largest + assignment.teacher > 0

    def test_an_unknown_option_is_refused(self, name):
        with pytest.raises(RequestError, match=f"do not fit '{name}'.*no_such_option"):
            build_strategy(name, ToySubnetworks(), {"no_such_option": 1})

    def test_works_with_every_family(self, name):
        for family in SUPERNETS:
            supernet = SUPERNETS[family].build("tiny")
            for phase in build_strategy(name, supernet, {}).phases(self.num_epochs):
                for architecture in architectures(phase.assign(np.random.default_rng(0))):
                    supernet.activate(architecture)
