"""The trainer: the gradients of a step, exact resumption, and what it refuses."""

import struct
from typing import ClassVar

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from nasbench.config import DistillationConfig, TrainingConfig
from nasbench.errors import RequestError, WorkError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.training import trainer
from nasbench.supernet.training.checkpoint import latest_step, load_latest
from nasbench.supernet.training.checks import check_training
from nasbench.supernet.training.distillation import soft_cross_entropy
from nasbench.supernet.training.phases import Teacher
from nasbench.supernet.training.strategies import (
    STRATEGIES,
    Assignment,
    Contest,
    Phase,
    SingleStage,
    build_strategy,
)
from nasbench.tasks import TASKS
from nasbench.tasks.base import summed_cross_entropy
from nasbench.tasks.images import ImageClassification, ImagesInMemory
from tests.supernet.training.toy_translation import Backwards

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=64,
    warmup_epochs=1,
    checkpoint_every=1,
    monitor_every=0,
    num_threads=1,
    device="cpu",
)


@pytest.fixture(scope="module")
def digits():
    return TASKS["digits"](None)


@pytest.fixture(scope="module")
def task(digits):
    """The first 256 training images: four steps of an epoch."""
    train = digits.labeled["train"]
    first = ImagesInMemory(train.pixels[:256], train.labels[:256], train.white)
    splits = {**digits.labeled, "train": first}
    return ImageClassification("digits", 10, splits, digits.augmentation)


def build(family="mobilenet_v3", **settings):
    if family == "vit":
        settings |= {"image_size": 8}
    return SUPERNETS[family].build(seed=0, **settings)


def changed(config=CONFIG, **changes):
    return TrainingConfig.model_validate({**config.model_dump(), **changes})


def train(task, folder, config=CONFIG, supernet=None, **arguments):
    supernet = supernet or build()
    arguments = {"seed": 0, "folder": folder, "fingerprint": "f", **arguments}
    history = trainer.train_supernet(supernet, task, config, **arguments)
    return supernet, history


def under_way(supernet, task, config, folder, seed=0, teacher=None):
    """Training that has not begun, for a look at single steps."""
    device = torch.device("cpu")
    strategy = build_strategy(config.strategy, supernet, config.options)
    return trainer._Training(supernet, task, config, strategy, device, seed, folder, "f", teacher)


def one_step(training, assign, batch, num_targets=None):
    phase = Phase(name="test", num_epochs=1, assign=assign)
    training.supernet.train()
    return training._update(phase, [batch], num_targets or len(batch.targets))


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close_state(a, b, atol):
    for name, expected in a.items():
        torch.testing.assert_close(b[name], expected, atol=atol, rtol=0, msg=name)


class TestOneStep:
    def test_sums_the_gradients_of_its_subnetworks(self, task, tmp_path):
        supernet = build().double().train()
        batch = task.epoch(32, seed=0, epoch=0).load(0)
        batch = batch._replace(inputs=(batch.inputs[0].double(),))
        strategy = STRATEGIES["sandwich"](supernet, num_random=1)
        assignments = strategy.assign(np.random.default_rng([0, 0]))
        supernet.activate(supernet.largest)
        teacher = supernet(*batch.inputs).detach()
        expected = {name: torch.zeros_like(p) for name, p in supernet.named_parameters()}
        for assignment in assignments:
            supernet.zero_grad()
            supernet.activate(assignment.architecture)
            logits = supernet(*batch.inputs)
            on_labels = summed_cross_entropy(logits, batch.targets, CONFIG.label_smoothing)
            on_largest = soft_cross_entropy(logits.float(), teacher.float())
            loss = assignment.labels * on_labels + assignment.largest * on_largest
            (loss / 32).backward()
            for name, parameter in supernet.named_parameters():
                if parameter.grad is not None:
                    expected[name] += parameter.grad
        training = under_way(supernet, task, changed(gradient_clip_norm=None), tmp_path)
        one_step(training, strategy.assign, batch)
        for name, parameter in supernet.named_parameters():
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found, expected[name], msg=name, atol=1e-7, rtol=1e-5)

    def test_clips_by_norm_or_by_value(self, task, tmp_path):
        batch = task.epoch(32, seed=0, epoch=0).load(0)
        for changes, largest in (
            ({"gradient_clip_norm": 1e-3}, 1e-3),
            ({"gradient_clip_norm": None, "gradient_clip_value": 1e-4}, 1e-4),
        ):
            supernet = build()
            training = under_way(supernet, task, changed(**changes), tmp_path)
            one_step(training, STRATEGIES["sandwich"](supernet).assign, batch)
            gradients = [p.grad for p in supernet.parameters() if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            found = flat.norm() if "gradient_clip_value" not in changes else flat.abs().max()
            assert found == pytest.approx(largest, rel=1e-4)

    @pytest.mark.parametrize("winner", ["lowest_loss", "highest_loss"])
    def test_a_contest_is_decided_by_the_loss_of_the_batch(self, task, tmp_path, winner):
        supernet = build()
        batch = task.epoch(64, seed=0, epoch=0).load(0)
        candidates = tuple(supernet.space.sample(np.random.default_rng(i)) for i in range(4))
        supernet.train()
        losses = []
        for candidate in candidates:
            supernet.activate(candidate)
            with torch.no_grad():
                losses.append(float(summed_cross_entropy(supernet(*batch.inputs), batch.targets)))
        training = under_way(supernet, task, CONFIG, tmp_path)
        contest = Assignment(Contest(candidates, winner), labels=1.0)
        settled = training.gradients.settled(contest, batch, 64)
        best = np.argmin(losses) if winner == "lowest_loss" else np.argmax(losses)
        assert settled == Assignment(candidates[best], labels=1.0)
        assert all(parameter.grad is None for parameter in supernet.parameters())

    def test_only_who_is_regularized_drops_out(self, tmp_path):
        task = Backwards()
        supernet = build("seq2seq", dropout=0.5)
        batch = task.load("train", torch.arange(64))
        training = under_way(supernet, task, CONFIG, tmp_path)

        def losses(is_regularized):
            assignment = Assignment(supernet.largest, labels=1.0, is_regularized=is_regularized)
            found = set()
            for _ in range(3):
                supernet.zero_grad()
                ((_, loss),) = training.gradients.add([assignment], batch, 64)
                found.add(float(loss))
            return found

        supernet.train()
        assert len(losses(is_regularized=True)) == 3
        assert len(losses(is_regularized=False)) == 1

    def test_features_are_matched_where_that_is_asked_for(self, task, tmp_path):
        batch = task.epoch(32, seed=0, epoch=0).load(0)
        gradients = []
        for weight in (0.0, 10.0):
            supernet = build()
            config = changed(distillation=DistillationConfig(feature_weight=weight).model_dump())
            training = under_way(supernet, task, config, tmp_path)
            one_step(training, STRATEGIES["sandwich"](supernet).assign, batch)
            gradients.append(supernet.stem.conv.shared.weight.grad.clone())
        assert not torch.allclose(*gradients)

    def test_the_average_follows_the_weights(self, task, tmp_path):
        supernet = build()
        training = under_way(supernet, task, changed(averaging_decay=0.75), tmp_path)
        before = supernet.classifier.shared.weight.detach().clone()
        batch = task.epoch(32, seed=0, epoch=0).load(0)
        one_step(training, STRATEGIES["sandwich"](supernet).assign, batch)
        after = supernet.classifier.shared.weight.detach()
        expected = 0.1 * before + 0.9 * after  # young, so what it began with counts little
        torch.testing.assert_close(training.average["classifier.shared.weight"], expected)
        training.step = 1000
        one_step(training, STRATEGIES["sandwich"](supernet).assign, batch)
        after = supernet.classifier.shared.weight.detach()
        expected = 0.75 * expected + 0.25 * after
        torch.testing.assert_close(training.average["classifier.shared.weight"], expected)
        with training._averaged():
            torch.testing.assert_close(supernet.classifier.shared.weight.detach(), expected)
        torch.testing.assert_close(supernet.classifier.shared.weight.detach(), after)


class TestDividedBatches:
    """A step is the same, to rounding, however its batch is divided."""

    @pytest.mark.parametrize("strategy", ["sandwich", "single_path"])
    def test_accumulation_equals_a_whole_batch(self, strategy, task, tmp_path):
        config = changed(strategy=strategy, optimizer="sgd", learning_rate=0.1)
        whole, _ = train(task, tmp_path / "whole", config, build("vit"))
        pieces, _ = train(
            task, tmp_path / "pieces", changed(config, accumulation_steps=4), build("vit")
        )
        assert_close_state(whole.state_dict(), pieces.state_dict(), 2e-5)

    def test_accumulation_weighs_pieces_by_their_targets(self, tmp_path):
        task = Backwards()
        config = changed(batch_size=32, optimizer="sgd", learning_rate=0.5)
        whole, _ = train(task, tmp_path / "whole", config, build("seq2seq", dropout=0.0))
        pieces, _ = train(
            task,
            tmp_path / "pieces",
            changed(config, accumulation_steps=8),
            build("seq2seq", dropout=0.0),
        )
        assert_close_state(whole.state_dict(), pieces.state_dict(), 2e-5)

    def test_a_sorted_chain_draws_members_for_each_piece(self, task, tmp_path):
        supernet = build("vit")
        config = changed(strategy="sorted", batch_size=64, accumulation_steps=4)
        training = under_way(supernet, task, config, tmp_path)
        trained = []
        supernet.activate = lambda a, activate=supernet.activate: trained.append(a) or activate(a)
        (phase,) = training.phases
        batches = task.epoch(64, seed=0, epoch=0)
        training._update(phase, [batches.load(0, part, 4) for part in range(4)], 64)
        assert len(set(trained)) > 1

    def test_a_sorted_chain_of_one_piece_equals_a_plain_large_batch(self, task, tmp_path):
        class Smallest(SingleStage):
            def __init__(self, subnetworks):
                self.smallest = subnetworks.space.smallest

            def assign(self, rng):
                return [Assignment(self.smallest, labels=1.0)]

        STRATEGIES.register("smallest_alone", Smallest)
        try:
            config = changed(strategy="smallest_alone", optimizer="sgd")
            whole, _ = train(task, tmp_path / "whole", config, build("vit"))
            pieces, _ = train(
                task, tmp_path / "pieces", changed(config, accumulation_steps=8), build("vit")
            )
        finally:
            del STRATEGIES._entries["smallest_alone"]
        assert_close_state(whole.state_dict(), pieces.state_dict(), 2e-6)


class TestResuming:
    RECIPES: ClassVar = {
        "sandwich": {},
        "sandwich, averaged": {"averaging_decay": 0.9, "optimizer": "sgd", "learning_rate": 0.05},
        "attentive": {"strategy": "attentive"},
        "bignas": {"strategy": "bignas", "distillation": {"loss": "alpha_divergence"}},
        "progressive_shrinking": {"strategy": "progressive_shrinking", "epochs": 6},
        "accumulated": {"strategy": "sorted", "accumulation_steps": 2},
        "bfloat16": {"precision": "bfloat16", "strategy": "single_path"},
    }

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("recipe", "every"),
        [("sandwich", 1), ("sandwich", 0.25), *((recipe, 0.6) for recipe in RECIPES)],
    )
    def test_ends_with_the_same_weights(self, recipe, every, task, tmp_path):
        config = changed(**self.RECIPES[recipe], checkpoint_every=every, monitor_every=1)
        config = changed(config, monitor_samples=32)
        whole, history = train(task, tmp_path / "whole", config)
        stops = [step for step in (2, 7, 9, 17) if step < 4 * config.epochs]

        def stop(report):
            if report.step in stops:
                stops.remove(report.step)
                raise KeyboardInterrupt

        while stops:
            with pytest.raises(KeyboardInterrupt):
                train(task, tmp_path / "resumed", config, on_step=stop)
        resumed, resumed_history = train(task, tmp_path / "resumed", config)
        assert same_state(whole.state_dict(), resumed.state_dict())
        assert history == resumed_history

    @pytest.mark.slow
    def test_dropout_draws_the_same_again(self, tmp_path):
        task, config = Backwards(), changed(batch_size=16, checkpoint_every=0.5)

        def supernet():
            return build("seq2seq", dropout=0.3)

        whole, _ = train(task, tmp_path / "whole", config, supernet())

        def stop(report):
            if report.step == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(task, tmp_path / "resumed", config, supernet(), on_step=stop)
        assert latest_step(tmp_path / "resumed") == 6
        torch.manual_seed(99)
        resumed, _ = train(task, tmp_path / "resumed", config, supernet())
        assert same_state(whole.state_dict(), resumed.state_dict())

    @pytest.mark.slow
    def test_finished_training_is_not_repeated(self, task, tmp_path):
        config = changed(averaging_decay=0.9)
        first, _ = train(task, tmp_path, config)
        again, _ = train(task, tmp_path, config, on_step=lambda _: pytest.fail("trained again"))
        assert same_state(first.state_dict(), again.state_dict())
        checkpoint = load_latest(tmp_path, "f")
        assert checkpoint.is_final
        assert same_state(dict(checkpoint.trained_weights), first.state_dict())


class TestHistory:
    def test_training_lowers_the_loss(self, digits, tmp_path):
        _, history = train(digits, tmp_path)
        losses = [record["loss"] for record in history]
        assert losses[-1] < 0.9 * losses[0]
        assert [record["epoch"] for record in history] == [1, 2, 3]

    def test_looking_changes_nothing_but_what_is_told(self, task, tmp_path):
        blind, _ = train(task, tmp_path / "blind")
        reports = []
        seeing, history = train(
            task, tmp_path / "seeing", changed(monitor_every=1), on_step=reports.append
        )
        for name, parameter in blind.named_parameters():
            assert torch.equal(parameter, seeing.get_parameter(name))
        looks = history[-1]["looks"]
        assert set(looks) == {"largest", "smallest", "random"}
        assert all(0 <= found["top1_accuracy"] <= 1 for found in looks.values())
        assert [report.step for report in reports] == list(range(1, 13))
        assert reports[2].looks == {}
        assert reports[-1].looks == looks

    def test_a_look_is_recorded_in_its_own_epoch_alone(self, task, tmp_path):
        _, history = train(task, tmp_path, changed(epochs=5, monitor_every=2, monitor_samples=16))
        assert [bool(record["looks"]) for record in history] == [False, True, False, True, True]

    def test_the_learning_rate_warms_up_and_falls(self, task, tmp_path):
        rates = []
        for schedule, last in (
            ("cosine", 0.02),
            ("linear", 0.13),
            ("constant", 1),
            ("exponential", 0.05),
        ):
            config = changed(epochs=3, schedule=schedule, learning_rate=1.0)
            training = under_way(build(), task, config, tmp_path)
            rates.clear()
            for step in range(12):
                training.step = step
                rates.append(training._begin_step()[1])
            assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
            assert rates[4] == 1.0
            assert rates[-1] == pytest.approx(last, abs=0.03)

    def test_the_log_can_be_read_by_tensorboard(self, task, tmp_path):
        train(task, tmp_path / "run", changed(monitor_every=3), log_folder=tmp_path / "log")
        (file,) = (tmp_path / "log").iterdir()
        content, logged = file.read_bytes(), {}
        while content:  # records of a length, its checksum, an event, and its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                logged.setdefault(value.tag, []).append(event.step)
        assert logged["loss"] == list(range(1, 13))
        assert logged["top1_accuracy/smallest"] == [12]

    def test_random_state_outside_is_left_alone(self, task, tmp_path):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        train(task, tmp_path, changed(epochs=1, warmup_epochs=0, deterministic=True))
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.are_deterministic_algorithms_enabled()


class TestGuardRails:
    def broken(self, task, **changes):
        """The same task, whose images become NaN in the middle of an epoch."""

        class Images(ImagesInMemory):
            def images(self, indices_B, draws_BR=None):
                found = ImagesInMemory.images(self, indices_B, draws_BR)
                return found.fill_(float("nan")) if changes["when"]() else found

        train_split = task.labeled["train"]
        images = Images(train_split.pixels, train_split.labels, train_split.white)
        return ImageClassification("digits", 10, {**task.labeled, "train": images})

    def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(self, task, tmp_path):
        train(task, tmp_path, changed(epochs=2))
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        loads = iter(range(1000))
        bad = self.broken(task, when=lambda: next(loads) > 3)
        with pytest.raises(WorkError) as caught:
            train(bad, tmp_path, changed(epochs=4))
        said = str(caught.value)
        assert "the loss of the largest sub-network was not finite in epoch 3" in said
        assert "the checkpoint after step 8 is kept, so lower training.learning_rate" in said
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_it_says_which_subnetwork_did_it(self, task, tmp_path):
        supernet = build()
        batch = task.epoch(32, seed=0, epoch=0).load(0)
        drawn = supernet.space.sample(np.random.default_rng(3))
        weights = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        training = under_way(supernet, task, CONFIG, tmp_path)
        with torch.no_grad():
            batch.inputs[0][0] = 1e38  # overflows
        with pytest.raises(WorkError, match=f"the loss of sub-network {drawn.id}.*not finite"):
            one_step(training, lambda _: [Assignment(drawn, labels=1.0)], batch)
        for name, parameter in supernet.named_parameters():
            assert torch.equal(parameter, weights[name])

    def test_a_collapse_of_the_largest_stops(self, task, tmp_path):
        supernet = build()
        training = under_way(supernet, task, CONFIG, tmp_path)
        training.gradients.loss_of_guessing = 2.3
        training.has_largest = training.has_labels = True
        (phase,) = training.phases
        training.losses = [1.0]
        training._end_epoch(phase, 0.1)
        training.losses = [2.2]
        training._end_epoch(phase, 0.1)
        training.losses = [2.31]
        with pytest.raises(WorkError) as caught:
            training._end_epoch(phase, 0.1)
        assert "in epoch 3 the mean loss of the largest sub-network was 2.31" in str(caught.value)
        assert "there is no checkpoint yet" in str(caught.value)

    def test_a_loss_on_predictions_is_no_collapse(self, task, tmp_path):
        training = under_way(build(), task, CONFIG, tmp_path)
        training.gradients.loss_of_guessing = 2.3
        for loss, has_labels in ((0.5, True), (36.7, False), (0.6, True), (40.0, False)):
            training.losses, training.has_labels = [loss], has_labels
            training._end_epoch(training.phases[0], 0.1)
        training.losses, training.has_labels = [2.4], True
        with pytest.raises(WorkError, match=r"after it had been 0\.5"):
            training._end_epoch(training.phases[0], 0.1)

    def test_a_slow_start_is_no_collapse(self, task, tmp_path):
        training = under_way(build(), task, CONFIG, tmp_path)
        training.gradients.loss_of_guessing, training.has_labels = 2.3, True
        for loss in (2.5, 2.31, 2.4):
            training.losses = [loss]
            training._end_epoch(training.phases[0], 0.1)
        assert len(training.history) == 3


class TestBadRequests:
    def refused(self, task, tmp_path, supernet=None, **changes):
        supernet = supernet or build()
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        with pytest.raises(RequestError) as caught:
            train(task, tmp_path / "run", changed(**changes), supernet)
        assert not (tmp_path / "run").exists()
        assert same_state(before, supernet.state_dict())
        return str(caught.value)

    def test_a_batch_larger_than_the_data(self, task, tmp_path):
        said = self.refused(task, tmp_path, batch_size=2000)
        assert "a batch of 2000 exceeds the 256 training samples" in said

    def test_a_batch_too_small_for_normalization(self, task, tmp_path):
        needed = "batch normalization needs pieces of at least 2 samples"
        assert needed in self.refused(task, tmp_path, batch_size=8, accumulation_steps=8)
        workers = {"batch_size": 8, "accumulation_steps": 4, "num_workers": 2}
        assert needed in self.refused(task, tmp_path, **workers, sync_batch_norm=False)
        check_training(build(), task, changed(**workers), torch.device("cpu"))
        train(  # a family without batch normalization has no such bound
            task,
            tmp_path / "vit",
            changed(batch_size=16, accumulation_steps=16, epochs=1, warmup_epochs=0),
            build("vit"),
        )

    def test_a_strategy_that_the_family_cannot_follow(self, task, tmp_path):
        alone = NetworkAlone.of(build(), build().smallest, seed=0)
        said = self.refused(task, tmp_path, alone, strategy="bignas")
        assert "the family 'alone' names no residual branches" in said
        alone.channel_groups = list
        supernet = build()
        supernet.channel_groups = list
        said = self.refused(task, tmp_path, supernet, strategy="progressive_shrinking", epochs=6)
        assert "names no groups of channels" in said

    def test_a_task_that_the_network_cannot_read(self, tmp_path):
        said = self.refused(Backwards(), tmp_path, batch_size=16)
        assert "the family 'mobilenet_v3' cannot read the samples of task 'backwards'" in said

    def test_a_sequence_longer_than_the_model_allows(self, tmp_path):
        class Longer(Backwards):
            def load(self, split, indices_B, draws_BR=None):
                batch = super().load(split, indices_B, draws_BR)
                return batch._replace(inputs=(batch.inputs[0].repeat(1, 4),))

        encoder = SUPERNETS["encoder"].build("tiny")
        said = self.refused(Longer(), tmp_path, encoder, batch_size=16)
        assert "the family 'encoder' cannot read the samples of task 'backwards'" in said

    def test_distillation_where_nobody_distils(self, task, tmp_path):
        for strategy, options in (("hat", {}), ("sandwich", {"label_weight": 1.0})):
            said = self.refused(
                task,
                tmp_path,
                strategy=strategy,
                options=options,
                distillation={"temperature": 2.0},
            )
            assert f"'{strategy}' with these options distils nothing" in said

    def test_phases_that_do_not_fill_the_epochs(self, task, tmp_path):
        class Short(SingleStage):
            def __init__(self, subnetworks):
                self.space = subnetworks.space

            def assign(self, rng):
                return [Assignment(self.space.largest, labels=1.0)]

            def phases(self, num_epochs):
                return super().phases(num_epochs - 1)

        STRATEGIES.register("short", Short)
        try:
            said = self.refused(task, tmp_path, strategy="short")
        finally:
            del STRATEGIES._entries["short"]
        assert "'short' last 2 epochs, but training.epochs is 3" in said

    def test_a_device_that_is_not_there(self, task, tmp_path):
        said = self.refused(task, tmp_path, device="cuda:77")
        assert said.startswith("training.device is 'cuda:77', but: ")
        for device in ("teapot", "meta", "hpu"):
            said = self.refused(task, tmp_path, device=device)
            assert said.startswith(f"training.device is '{device}', but: ")

    def test_half_precision_without_a_gpu(self, task, tmp_path):
        said = self.refused(task, tmp_path, precision="float16")
        assert "float16 needs a GPU" in said

    def test_a_checkpoint_of_other_training(self, task, tmp_path):
        train(task, tmp_path, changed(epochs=1, warmup_epochs=0))
        with pytest.raises(RequestError, match="belongs to other training"):
            train(task, tmp_path, fingerprint="another")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_trains(strategy, task, tmp_path):
    config = changed(strategy=strategy, epochs=6, learning_rate=0.02)
    _, history = train(task, tmp_path, config)
    losses = [record["loss"] for record in history]
    assert all(np.isfinite(losses))
    assert min(losses) < losses[0]
    assert len(history) == 6


def test_a_network_alone_is_trained_as_a_supernet_of_one(digits, tmp_path):
    supernet = build()
    alone = NetworkAlone.of(supernet, supernet.smallest, seed=3)
    counts = supernet.count(supernet.smallest)
    assert alone.space.size == 1
    assert alone.count(alone.largest) == counts
    assert sum(p.numel() for p in alone.parameters()) == counts["num_parameters"]
    again = NetworkAlone.of(supernet, supernet.smallest, seed=3)
    assert same_state(alone.state_dict(), again.state_dict())
    other = NetworkAlone.of(supernet, supernet.smallest, seed=4)
    assert not same_state(alone.state_dict(), other.state_dict())
    config = changed(strategy="single_path", learning_rate=0.02)
    _, history = train(digits, tmp_path, config, alone)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    inputs = digits.example_inputs(4)
    alone.eval()
    torch.testing.assert_close(alone.extract(alone.largest)(*inputs), alone(*inputs))
    assert len(alone.example_inputs(5)[0]) == 5


class TestTeacher:
    """A trained network that a network alone learns from."""

    CONFIG = changed(
        strategy="single_path", distillation=DistillationConfig(temperature=4.0), label_smoothing=0
    )

    def alone(self, seed=0):
        supernet = build("resnet")
        return NetworkAlone.of(supernet, supernet.smallest, seed=seed)

    def test_its_predictions_have_their_share_of_the_loss(self, task, tmp_path):
        network, teacher = self.alone().train(), self.alone(seed=1).eval()
        taught = Teacher(teacher, 0.9)
        training = under_way(network, task, self.CONFIG, tmp_path, teacher=taught)
        batch = task.load("train", torch.arange(64))
        (assign,) = (phase.assign for phase in training.phases)
        [*_] = training.gradients.add(assign(np.random.default_rng(0)), batch, 64)
        found = {name: p.grad.clone() for name, p in network.named_parameters()}
        network.zero_grad()
        logits = network(*batch.inputs)
        with torch.no_grad():
            soft = teacher(*batch.inputs) / 4
        loss = 0.1 * summed_cross_entropy(logits, batch.targets)
        loss = loss + 0.9 * 16 * soft_cross_entropy(logits / 4, soft)
        (loss / 64).backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)

    def test_is_left_as_it_was_and_kept_in_no_checkpoint(self, task, tmp_path):
        teacher = self.alone(seed=1)
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
        taught = Teacher(teacher, 0.5)
        train(task, tmp_path, self.CONFIG, self.alone(), teacher=taught)
        assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())
        assert load_latest(tmp_path, "f").teacher == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("strategy", ["sandwich", "progressive_shrinking"])
def test_trains_on_cuda(precision, strategy, digits, tmp_path):
    config = changed(
        strategy=strategy,
        epochs=6,
        precision=precision,
        device="cuda",
        channels_last=True,
        averaging_decay=0.9,
        monitor_every=2,
        learning_rate=0.02,
    )

    def stop(report):
        if report.step == 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits, tmp_path, config, on_step=stop)
    supernet, history = train(digits, tmp_path, config)
    assert len(history) == 6
    assert min(record["loss"] for record in history) < 0.9 * history[0]["loss"]
    assert next(supernet.parameters()).device.type == "cpu"
