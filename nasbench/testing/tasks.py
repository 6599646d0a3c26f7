"""The contract of tasks: subclass it with a fixture that builds yours.

class TestMyTask(TaskContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_task(cls):
        return lambda: my_task(Path("data"))
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.tasks import Batch, SplitName, Task
from nasbench.tasks.base import IGNORED


def same(first: Batch, second: Batch) -> bool:
    """Whether two batches are equal, bit for bit."""
    if not torch.equal(first.targets, second.targets):
        return False
    return all(torch.equal(a, b) for a, b in zip(first.inputs, second.inputs, strict=True))


class TaskContract:
    """What every task promises: disjoint splits, and batches of seed and epoch alone.

    It must have at least 100 training samples.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def make_task(cls) -> Callable[[], Task]:
        raise NotImplementedError("a subclass builds its task here")

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls, make_task: Callable[[], Task]) -> Task:
        return make_task()

    def test_has_three_splits(self, task):
        assert set(task.splits) == {"train", "validation", "test"}
        assert len(set(task.digests().values())) == 3

    def test_no_sample_is_in_two_splits(self, task):
        def samples(split: SplitName) -> set[tuple[str, ...]]:
            batch = task.load(split, torch.arange(min(300, len(task.splits[split]))))
            rows = zip(*batch.inputs, batch.targets, strict=True)
            return {tuple(str(tensor.tolist()) for tensor in row) for row in rows}

        train, validation, test = (samples(split) for split in task.splits)
        assert not train & validation
        assert not train & test
        assert not validation & test

    def test_splits_are_the_same_each_time(self, make_task, task):
        assert make_task().digests() == task.digests()

    def test_an_epoch_follows_from_seed_and_number(self, task):
        def first(seed: int, number: int) -> Batch:
            return task.epoch(16, seed=seed, epoch=number).load(0)

        assert same(first(0, 3), first(0, 3))
        assert not same(first(0, 3), first(0, 4))
        assert not same(first(0, 3), first(1, 3))

    def test_an_epoch_visits_a_sample_at_most_once(self, task):
        batches = task.shuffled(50, torch.Generator().manual_seed(0))
        assert {len(indices) for indices in batches} == {50}
        assert len(batches) == len(task.splits["train"]) // 50 == task.num_batches(50)
        assert len(torch.cat(batches).unique()) == 50 * len(batches)

    def test_a_sample_is_augmented_alike_in_any_part_of_the_batch(self, task):
        epoch = task.epoch(12, seed=0, epoch=0)

        def targets(num_parts: int) -> Tensor:
            parts = (epoch.load(1, part, num_parts).targets for part in range(num_parts))
            joined = torch.cat([part.flatten() for part in parts])
            return joined[joined != IGNORED]

        assert torch.equal(targets(1), targets(2))
        assert torch.equal(targets(1), targets(3))
        whole, first = epoch.load(1), epoch.load(1, 0, 3)
        length = first.inputs[0].shape[1]  # padding is that of the part
        assert torch.equal(whole.inputs[0][:4, :length], first.inputs[0])

    def test_parts_have_the_targets_of_the_whole(self, task):
        epoch = task.epoch(12, seed=0, epoch=0)
        parts = [epoch.load(0, part, 3).targets for part in range(3)]
        if parts[0].dtype != torch.int64:  # probabilities of mixed images, one row each
            assert sum(map(len, parts)) == epoch.num_targets(0)
        else:
            assert sum(int((part != IGNORED).sum()) for part in parts) == epoch.num_targets(0)

    def test_evaluation_visits_every_sample_once(self, task):
        for split, samples in task.splits.items():
            indices = torch.cat(task.in_order(split, 64))
            assert torch.equal(indices.sort().values, torch.arange(len(samples)))
        count = min(100, len(task.splits["validation"]))
        some = torch.cat(task.in_order("validation", 64, num_samples=count))
        assert torch.equal(some.sort().values, torch.arange(count))

    def test_a_batch_larger_than_the_data_is_refused(self, task):
        with pytest.raises(RequestError, match=r"lower training\.batch_size"):
            task.num_batches(10**9)
