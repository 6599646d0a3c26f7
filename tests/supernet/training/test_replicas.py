"""Processes that share each batch: to rounding, they train what one process trains."""

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import TASKS
from nasbench.tasks.images import ImageClassification, ImagesInMemory
from tests.supernet.training import replica
from tests.supernet.training.toy_translation import Backwards

pytestmark = pytest.mark.slow


def images():
    digits = TASKS["digits"](None)
    train = digits.labeled["train"]
    few = ImagesInMemory(train.pixels[:128], train.labels[:128], train.white)
    return ImageClassification("digits", 10, {**digits.labeled, "train": few}, digits.augmentation)


CASES = {
    "batch normalization": (
        "mobilenet_v3",
        {},
        images,
        {"distillation": {"feature_weight": 0.1}, "averaging_decay": 0.5},
    ),
    "contests": ("mobilenet_v3", {}, images, {"strategy": "attentive"}),
    "a frozen teacher": ("resnet", {}, images, {"strategy": "progressive_shrinking", "epochs": 4}),
    "a mixture": ("vit", {"sharing": "mixture_neuronwise", "image_size": 8}, images, {}),
    "padding": ("seq2seq", {"dropout": 0.0}, Backwards, {"strategy": "sandwich"}),
    "accumulation": ("seq2seq", {"dropout": 0.0}, Backwards, {"accumulation_steps": 2}),
    "batch normalization apart": ("mobilenet_v3", {}, images, {"sync_batch_norm": False}),
}
ONE = {"batch normalization apart": {"accumulation_steps": 2}}
"""What one process does differently: an accumulated piece is normalized by itself, too."""


@pytest.mark.parametrize("case", CASES)
def test_two_train_what_one_trains(case, tmp_path):
    family, settings, make_task, changes = CASES[case]
    task = make_task()
    supernet = SUPERNETS[family].build(seed=1, **settings)
    config = TrainingConfig.model_validate(
        {
            "epochs": 2,
            "batch_size": 32,
            "warmup_epochs": 0.5,
            "optimizer": "sgd",
            "learning_rate": 0.02,
            "num_threads": 1,
            "device": "cpu",
            "monitor_every": 1,
            "monitor_samples": 32,
            **changes,
        }
    )
    one = build_supernet(supernet.settings)
    before = {name: p.detach().clone() for name, p in one.named_parameters()}
    of_one = config.model_copy(update=ONE.get(case, {}))
    train_supernet(one, task, of_one, seed=0, folder=tmp_path / "one", fingerprint="f")
    arguments = (str(tmp_path), supernet.settings, task, config.model_dump())
    multiprocessing.spawn(replica.train, arguments, nprocs=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    moved = 0.0
    for name, parameter in one.named_parameters():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], parameter.detach(), atol=3e-4, rtol=0, msg=name)
        moved = max(moved, float((parameter - before[name]).detach().abs().max()))
    assert moved > 0.005


def test_sums_go_over_all_replicas(tmp_path):
    multiprocessing.spawn(replica.add_up, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert torch.equal(found["0"], torch.full((2, 3), 3.0))
        assert found["1"] == 1.0
        assert torch.equal(found["2"], torch.tensor([0.0, 2.0, 4.0]))
