"""Tables of measured architectures: what the files hold, and what is said where they are absent."""

import os
from pathlib import Path

import numpy as np
import pytest

from nasbench.errors import RequestError, WorkError
from nasbench.tasks.tables import TABLES

DATA = Path(os.environ.get("NASBENCH_DATA", "data"))
needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (DATA / "nas" / "nasbench201.npz").is_file(),
        reason="needs the tables of measured architectures in NASBENCH_DATA",
    ),
]


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_file_is_named_with_its_source_and_place(name, tmp_path):
    with pytest.raises(RequestError, match=r"(npz|csv\.gz)'; the file is made from.*put it there"):
        TABLES[name](tmp_path)
    with pytest.raises(RequestError, match="set NASBENCH_DATA"):
        TABLES[name](None)


@pytest.fixture(scope="module")
def cells():
    return TABLES["nas_bench_201"](DATA)


@pytest.fixture(scope="module", params=TABLES)
def table(request):
    return TABLES[request.param](DATA)


class TestTables:
    pytestmark = needs_data

    def test_rows_are_members_of_the_space(self, table):
        assert (table.space.canonical_genomes(table.genomes) == table.genomes).all()

    def test_every_metric_has_a_value_per_row(self, table):
        for name, values in table.metrics.items():
            assert values.shape == (len(table.genomes),), name
            assert values.dtype == np.float64
            assert np.isfinite(values[table.rows(name)]).all()
            assert len(table.rows(name)) > 1000

    def test_what_was_measured_can_be_looked_up(self, table):
        for name in table.metrics:
            row = table.rows(name)[7]
            architecture = table.space.from_genome(table.genomes[row])
            assert table.look_up(architecture, name) == table.metrics[name][row]


class TestNASBench201:
    pytestmark = needs_data

    def test_the_best_cells_are_the_published_ones(self, cells):
        for name, row, accuracy in (
            ("cifar10", 6111, 94.37),
            ("cifar100", 9930, 73.51),
            ("imagenet16_120", 857, 47.31),
        ):
            errors = cells.metrics[f"{name}.top1_error"]
            assert np.argmin(errors) == row
            assert errors[row] == pytest.approx(1 - accuracy / 100, abs=1e-4)

    def test_it_is_all_of_its_space(self, cells):
        assert len(np.unique(cells.genomes, axis=0)) == cells.space.size == 15_625

    def test_what_a_device_cannot_run_fails(self, cells):
        row = np.flatnonzero(cells.unsupported["edgetpu.latency_ms"])[0]
        architecture = cells.space.from_genome(cells.genomes[row])
        with pytest.raises(WorkError, match="edgetpu cannot run"):
            cells.look_up(architecture, "edgetpu.latency_ms")
        assert cells.look_up(architecture, "raspi4.latency_ms") > 0

    def test_what_was_not_measured_is_refused(self, cells):
        architecture = cells.space.from_genome(cells.genomes[0])
        with pytest.raises(RequestError, match=r"has no edgegpu\.latency_ms"):
            cells.look_up(architecture, "edgegpu.latency_ms")
