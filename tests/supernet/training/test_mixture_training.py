"""Training a mixture: with one expert it is that of slices, and a killed one is carried on."""

import pytest
import torch

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import TASKS
from nasbench.tasks.images import ImageClassification, ImagesInMemory
from nasbench.testing.mixtures import plain_name

CONFIG = {
    "epochs": 3,
    "batch_size": 64,
    "warmup_epochs": 0.5,
    "checkpoint_every": 1,
    "monitor_every": 1,
    "monitor_samples": 64,
    "averaging_decay": 0.9,
    "gradient_clip_norm": None,
    "num_threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def task():
    """128 training images: two steps of an epoch."""
    digits = TASKS["digits"](None)
    train = digits.labeled["train"]
    few = ImagesInMemory(train.pixels[:128], train.labels[:128], train.white)
    return ImageClassification("digits", 10, {**digits.labeled, "train": few}, digits.augmentation)


def train(task, folder, *, on_step=None, **settings):
    supernet = SUPERNETS["vit"].build(image_size=8, seed=0, **settings)
    config = TrainingConfig.model_validate(CONFIG)
    train_supernet(supernet, task, config, seed=0, folder=folder, fingerprint="f", on_step=on_step)
    return supernet.state_dict()


def test_one_expert_trains_as_slices_do_bit_for_bit(task, tmp_path):
    plain = train(task, tmp_path / "plain")
    one = train(task, tmp_path / "one", sharing="mixture_neuronwise", num_experts=1)
    for name, tensor in one.items():
        if (of_plain := plain_name(name)) is not None:
            assert torch.equal(tensor, plain[of_plain]), name


def test_a_killed_mixture_is_carried_on(task, tmp_path):
    def killed(report):
        if report.step == 3:
            raise KeyboardInterrupt

    settings = {"sharing": "mixture_layerwise", "router_dropout": 0.2}
    whole = train(task, tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "killed", on_step=killed, **settings)
    resumed = train(task, tmp_path / "killed", **settings)
    moved = SUPERNETS["vit"].build(image_size=8, seed=0, **settings).state_dict()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    routers = [name for name in whole if name.startswith("mixture.routers.")]
    assert not any(torch.equal(whole[name], moved[name]) for name in routers)
