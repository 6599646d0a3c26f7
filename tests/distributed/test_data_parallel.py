"""Data-parallel training on real Ray processes: same weights, killed workers, errors."""

import pytest
import torch

from nasbench.config import ResourcesConfig, TrainingConfig
from nasbench.distributed.cluster import connected
from nasbench.distributed.data_parallel import TrainingRecipe, train_on_ray
from nasbench.errors import WorkError
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.supernet.training.checkpoint import load_latest
from tests.distributed.broken_tasks import Dies, Overflows, Unreadable
from tests.supernet.training.toy_translation import Backwards

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RESOURCES = ResourcesConfig(max_retries=2)
CONFIG = TrainingConfig(
    epochs=3,
    batch_size=16,
    warmup_epochs=1,
    num_workers=2,
    num_threads=1,
    checkpoint_every=1,
    optimizer="sgd",
    learning_rate=0.1,
    device="cpu",
    monitor_every=0,
)


@pytest.fixture(scope="module", autouse=True)
def ray_here():
    with connected(RESOURCES, num_workers=2):
        yield


def recipe(folder, task=None, **changes):
    supernet = SUPERNETS["seq2seq"].build(seed=0, dropout=0.0)
    config = TrainingConfig.model_validate({**CONFIG.model_dump(), **changes})
    return TrainingRecipe(
        supernet_settings=supernet.settings,
        task=task or Backwards(),
        config=config,
        seed=0,
        folder=folder / "checkpoints",
        fingerprint="f",
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights of one process."""
    made = recipe(tmp_path_factory.mktemp("alone"), num_workers=1)
    made.train()
    return load_latest(made.folder, "f").weights


def assert_same_training(made, alone):
    found = load_latest(made.folder, "f")
    assert found.is_final
    for name, expected in alone.items():
        torch.testing.assert_close(found.weights[name], expected, atol=2e-5, rtol=0, msg=name)
    start = build_supernet(made.supernet_settings).state_dict()
    assert max(float((alone[name] - start[name]).abs().max()) for name in start) > 0.01


def test_two_workers_train_what_one_process_trains(alone, tmp_path):
    made, reports = recipe(tmp_path), []
    history = train_on_ray(made, RESOURCES, reports.append)
    assert_same_training(made, alone)
    assert [report.step for report in reports] == list(range(1, 13))
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]


def test_a_killed_worker_costs_what_came_after_the_last_checkpoint(alone, tmp_path):
    marker = tmp_path / "killed"
    made, reports = recipe(tmp_path, Dies(marker, once=True)), []
    train_on_ray(made, RESOURCES, reports.append)
    assert marker.exists()
    assert_same_training(made, alone)
    steps = [report.step for report in reports]
    assert steps[-8:] == list(range(5, 13))  # carried on after the first epoch's checkpoint


def test_a_worker_that_always_dies_is_given_up(tmp_path):
    made = recipe(tmp_path, Dies(tmp_path / "killed", once=False))
    with pytest.raises(WorkError, match="a training process died more than 1 times"):
        train_on_ray(made, ResourcesConfig(max_retries=1), lambda _: None)
    assert load_latest(made.folder, "f").step == 4


def test_what_goes_wrong_in_a_worker_is_said_here_and_not_tried_again(tmp_path):
    made, reports = recipe(tmp_path, Overflows()), []
    with pytest.raises(WorkError, match=r"the loss of .* was not finite in epoch 1"):
        train_on_ray(made, RESOURCES, reports.append)
    assert reports == []


def test_what_goes_wrong_in_one_worker_alone_holds_up_nobody(tmp_path):
    made = recipe(tmp_path, Unreadable())
    with pytest.raises(WorkError, match="sample 7 cannot be read"):
        train_on_ray(made, RESOURCES, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["checkpoints"])
