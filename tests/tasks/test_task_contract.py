"""Every task passes the contract; and batches are prepared beside the work."""

import pytest

from nasbench.tasks import TASKS
from nasbench.tasks.base import prefetched
from nasbench.testing.tasks import TaskContract

WITH_DATA = {
    "fashion_mnist": {},
    "language_model": {"vocab_size": 256},
    "sst2": {"vocab_size": 600, "max_length": 32},
    "multi30k": {"vocab_size": 4000},
}


class TestTaskContract(TaskContract):
    @pytest.fixture(
        params=["digits", *(pytest.param(name, marks=pytest.mark.data) for name in WITH_DATA)],
        scope="class",
    )
    @classmethod
    def make_task(cls, request):
        if request.param == "digits":
            return lambda: TASKS["digits"](None)
        data_dir = request.getfixturevalue("data_dir")
        return lambda: TASKS[request.param](data_dir, **WITH_DATA[request.param])


class TestMixedImages(TaskContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_task(cls):
        return lambda: TASKS["digits"](None, mixup=0.2)


def test_every_task_is_enrolled():
    assert {"digits", "image_folder", *WITH_DATA} == set(TASKS)  # the folder has tests of its own


class TestPrefetching:
    def test_gives_the_same_items(self):
        assert list(prefetched(iter(range(100)))) == list(range(100))

    def test_an_error_arrives_where_the_items_are_used(self):
        def items():
            yield 1
            raise ValueError("no more")

        found = prefetched(items())
        assert next(found) == 1
        with pytest.raises(ValueError, match="no more"):
            next(found)

    def test_stops_preparing_when_nobody_listens(self):
        prepared = []

        def items():
            for number in range(1000):
                prepared.append(number)
                yield number

        found = prefetched(items(), depth=2)
        next(found)
        found.close()
        count = len(prepared)
        assert count <= 5
        assert len(prepared) == count
