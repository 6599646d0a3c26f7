"""Strategies, trainer and checkpoints."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nasbench.config import TrainingConfig
from nasbench.errors import RequestError, WorkError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.training import trainer
from nasbench.supernet.training.checkpoint import Checkpoint, load_latest, save_checkpoint
from nasbench.supernet.training.distillation import soft_cross_entropy
from nasbench.supernet.training.strategies import STRATEGIES, Assignment
from nasbench.tasks import TASKS

CONFIG = TrainingConfig(
    epochs=3, batch_size=256, warmup_epochs=1, checkpoint_every=1, num_threads=1
)


@pytest.fixture(scope="module")
def task():
    return TASKS["digits"](None)


def build():
    return SUPERNETS["mobilenet_v3"].build(seed=0)


def train(task, folder, config=CONFIG, supernet=None, **changes):
    supernet = supernet or build()
    arguments = {"seed": 0, "folder": folder, "fingerprint": "f", **changes}
    history = trainer.train_supernet(supernet, task, config, **arguments)
    return supernet, history


def same_state(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


class TestStrategyContract:
    @pytest.fixture(params=sorted(STRATEGIES))
    def strategy(self, request):
        return STRATEGIES[request.param](build().space, 2)

    def test_architectures_are_members_of_the_space(self, strategy):
        space = build().space
        for assignment in strategy.assignments(np.random.default_rng(0)):
            assert space.canonical(assignment.architecture) == assignment.architecture

    def test_same_generator_same_assignments(self, strategy):
        first, second = (strategy.assignments(np.random.default_rng(5)) for _ in range(2))
        assert first == second

    def test_whoever_learns_from_the_largest_comes_after_it(self, strategy):
        first, *others = strategy.assignments(np.random.default_rng(0))
        assert first.target == "labels"
        if any(a.target == "largest" for a in others):
            assert first.architecture == build().largest


def test_the_sandwich_is_largest_random_ones_smallest():
    space = build().space
    found = STRATEGIES["sandwich"](space, 3).assignments(np.random.default_rng(0))
    assert len(found) == 5
    assert found[0] == Assignment(space.largest, "labels")
    assert found[-1] == Assignment(space.smallest, "largest")
    assert {a.target for a in found[1:]} == {"largest"}


def test_soft_targets_teach_the_student_and_not_the_teacher():
    teacher = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    student = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    soft_cross_entropy(student, teacher).backward()
    assert teacher.grad is None
    expected = student.softmax(1) - teacher.softmax(1)  # the gradient of KL(teacher || student)
    torch.testing.assert_close(student.grad, expected.detach())


def test_a_step_sums_the_gradients_of_its_subnetworks(task, tmp_path):
    supernet = build().double().train()
    inputs, targets = next(task.training_batches(32, seed=0, epoch=0))
    inputs = inputs.double()
    rng = np.random.default_rng(0)
    assignments = STRATEGIES["sandwich"](supernet.space, 1).assignments(rng)
    supernet.activate(supernet.largest)
    teacher = supernet(inputs).detach()
    expected = {name: torch.zeros_like(p) for name, p in supernet.named_parameters()}
    for assignment in assignments:
        supernet.zero_grad()
        supernet.activate(assignment.architecture)
        logits = supernet(inputs)
        if assignment.target == "labels":
            task.loss(logits, targets, 0.1).backward()
        else:
            soft_cross_entropy(logits, teacher).backward()
        for name, parameter in supernet.named_parameters():
            if parameter.grad is not None:
                expected[name] += parameter.grad
    config = TrainingConfig(gradient_clip_norm=1e9)
    training = trainer._Training(supernet, task, config, 0, tmp_path, "f")
    training.step(assignments, inputs, targets)
    for name, parameter in supernet.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, expected[name], msg=name)


@pytest.mark.slow
def test_training_lowers_the_loss(task, tmp_path):
    _, history = train(task, tmp_path, CONFIG.model_copy(update={"batch_size": 64}))
    losses = [record["loss"] for record in history]
    assert losses[-1] < 0.9 * losses[0]
    assert [record["epoch"] for record in history] == [1, 2, 3]


@pytest.mark.slow
def test_resumed_training_ends_with_the_same_weights(task, tmp_path):
    whole, history = train(task, tmp_path / "whole")

    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "resumed", on_epoch=stop)
    resumed, resumed_history = train(task, tmp_path / "resumed")
    assert same_state(whole.state_dict(), resumed.state_dict())
    assert history == resumed_history


@pytest.mark.slow
def test_finished_training_is_not_repeated(task, tmp_path):
    first, _ = train(task, tmp_path)
    again, _ = train(task, tmp_path, on_epoch=lambda _: pytest.fail("trained again"))
    assert same_state(first.state_dict(), again.state_dict())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(task, tmp_path):
    train(task, tmp_path, CONFIG.model_copy(update={"epochs": 2}))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    split = task.splits["train"]
    split.inputs[:], saved = float("nan"), split.inputs.clone()
    try:
        with pytest.raises(WorkError, match="the checkpoint of epoch 2 is kept"):
            train(task, tmp_path)
    finally:
        split.inputs[:] = saved
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


class TestCheckpoints:
    def save(self, folder, *epochs):
        for epoch in epochs:
            weights = {"w": torch.full((2,), float(epoch))}
            checkpoint = Checkpoint(epoch=epoch, fingerprint="f", weights=weights)
            save_checkpoint(folder, checkpoint)

    def test_the_last_one_is_loaded_and_two_are_kept(self, tmp_path):
        self.save(tmp_path, 1, 2, 3)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0002", "epoch-0003"]
        found = load_latest(tmp_path, "f")
        assert found.epoch == 3
        assert torch.equal(found.weights["w"], torch.full((2,), 3.0))

    def test_there_may_be_none(self, tmp_path):
        assert load_latest(tmp_path, "f") is None

    @pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
    @pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
    def test_damage_names_the_file_and_the_last_good_one(self, tmp_path, name, damage):
        self.save(tmp_path, 1, 2)
        damaged = tmp_path / "epoch-0002" / name
        content = damaged.read_bytes()
        if damage == "truncated":
            damaged.write_bytes(content[: len(content) // 2])
        elif damage == "changed":
            damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        else:
            damaged.unlink()
        with pytest.raises(RequestError) as caught:
            load_latest(tmp_path, "f")
        assert str(damaged) in str(caught.value)
        assert str(tmp_path / "epoch-0001") in str(caught.value)

    def test_damage_without_a_good_one_says_so(self, tmp_path):
        self.save(tmp_path, 1)
        (tmp_path / "epoch-0001" / "weights.safetensors").write_bytes(b"")
        with pytest.raises(RequestError, match="no good one before it"):
            load_latest(tmp_path, "f")

    def test_other_training_is_refused(self, tmp_path):
        self.save(tmp_path, 1)
        with pytest.raises(RequestError, match="belongs to other training"):
            load_latest(tmp_path, "another")

    def test_a_killed_write_leaves_the_one_before(self, tmp_path, monkeypatch):
        self.save(tmp_path, 1)

        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            self.save(tmp_path, 2)
        monkeypatch.undo()
        assert load_latest(tmp_path, "f").epoch == 1
        self.save(tmp_path, 2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0001", "epoch-0002"]

    def test_a_pickle_in_its_place_is_not_run(self, tmp_path):
        class Malicious:
            def __reduce__(self):
                return (Path(tmp_path / "ran").touch, ())

        self.save(tmp_path, 1)
        weights = tmp_path / "epoch-0001" / "weights.safetensors"
        weights.write_bytes(pickle.dumps(Malicious()))
        state = json.loads((tmp_path / "epoch-0001" / "state.json").read_text())
        state["sha256"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (tmp_path / "epoch-0001" / "state.json").write_text(json.dumps(state))
        with pytest.raises(Exception, match="eader"):
            load_latest(tmp_path, "f")
        assert not (tmp_path / "ran").exists()
