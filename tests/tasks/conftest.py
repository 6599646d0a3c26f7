"""Small texts that every test can write, and what holds for every task of text."""

import numpy as np
import pytest
import torch

from nasbench.tasks.base import IGNORED, summed_cross_entropy


@pytest.fixture(scope="session")
def sentences():
    """A function (count, seed) -> different sentences of 3 to 14 made-up words."""
    syllables = ["ba", "du", "ke", "lo", "mi", "ra", "sté", "ti", "wo", "xu"]
    words = [first + second for first in syllables for second in syllables]

    def write(count, seed):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(3, 15, count)
        found = [" ".join(rng.choice(words, length)) + " ." for length in lengths]
        assert len(set(found)) == count
        return found

    return write


@pytest.fixture(scope="session")
def assert_padding_never_counts():
    """A function (task, model): the loss of a batch is the sum of the losses of its samples."""

    @torch.inference_mode()
    def check(task, model):
        def loss(indices):
            batch = task.load("train", indices)
            return summed_cross_entropy(model(*batch.inputs), batch.targets)

        model.eval()
        indices = torch.arange(7)
        alone = sum(loss(index) for index in indices.split(1))
        torch.testing.assert_close(loss(indices), alone, rtol=1e-5, atol=1e-5)
        lengths = [task.load("train", index).inputs[0].shape[1] for index in indices.split(1)]
        assert len(set(lengths)) > 1  # so there was padding

    return check


@pytest.fixture(scope="session")
def assert_targets_are_counted():
    """A function (task): `num_targets` is what the batches of an epoch hold, whole or in parts."""

    def check(task, batch_size=6):
        epoch = task.epoch(batch_size, seed=0, epoch=1)
        assert len(epoch) > 1
        for batch in range(len(epoch)):
            for num_parts in (1, 2):
                parts = [epoch.load(batch, part, num_parts) for part in range(num_parts)]
                held = sum(int((part.targets != IGNORED).sum()) for part in parts)
                assert held == epoch.num_targets(batch)

    return check
