"""A small ensemble of neural networks: what HAT, Once-for-all and WeakNAS predict with.

The only file of its package that imports torch. The networks of those papers have three hidden
layers of 400 features and thousands of samples; these are narrower, for hundreds.

Shape legend: N architectures, F features, H hidden features.
"""

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.predictors.base import Floats
from nasbench.predictors.folds import FoldsPredictor, Model

_NUM_HIDDEN = 64
_NUM_STEPS = 200
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-2


class NeuralPredictor(FoldsPredictor):
    """Five multilayer perceptrons of two hidden layers, each trained on all its samples at once.

    AdamW (Loshchilov and Hutter, ICLR 2019) with a rate that falls linearly to zero.
    """

    def _learn(self, features_NF: Floats, targets: Floats, seed: int) -> Model:
        center, scale = features_NF.mean(axis=0), features_NF.std(axis=0)
        scale[scale == 0] = 1.0

        def scaled(features: Floats) -> Tensor:
            return torch.from_numpy((features - center) / scale).float()

        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = _train(scaled(features_NF), torch.from_numpy(targets).float())

        @torch.inference_mode()
        def model(features: Floats) -> Floats:
            return np.asarray(network(scaled(features))[:, 0].double().numpy())

        return model


def _train(inputs_NF: Tensor, targets_N: Tensor) -> nn.Module:
    network = nn.Sequential(
        nn.Linear(inputs_NF.shape[1], _NUM_HIDDEN),
        nn.SiLU(),
        nn.Linear(_NUM_HIDDEN, _NUM_HIDDEN),
        nn.SiLU(),
        nn.Linear(_NUM_HIDDEN, 1),
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _NUM_STEPS)
    for _ in range(_NUM_STEPS):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(inputs_NF)[:, 0], targets_N)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network
