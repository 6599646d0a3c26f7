"""What every task promises: disjoint splits, and batches that follow from seed and epoch alone."""

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.tasks import TASKS
from nasbench.tasks.base import IGNORED, prefetched

TEXT = {"sst2": {"vocab_size": 600, "max_length": 32}, "multi30k": {"vocab_size": 4000}}
WITH_DATA = {"fashion_mnist": {}, "language_model": {"vocab_size": 256}, **TEXT}


@pytest.fixture(
    params=["digits", *(pytest.param(name, marks=pytest.mark.data) for name in WITH_DATA)],
    scope="module",
)
def make_task(request):
    """Builds the task anew at each call."""
    if request.param == "digits":
        return lambda: TASKS["digits"](None)
    data_dir = request.getfixturevalue("data_dir")
    return lambda: TASKS[request.param](data_dir, **WITH_DATA[request.param])


@pytest.fixture(scope="module")
def task(make_task):
    return make_task()


def test_every_task_is_enrolled():
    assert {"digits", "image_folder", *WITH_DATA} == set(TASKS)  # the folder has tests of its own


def same(first, second):
    return torch.equal(first.targets, second.targets) and all(
        torch.equal(a, b) for a, b in zip(first.inputs, second.inputs, strict=True)
    )


class TestTaskContract:
    def test_has_three_splits(self, task):
        assert set(task.splits) == {"train", "validation", "test"}
        assert len(set(task.digests().values())) == 3

    def test_no_sample_is_in_two_splits(self, task):
        def samples(split):
            batch = task.load(split, torch.arange(min(300, len(task.splits[split]))))
            pairs = zip(*batch.inputs, batch.targets, strict=True)
            return {tuple(map(str, (t.tolist() for t in pair))) for pair in pairs}

        found = [samples(split) for split in task.splits]
        assert not found[0] & found[1]
        assert not found[0] & found[2]
        assert not found[1] & found[2]

    def test_splits_are_the_same_each_time(self, make_task, task):
        assert make_task().digests() == task.digests()

    def test_an_epoch_follows_from_seed_and_number(self, task):
        def first(seed, number):
            return task.epoch(16, seed=seed, epoch=number).load(0)

        assert same(first(0, 3), first(0, 3))
        assert not same(first(0, 3), first(0, 4))
        assert not same(first(0, 3), first(1, 3))

    def test_an_epoch_visits_a_sample_at_most_once(self, task):
        generator = torch.Generator().manual_seed(0)
        batches = task.shuffled(50, generator)
        assert {len(indices) for indices in batches} == {50}
        assert len(batches) == len(task.splits["train"]) // 50 == task.num_batches(50)
        assert len(torch.cat(batches).unique()) == 50 * len(batches)

    def test_a_sample_is_augmented_alike_in_any_part_of_the_batch(self, task):
        epoch = task.epoch(12, seed=0, epoch=0)
        targets = [
            torch.cat([epoch.load(1, part, parts).targets.flatten() for part in range(parts)])
            for parts in (1, 2, 3)
        ]
        kept = [of[of != IGNORED] for of in targets]
        assert torch.equal(kept[0], kept[1])
        assert torch.equal(kept[0], kept[2])
        whole, first = epoch.load(1), epoch.load(1, 0, 3)
        length = first.inputs[0].shape[1]
        assert torch.equal(whole.inputs[0][:4, :length], first.inputs[0])

    def test_parts_have_the_targets_of_the_whole(self, task):
        epoch = task.epoch(12, seed=0, epoch=0)
        held = sum(int((epoch.load(0, part, 3).targets != IGNORED).sum()) for part in range(3))
        assert held == epoch.num_targets(0)

    def test_evaluation_visits_every_sample_once(self, task):
        for split, samples in task.splits.items():
            indices = torch.cat(task.in_order(split, 64))
            assert torch.equal(indices.sort().values, torch.arange(len(samples)))
        some = torch.cat(task.in_order("validation", 64, num_samples=100))
        assert torch.equal(some.sort().values, torch.arange(100))

    def test_a_batch_larger_than_the_data_is_refused(self, task):
        with pytest.raises(RequestError, match=r"lower training\.batch_size"):
            task.num_batches(10**9)


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
