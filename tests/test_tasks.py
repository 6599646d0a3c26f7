"""Tasks: fixed disjoint splits, and training batches that follow from seed and epoch alone."""

from dataclasses import replace

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.tasks import TASKS, Split
from nasbench.tasks.digits import shift


@pytest.fixture(scope="module")
def digits():
    return TASKS["digits"](None)


@pytest.fixture(params=sorted(TASKS), scope="module")
def task(request):
    return TASKS[request.param](None)


class TestTaskContract:
    def test_has_three_splits_with_labels_of_its_classes(self, task):
        assert set(task.splits) == {"train", "validation", "test"}
        for split in task.splits.values():
            assert set(split.targets.tolist()) == set(range(task.num_classes))

    def test_splits_are_disjoint(self, task):
        seen = set()
        for split in task.splits.values():
            images = {image.numpy().tobytes() for image in split.inputs}
            assert not images & seen
            seen |= images

    def test_splits_are_the_same_each_time(self, task):
        assert TASKS[task.name](None).digests() == task.digests()

    def test_batches_are_the_same_for_the_same_seed_and_epoch(self, task):
        def epoch(seed, number):
            batches = task.training_batches(64, seed=seed, epoch=number)
            return torch.cat([targets for _, targets in batches]).tolist()

        assert epoch(0, 3) == epoch(0, 3)
        assert epoch(0, 3) != epoch(0, 4)
        assert epoch(0, 3) != epoch(1, 3)

    def test_an_epoch_visits_a_sample_at_most_once(self, task):
        task = replace(task, augment=lambda inputs, _: inputs)
        batches = list(task.training_batches(50, seed=0, epoch=0))
        assert {len(targets) for _, targets in batches} == {50}
        assert len(batches) == len(task.splits["train"]) // 50
        images = [image.numpy().tobytes() for inputs, _ in batches for image in inputs]
        assert len(set(images)) == len(images)

    def test_a_batch_larger_than_the_data_is_refused(self, task):
        with pytest.raises(RequestError, match=r"lower training\.batch_size"):
            next(task.training_batches(10**9, seed=0, epoch=0))


def test_digits_are_stratified(digits):
    for split in digits.splits.values():
        counts = split.targets.bincount()
        assert counts.max() - counts.min() <= 0.05 * len(split)
    assert [len(s) for s in digits.splits.values()] == [1077, 360, 360]


def test_a_label_outside_the_classes_is_refused(digits):
    bad = Split(torch.zeros(2, 1, 8, 8), torch.tensor([0, 10]))
    with pytest.raises(RequestError, match="labels from 0 to 10"):
        replace(digits, splits={**digits.splits, "test": bad})


def test_an_empty_split_is_refused(digits):
    bad = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(RequestError, match="test split of task 'digits' is empty"):
        replace(digits, splits={**digits.splits, "test": bad})


def test_shifting_moves_each_image_by_at_most_a_pixel():
    images = torch.full((200, 1, 8, 8), -1.0)
    images[:, :, 4, 4] = 1.0
    shifted = shift(images, torch.Generator().manual_seed(0))
    positions = shifted.flatten(1).argmax(dim=1)
    offsets = {(int(p) // 8 - 4, int(p) % 8 - 4) for p in positions}
    assert offsets == {(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)}
    assert torch.equal(shifted.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)))


def test_evaluation_counts_what_is_right(digits):
    class Oracle(torch.nn.Module):
        def forward(self, inputs):
            return 100.0 * torch.nn.functional.one_hot(labels[: len(inputs)], 10).float()

    labels = torch.zeros(360, dtype=torch.int64)
    found = digits.evaluate(Oracle(), "validation", batch_size=360)
    num_zeros = int((digits.splits["validation"].targets == 0).sum())
    assert found["top1_accuracy"] == pytest.approx(num_zeros / 360)
    assert found["top1_error"] == pytest.approx(1 - num_zeros / 360)
    assert found["cross_entropy"] == pytest.approx(100 * (1 - num_zeros / 360))
