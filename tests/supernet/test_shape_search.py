"""Shape search by gradient: what is drawn, mixed, expected and found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nasbench.config import ShapeSearchConfig, TrainingConfig
from nasbench.errors import RequestError, WorkError
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS
from nasbench.supernet.alone import NetworkAlone
from nasbench.supernet.families.mobilenet_v3 import MOBILENET_V3
from nasbench.supernet.shape_search import COSTS, ExpectedCost, TransformableNetwork, search_shape
from nasbench.supernet.shape_search.cost import cost_loss, cost_regime
from nasbench.supernet.shape_search.distribution import gumbel_log_probabilities
from nasbench.supernet.shape_search.mixing import interpolate_channels
from nasbench.supernet.shape_search.network import learned_dimensions
from nasbench.supernet.shape_search.searcher import ShapeRecord, chosen_shape
from nasbench.tasks import TASKS

PRESETS = [
    ("resnet", "tiny"),
    ("resnet", "fashion"),  # bottlenecks
    ("resnet", "fashion_basic"),
    ("resnet", "cifar_resnet20"),
    ("resnet", "ofa_resnet50"),  # a stem whose depth stays
    ("mobilenet_v3", "tiny"),
    ("mobilenet_v3", "fashion"),  # a resolution that stays
    ("mobilenet_v3", "fashion_small"),
    ("mobilenet_v3", "attentive_nas"),  # uniform stages
]
TINY = [("resnet", "tiny"), ("mobilenet_v3", "tiny")]
TRAINING = TrainingConfig(
    strategy="single_path", epochs=2, batch_size=128, warmup_epochs=0.5, num_threads=1, device="cpu"
)
SEARCH = ShapeSearchConfig(
    epochs=2, logits_learning_rate=0.1, selection_samples=128, targets=(0.5,)
)


def build(family, preset):
    return SUPERNETS[family].build(preset)


def weightless(family, preset):
    with torch.device("meta"):
        return build(family, preset)


def with_fixed(supernet, architecture):
    """The architecture with what no search by gradient learns at its largest."""
    learned = {name for names in learned_dimensions(supernet) for name in names}
    fixed = {name: c for name, c in supernet.largest.items() if name not in learned}
    return supernet.space.canonical({**architecture, **fixed})


def architectures(supernet, count, seed=0):
    space = supernet.space
    drawn = space.from_genomes(space.sample_choices(count, np.random.default_rng(seed)))
    found = [with_fixed(supernet, a) for a in (space.smallest, *drawn)]
    return [*found, space.largest]


# -- channel-wise interpolation -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3, 3)])
def test_interpolation_is_the_identity_at_equal_widths(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert interpolate_channels(x, 5) is x


@pytest.mark.parametrize(("channels", "wanted"), [(3, 8), (5, 7), (8, 3), (1, 6), (6, 1)])
def test_interpolation_preserves_constants_and_is_adaptive_average_pooling(channels, wanted):
    constant = torch.full((2, channels, 3, 3), 1.5)
    torch.testing.assert_close(
        interpolate_channels(constant, wanted), torch.full((2, wanted, 3, 3), 1.5)
    )
    x_BC = torch.randn(4, channels, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.adaptive_avg_pool1d(x_BC, wanted)
    torch.testing.assert_close(interpolate_channels(x_BC, wanted), pooled)


# -- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [5.0, 0.1, 1e-3, 1e-30])
def test_nothing_drawn_is_nan_at_the_smallest_temperatures(temperature):
    network = TransformableNetwork(build("resnet", "tiny"), seed=0)
    with torch.no_grad():
        network.distribution.logits[0][:] = torch.tensor([0.0, -200.0, 200.0])
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        network.zero_grad(set_to_none=True)
        drawn = network.distribution.draw(temperature, generator)
        for name, selection in drawn.items():
            assert torch.isfinite(selection.weights_K).all(), name
            assert selection.weights_K.sum().item() == pytest.approx(1.0)
        sum(s.weights_K[0] for s in drawn.values()).backward()
        for logits_C in network.distribution.logits:
            assert torch.isfinite(logits_C.grad).all()


def test_draws_follow_the_distribution():
    logits_C = torch.tensor([0.7, 0.2, 0.1]).log()
    generator = torch.Generator().manual_seed(0)
    draws = [int(gumbel_log_probabilities(logits_C, 0.5, generator).argmax()) for _ in range(2000)]
    shares = np.bincount(draws, minlength=3) / 2000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.035)


def test_two_distinct_choices_of_each_width_and_all_depths_are_drawn():
    network = TransformableNetwork(build("mobilenet_v3", "tiny"), seed=0)
    generator = torch.Generator().manual_seed(0)
    drawn = network.distribution.draw(1.0, generator)
    for name in network.distribution.mixed:
        first, second = drawn[name].indices
        assert first < second
    for name in network.distribution.depths:
        assert drawn[name].indices == tuple(range(len(network.distribution.choices[name])))


def test_choices_that_are_written_falling_are_drawn_rising():
    spec = MOBILENET_V3.presets["tiny"]
    falling = replace(spec, stages=tuple(replace(s, kernel_sizes=(7, 5, 3)) for s in spec.stages))
    supernet = MOBILENET_V3.supernet(falling, {"sharing": "slice", "family": "mine"})
    network = TransformableNetwork(supernet, seed=0)
    network.select(network.distribution.draw(1.0, torch.Generator().manual_seed(0)))
    assert network(*build("mobilenet_v3", "tiny").example_inputs(2)).shape == (2, 10)


@pytest.mark.parametrize(("family", "preset"), TINY)
def test_a_shape_grows_until_nothing_fits(family, preset):
    supernet = build(family, preset)
    distribution = TransformableNetwork(supernet, seed=0).distribution
    cost = ExpectedCost(build(family, preset), COSTS["num_macs"])

    def fits(shape):
        return cost.of(shape) <= 0.6 * cost.largest()

    start = supernet.space.canonical(
        {**supernet.largest, **{n: c[0] for n, c in distribution.choices.items()}}
    )
    grown = distribution.grown(start, fits)
    assert fits(grown)
    assert cost.of(grown) > 0.5 * cost.largest()
    genome = supernet.space.to_genome(grown)
    active = supernet.space.active(genome[None])[0]
    for dimension, is_active in zip(supernet.space, active, strict=True):
        choices = distribution.choices.get(dimension.name, ())
        position = choices.index(grown[dimension.name]) if choices else 0
        if is_active and position + 1 < len(choices):
            larger = {**grown, dimension.name: choices[position + 1]}
            assert not fits(supernet.space.canonical(larger))


def test_a_shape_grows_first_where_that_is_likeliest():
    distribution = TransformableNetwork(build("resnet", "tiny"), seed=0).distribution
    start = distribution.space.canonical(
        {**distribution.space.largest, **{n: c[0] for n, c in distribution.choices.items()}}
    )

    def distance(shape):
        """How many raises from the start."""
        return sum(
            choices.index(shape[name]) - choices.index(start[name])
            for name, choices in distribution.choices.items()
        )

    for name in ("stem.width", "stage1.depth", "stage2.block1.inner_width"):
        choices = distribution.choices[name]
        with torch.no_grad():
            for other, logits_C in distribution.logits_of().items():
                logits_C[:] = 0.0
                logits_C[1] = 3.0 if other == name else -1.0
        once = distribution.space.canonical({**start, name: choices[1]})
        assert distribution.grown(start, lambda larger: distance(larger) == 1) == once


# -- the mixed network ----------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "preset"), TINY)
def test_gradients_reach_all_logits(family, preset):
    supernet = build(family, preset)
    inputs = supernet.example_inputs(8)
    network = TransformableNetwork(supernet, seed=0)
    reached = {name: set() for name in network.distribution.choices}
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):  # every choice of three is among the two that are drawn sooner or later
        network.zero_grad(set_to_none=True)
        drawn = network.distribution.draw(1.0, generator)
        network.select(drawn)
        network(*inputs).square().sum().backward()
        for name, logits_C in network.distribution.logits_of().items():
            has_gradient = logits_C.grad.abs() > 1e-6 * logits_C.grad.abs().max()
            reached[name] |= set(has_gradient.nonzero().flatten().tolist())
            assert reached[name] >= set(drawn[name].indices)
    every = {name: set(range(len(c))) for name, c in network.distribution.choices.items()}
    assert reached == every


def test_a_stage_of_one_certain_depth_ends_there():
    supernet = build("resnet", "tiny")
    inputs = supernet.example_inputs(4)
    network = TransformableNetwork(supernet, seed=0)
    generator = torch.Generator().manual_seed(0)
    drawn = network.distribution.draw(1.0, generator)
    depth = "stage3.depth"
    certain = replace(drawn[depth], weights_K=torch.tensor([1.0, 0.0]))
    network.select({**drawn, depth: certain})
    before = network(*inputs)
    with torch.no_grad():
        for parameter in supernet.get_submodule("stages.stage3.block2").parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(network(*inputs), before)


def test_weights_that_depend_on_the_architecture_are_refused():
    supernet = SUPERNETS["resnet"].build("tiny", sharing="mixture_layerwise")
    with pytest.raises(RequestError, match=r"needs supernet\.sharing slice"):
        TransformableNetwork(supernet, seed=0)


@pytest.mark.parametrize("family", ["vit", "encoder", "decoder", "seq2seq"])
def test_a_family_that_does_not_say_its_layers_is_refused(family):
    with pytest.raises(RequestError, match=f"'{family}' names no layers by dimension"):
        TransformableNetwork(weightless(family, "tiny"), seed=0)


# -- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_the_cost_of_one_shape_is_what_the_family_counts(family, preset, metric):
    supernet = weightless(family, preset)
    cost = ExpectedCost(supernet, COSTS[metric])
    for architecture in architectures(supernet, 8):
        assert cost.of(architecture) == pytest.approx(supernet.count(architecture)[metric])
    largest, smallest = supernet.largest, with_fixed(supernet, supernet.smallest)
    assert cost.largest() == pytest.approx(supernet.count(largest)[metric])
    assert cost.smallest() == pytest.approx(supernet.count(smallest)[metric])


@pytest.mark.parametrize(("family", "preset"), TINY)
def test_a_table_of_blocks_adds_up(family, preset):
    supernet = build(family, preset)
    latency = dict(zip(supernet.distinct_blocks(), iter(np.linspace(1, 2, 10_000)), strict=False))
    cost = ExpectedCost(supernet, lambda _, block: latency[block.key], constant=0.5)
    for architecture in architectures(supernet, 8):
        blocks = supernet.blocks_of(architecture)
        expected = 0.5 + sum(latency[block.key] for block in blocks)
        assert cost.of(architecture) == pytest.approx(expected)


@pytest.mark.parametrize(("family", "preset"), TINY)
def test_the_expectation_is_the_mean_over_shapes_that_are_drawn(family, preset):
    supernet = weightless(family, preset)
    cost = ExpectedCost(supernet, COSTS["num_macs"])
    rng = np.random.default_rng(0)
    dimensions = {d.name: d.rising for d in supernet.space}
    probabilities = {n: rng.dirichlet(np.ones(len(c))) for n, c in dimensions.items()}
    counted = []
    for _ in range(1500):
        drawn = {n: c[rng.choice(len(c), p=probabilities[n])] for n, c in dimensions.items()}
        counted.append(supernet.count(supernet.space.canonical(drawn))["num_macs"])
    expected = float(cost({n: torch.from_numpy(p) for n, p in probabilities.items()}))
    error = np.std(counted) / len(counted) ** 0.5
    assert abs(expected - np.mean(counted)) < 4 * error


def test_the_likeliest_shape_decides_the_regime():
    assert cost_regime(0.51, 0.5, 0.05) == "push down"
    assert cost_regime(0.44, 0.5, 0.05) == "push up"
    assert [cost_regime(c, 0.5, 0.05) for c in (0.5, 0.47, 0.45)] == ["none"] * 3


@pytest.mark.parametrize(("regime", "sign"), [("push down", 1), ("push up", -1), ("none", 0)])
def test_the_gradient_of_the_cost_loss_pushes_the_expectation(regime, sign):
    supernet = weightless("resnet", "tiny")
    cost = ExpectedCost(supernet, COSTS["num_macs"])
    logits = {d.name: torch.zeros(len(d.choices), requires_grad=True) for d in supernet.space}

    def expected():
        return cost({name: logits_C.softmax(0) for name, logits_C in logits.items()})

    before = expected()
    cost_loss(before, regime).backward()
    with torch.no_grad():
        for logits_C in logits.values():
            logits_C -= 0.1 * logits_C.grad
        assert np.sign(before.item() - expected().item()) == sign


# -- the search -----------------------------------------------------------------------------------


def searched(
    folder, family="resnet", *, search=SEARCH, target=0.5, on_epoch=None, training=TRAINING
):
    task = TASKS["digits"]()
    supernet = build(family, "tiny")
    network = TransformableNetwork(supernet, seed=0)
    cost = ExpectedCost(build(family, "tiny"), COSTS["num_macs"])
    found = search_shape(
        network, task, training, search, cost,
        target=target, seed=0, folder=folder, fingerprint="f", on_epoch=on_epoch,
    )  # fmt: skip
    return found, network.state_dict()


class KilledError(Exception):
    """Stands for the signal."""


def test_a_search_that_was_killed_finds_what_another_does(tmp_path):
    def kill(record):
        if record.epoch == 1:
            raise KilledError

    with pytest.raises(KilledError):
        searched(tmp_path / "killed", on_epoch=kill)
    resumed, weights = searched(tmp_path / "killed")
    whole, expected = searched(tmp_path / "whole")
    assert resumed == whole
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


def test_weights_and_logits_learn_in_turn(tmp_path):
    start = TransformableNetwork(build("mobilenet_v3", "tiny"), seed=0).state_dict()
    found, end = searched(tmp_path, "mobilenet_v3")
    changed = {name for name, tensor in start.items() if not torch.equal(end[name], tensor)}
    assert {name for name in start if name.startswith("distribution.logits.")} <= changed
    assert any(name.endswith("shared.weight") for name in changed)
    assert [record.epoch for record in found.history] == [1, 2]


@pytest.mark.parametrize(("target", "rises"), [(0.1, False), (0.9, True)])
def test_the_expected_cost_moves_to_the_target(tmp_path, target, rises):
    search = SEARCH.model_copy(update={"cost_weight": 50.0})
    found, _ = searched(tmp_path, search=search, target=target)
    first, last = (found.history[i].expected_cost for i in (0, -1))
    assert (last > first) == rises


def record(epoch, cost, loss):
    return ShapeRecord(epoch, {}, cost, cost, loss, 1.0, 1.0)


@pytest.mark.parametrize(
    ("costs", "losses", "chosen"),
    [
        ((0.48, 0.46, 0.52), (0.3, 0.2, 0.1), 0.46),  # the best that meets the target
        ((0.30, 0.52, 0.70), (0.1, 0.2, 0.3), 0.52),  # none does: the nearest
    ],
)
def test_the_best_shape_at_the_target_is_found(costs, losses, chosen):
    history = [record(e, c, v) for e, (c, v) in enumerate(zip(costs, losses, strict=True), 1)]
    found = chosen_shape(history, 0.5, 0.05, Architecture)
    assert found.cost == chosen


def test_a_loss_that_is_not_finite_stops_the_search(tmp_path):
    training = TRAINING.model_copy(update={"learning_rate": 1e20, "gradient_clip_norm": None})
    with pytest.raises(WorkError, match="was not finite in epoch"):
        searched(tmp_path, training=training)


def test_half_of_the_training_data_holds_a_batch(tmp_path):
    training = TRAINING.model_copy(update={"batch_size": 1000})
    with pytest.raises(RequestError, match="exceeds half of the"):
        searched(tmp_path, training=training)


def test_a_found_shape_extracts(tmp_path):
    found, _ = searched(tmp_path, "mobilenet_v3")
    supernet = build("mobilenet_v3", "tiny")
    network = NetworkAlone.of(supernet, found.architecture, seed=0)
    count = sum(parameter.numel() for parameter in network.network.parameters())
    assert count == supernet.count(found.architecture)["num_parameters"]
