"""What a step did not train: it neither decays nor moves, and its moments wait."""

import numpy as np
import pytest
import torch

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS
from nasbench.supernet.nested.chain import NestedChain
from nasbench.supernet.training import trainer
from nasbench.supernet.training.optimization import build_optimizer
from nasbench.supernet.training.strategies import Assignment, Phase, build_strategy
from nasbench.tasks import Batch
from nasbench.tasks.base import summed_cross_entropy

CONFIG = TrainingConfig(strategy="sorted", gradient_clip_norm=None, weight_decay=0.1, device="cpu")


class OneBatch:
    """As much of a task as training under way asks for."""

    def num_batches(self, _batch_size):
        return 1


def training_of(supernet, folder, **settings):
    config = TrainingConfig.model_validate({**CONFIG.model_dump(), **settings})
    strategy = build_strategy("sorted", supernet, {})
    arguments = (torch.device("cpu"), 0, folder, "f")
    supernet.train()
    return trainer._Training(supernet, OneBatch(), config, strategy, *arguments)


def step(training, members, pieces, num_targets):
    """One optimizer step, each piece of which trains all members."""

    def assign(_rng):
        return [Assignment(member, labels=1.0) for member in members]

    training.redraws = False
    training._update(Phase(name="test", num_epochs=1, assign=assign), pieces, num_targets)


def batch_for(supernet, size=6):
    inputs = supernet.example_inputs(size)
    with torch.no_grad():
        logits = supernet(*inputs)
    targets = torch.randint(
        logits.shape[-1], logits.shape[:-1], generator=torch.Generator().manual_seed(0)
    )
    return Batch(inputs, targets)


def all_tensors(training):
    """Weights and moments, by name."""
    found = {}
    for name, parameter in training.supernet.named_parameters():
        found[name] = parameter.detach()
        for key, value in training.optimizer.state.get(parameter, {}).items():
            if value.shape == parameter.shape:
                found[f"{name}:{key}"] = value
    return {name: tensor.clone() for name, tensor in found.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("family", ["mobilenet_v3", "decoder"])
def test_what_a_step_does_not_use_stays_as_it_is(family, optimizer, tmp_path):
    supernet = SUPERNETS[family].build(seed=0)
    dimensions = {"mobilenet_v3": ("depth", "width", "expansion_ratio"), "decoder": None}[family]
    small = NestedChain.grown(supernet, 6, dimensions=dimensions)[1]
    batch = batch_for(supernet)
    training = training_of(supernet, tmp_path, optimizer=optimizer)
    step(training, [supernet.largest], [batch], len(batch.targets))  # all have moments now
    before = all_tensors(training)
    step(training, [small], [batch], len(batch.targets))
    after = all_tensors(training)
    num_used = supernet.count(small)["num_parameters"]
    num_changed = {"weights": 0}
    for name, tensor in after.items():
        kind = name.partition(":")[2] or "weights"
        changed = (tensor != before[name]).sum().item()
        num_changed[kind] = num_changed.get(kind, 0) + changed
    assert len(num_changed) > 1
    for kind, count in num_changed.items():
        assert (
            0.8 * num_used < count <= num_used < 0.7 * sum(p.numel() for p in supernet.parameters())
        ), kind


def test_columns_of_a_table_that_are_too_wide_stay_too(tmp_path):
    supernet = SUPERNETS["decoder"].build(seed=0)
    batch = batch_for(supernet)
    training = training_of(supernet, tmp_path)
    before = supernet.embedding.shared.weight.detach().clone()
    width = supernet.smallest["hidden_size"]
    step(training, [supernet.smallest], [batch], len(batch.targets))
    changed = supernet.embedding.shared.weight.detach() != before
    assert changed[:, :width].any()
    assert not changed[:, width:].any()


@pytest.mark.parametrize("family", ["decoder", "resnet"])
def test_what_is_used_moves_as_in_a_network_of_those_sizes_alone(family, tmp_path):
    supernet = SUPERNETS[family].build(seed=0).double()
    member = NestedChain.grown(supernet, 6)[2]
    batch = batch_for(supernet)
    plain = supernet.extract(member).train()
    training = training_of(supernet, tmp_path)
    optimizer = build_optimizer(plain, training.config)
    for group in optimizer.param_groups:
        group["lr"] = CONFIG.learning_rate
    for _ in range(3):
        step(training, [member], [batch], len(batch.targets))
        optimizer.zero_grad()
        loss = summed_cross_entropy(plain(*batch.inputs), batch.targets, CONFIG.label_smoothing)
        (loss / len(batch.targets)).backward()
        optimizer.step()
    found = dict(supernet.extract(member).named_parameters())
    for name, expected in plain.named_parameters():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", ["vit", "encoder"])
def test_pieces_that_train_one_member_make_the_step_of_the_whole_batch(family, tmp_path):
    batch = None
    ended = []
    for num_pieces in (1, 3):
        supernet = SUPERNETS[family].build(seed=0).double()
        if batch is None:
            batch = batch_for(supernet)
            if batch.inputs[0].is_floating_point():
                batch = Batch((batch.inputs[0].double(),), batch.targets)
        member = NestedChain.grown(supernet, 6)[2]
        training = training_of(supernet, tmp_path)
        size = len(batch.targets) // num_pieces
        pieces = [
            Batch((batch.inputs[0][i : i + size],), batch.targets[i : i + size])
            for i in range(0, len(batch.targets), size)
        ]
        for _ in range(2):
            step(training, [member], pieces, len(batch.targets))
        ended.append(supernet.state_dict())
    for name, expected in ended[0].items():
        torch.testing.assert_close(ended[1][name], expected, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("family", ["vit", "encoder", "decoder"])
def test_all_depths_in_one_pass_have_the_gradients_of_as_many_passes(family, tmp_path):
    supernet = SUPERNETS[family].build(seed=0).double()
    batch = batch_for(supernet)
    weights = list(range(1, 1 + len(supernet.space["depth"].choices)))
    strategy = build_strategy("sorted", supernet, {"exits": True, "member_weights": weights})
    expected = {name: torch.zeros_like(p) for name, p in supernet.named_parameters()}
    for member, weight in zip(strategy.chain, weights, strict=True):
        supernet.train().activate(member)
        supernet.zero_grad()
        loss = summed_cross_entropy(supernet(*batch.inputs), batch.targets, CONFIG.label_smoothing)
        (weight / sum(weights) * loss / len(batch.targets)).backward()
        for name, parameter in supernet.named_parameters():
            if parameter.grad is not None:
                expected[name] += parameter.grad
    training = training_of(supernet, tmp_path)
    phase = Phase(name="test", num_epochs=1, assign=strategy.assign)
    found = training._update(phase, [batch], len(batch.targets))
    assert found == pytest.approx(loss.item() / len(batch.targets), rel=1e-6)  # of the deepest
    for name, parameter in supernet.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-6, atol=1e-9, msg=name)


def test_each_piece_draws_members_of_its_own(tmp_path):
    supernet = SUPERNETS["vit"].build(seed=0)
    batch = batch_for(supernet)
    training = training_of(supernet, tmp_path)
    strategy = build_strategy("sorted", supernet, {"num_members": 8})
    drawn = []

    def assign(rng):
        drawn.append(strategy.assign(rng)[0].architecture)
        return strategy.assign(np.random.default_rng(0))

    phase = Phase(name="test", num_epochs=1, assign=assign)
    training._update(phase, [batch] * 5, 5 * len(batch.targets))
    assert len(drawn) == 5
    assert len(set(drawn)) > 1
