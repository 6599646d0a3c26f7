import numpy as np
import pytest

from nasbench.errors import RequestError
from nasbench.objectives import Constraint, Objective
from nasbench.search import SearchProblem
from nasbench.search.problem import CountedMetrics
from nasbench.testing.toys import MIXED_SPACE

ERROR, LATENCY = Objective("top1_error", "minimize"), Objective("latency_ms", "minimize")


def num_macs(architecture):
    return 1000.0 * architecture["depth"]


@pytest.mark.parametrize(
    ("objectives", "constraints", "message"),
    [
        ([], [], "at least one objective"),
        ([ERROR, LATENCY, Objective("top1_error", "maximize")], [], "'top1_error' is an objective"),
        (["top1_error"], [], r"such as Objective.of\('top1_error'\), not 'top1_error'"),
        ([ERROR], [Constraint("num_macs", "<=", 0.6, is_relative=True)], "num_macs <= 60%"),
    ],
)
def test_refusals_are_sentences(objectives, constraints, message):
    with pytest.raises(RequestError, match=message):
        SearchProblem(MIXED_SPACE, objectives, constraints)


def test_objectives_keep_their_order():
    problem = SearchProblem(MIXED_SPACE, [LATENCY, ERROR])
    assert [objective.metric for objective in problem.objectives] == ["latency_ms", "top1_error"]


def test_counted_metrics_are_exact():
    problem = SearchProblem(
        MIXED_SPACE,
        [ERROR, Objective("num_macs", "minimize")],
        [Constraint("num_macs", "<=", 2000.0), Constraint("latency_ms", "<=", 3.0)],
        counted={"num_macs": num_macs},
    )
    counted = CountedMetrics(problem)
    genomes = MIXED_SPACE.sample_genomes(30, np.random.default_rng(0))
    expected = [num_macs(architecture) for architecture in MIXED_SPACE.from_genomes(genomes)]
    assert counted.values(genomes)["num_macs"].tolist() == expected
    assert counted.violations(genomes).tolist() == [max(0, e - 2000) / 2000 for e in expected]
    assert counted.values(genomes[:0])["num_macs"].shape == (0,)


def test_what_nobody_needs_is_not_counted():
    def refuse(_):
        raise AssertionError

    counted = CountedMetrics(SearchProblem(MIXED_SPACE, [ERROR], counted={"num_macs": refuse}))
    genomes = MIXED_SPACE.sample_genomes(3, np.random.default_rng(0))
    assert counted.values(genomes) == {}
    assert counted.violations(genomes).tolist() == [0, 0, 0]


def test_an_architecture_is_counted_once():
    calls = []
    problem = SearchProblem(
        MIXED_SPACE,
        [Objective("num_macs", "minimize")],
        [Constraint("num_macs", "<=", 1.0)],
        counted={"num_macs": lambda architecture: calls.append(architecture) or 1.0},
    )
    counted = CountedMetrics(problem)
    for _ in range(3):
        counted.violations(MIXED_SPACE.to_genomes([MIXED_SPACE.largest] * 2))
    assert calls == [MIXED_SPACE.largest]
