"""Checkpoints: atomic, checked, and never unpickled."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.supernet.training.checkpoint import (
    Checkpoint,
    latest_step,
    load_latest,
    save_checkpoint,
)


class TestCheckpoints:
    def save(self, folder, *steps):
        for step in steps:
            weights = {"w": torch.full((2,), float(step))}
            checkpoint = Checkpoint(step=step, fingerprint="f", weights=weights)
            save_checkpoint(folder, checkpoint)

    def test_everything_comes_back(self, tmp_path):
        tensors = {
            name: {"a.b": torch.randn(3, 2), "a.b:step": torch.tensor(7.0)}
            for name in ("weights", "optimizer", "average", "teacher")
        }
        saved = Checkpoint(
            step=12,
            is_final=True,
            fingerprint="f",
            history=({"epoch": 1, "loss": 0.25},),
            progress={"losses": [0.1, 0.3]},
            quality=-1.5,
            **tensors,
        )
        save_checkpoint(tmp_path, saved)
        found = load_latest(tmp_path, "f")
        for name, expected in vars(saved).items():
            if name in tensors:
                loaded = getattr(found, name)
                assert loaded.keys() == expected.keys()
                assert all(torch.equal(loaded[key], expected[key]) for key in expected)
            else:
                assert getattr(found, name) == expected

    def test_what_is_searched_is_the_average_where_there_is_one(self):
        weights = {"w": torch.zeros(1), "running_mean": torch.ones(1)}
        plain = Checkpoint(step=1, fingerprint="f", weights=weights)
        assert plain.trained_weights == weights
        averaged = Checkpoint(
            step=1, fingerprint="f", weights=weights, average={"w": torch.ones(1)}
        )
        assert averaged.trained_weights == {"w": torch.ones(1), "running_mean": torch.ones(1)}

    def test_a_folder_that_somebody_renamed_is_none(self, tmp_path):
        self.save(tmp_path, 1)
        (tmp_path / "step-0000001").rename(tmp_path / "step-0000001.bad")
        assert latest_step(tmp_path) == 0
        self.save(tmp_path, 9_999_999, 10_000_000)
        assert load_latest(tmp_path, "f").step == 10_000_000

    def test_the_best_one_is_kept_beside_the_last(self, tmp_path):
        for step, quality in [(1, 0.5), (2, 0.9), (3, None), (4, 0.7), (5, None), (6, 0.6)]:
            checkpoint = Checkpoint(step=step, fingerprint="f", weights={}, quality=quality)
            save_checkpoint(tmp_path, checkpoint, keep=1)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000002", "step-0000006"]
        assert latest_step(tmp_path) == 6

    def test_the_last_one_is_loaded_and_two_are_kept(self, tmp_path):
        self.save(tmp_path, 1, 2, 3)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000002", "step-0000003"]
        found = load_latest(tmp_path, "f")
        assert found.step == 3
        assert torch.equal(found.weights["w"], torch.full((2,), 3.0))

    def test_there_may_be_none(self, tmp_path):
        assert load_latest(tmp_path, "f") is None

    @pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
    @pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
    def test_damage_names_the_file_and_the_last_good_one(self, tmp_path, name, damage):
        self.save(tmp_path, 1, 2)
        damaged = tmp_path / "step-0000002" / name
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
        assert str(tmp_path / "step-0000001") in str(caught.value)

    def test_damage_without_a_good_one_says_so(self, tmp_path):
        self.save(tmp_path, 1)
        (tmp_path / "step-0000001" / "weights.safetensors").write_bytes(b"")
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
        assert load_latest(tmp_path, "f").step == 1
        self.save(tmp_path, 2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000001", "step-0000002"]

    def test_a_pickle_in_its_place_is_not_run(self, tmp_path):
        class Malicious:
            def __reduce__(self):
                return (Path(tmp_path / "ran").touch, ())

        self.save(tmp_path, 1)
        weights = tmp_path / "step-0000001" / "weights.safetensors"
        weights.write_bytes(pickle.dumps(Malicious()))
        state = json.loads((tmp_path / "step-0000001" / "state.json").read_text())
        state["sha256"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (tmp_path / "step-0000001" / "state.json").write_text(json.dumps(state))
        with pytest.raises(Exception, match="eader"):
            load_latest(tmp_path, "f")
        assert not (tmp_path / "ran").exists()
