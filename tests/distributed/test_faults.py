"""What clusters do: workers, nodes, drivers, heads and database servers that are killed or hang.

Real processes, seeded moments. Whatever happens, the search ends with the trials of an
uninterrupted one: each there once, none invented, the same architectures in the same order.
"""

import time

import pytest

from nasbench.testing.faults import Cluster, play

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NO_DIFFERENCES = {"missing": 0, "twice": 0, "invented": 0, "other": 0}


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


ROUNDS = [
    (kind, seed) for kind in ("worker", "node", "driver", "server", "head") for seed in (0, 1)
]


@pytest.mark.parametrize(("kind", "seed"), [*ROUNDS, ("hang", 0)])
def test_a_search_survives(kind, seed, cluster, postgresql):
    def restart_server():
        postgresql.kill()
        time.sleep(0.3)
        postgresql.start()

    outcome = play(kind, cluster, postgresql.new_store(), seed, restart_server)
    assert outcome["differences"] == NO_DIFFERENCES
