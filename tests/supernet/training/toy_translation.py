"""A toy task of two inputs and padding: write a sequence again, backwards."""

import torch

from nasbench.tasks.base import IGNORED, Batch, Task, mean_cross_entropy


class Sequences:
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(2, 32, (count, 6), generator=generator)
        self.lengths = torch.randint(3, 7, (count,), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def digest(self):
        return str(self.tokens.sum())


class Backwards(Task):
    name = "backwards"
    metrics = ("cross_entropy",)

    def __init__(self, count=64):
        super().__init__(
            {name: Sequences(count, i) for i, name in enumerate(("train", "validation", "test"))}
        )

    @property
    def network_settings(self):
        return {"vocab_size": 32}

    def num_targets(self, indices_B):
        return int(self.splits["train"].lengths[indices_B].sum())

    def load(self, split, indices_B, draws_BR=None):
        samples = self.splits[split]
        is_padding = torch.arange(6) >= samples.lengths[indices_B, None]
        tokens = samples.tokens[indices_B]
        source = tokens.masked_fill(is_padding, 0)
        backwards = tokens.flip(1)
        begun = torch.cat([torch.ones(len(tokens), 1, dtype=torch.int64), backwards[:, :-1]], 1)
        return Batch((source, begun), backwards.masked_fill(is_padding, IGNORED))

    def evaluate(self, model, split, batch_size, *, num_samples=None):
        return {"cross_entropy": mean_cross_entropy(self, model, split, batch_size, num_samples)}
