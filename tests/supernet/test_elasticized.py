"""Networks of one's own as supernets: the contract, and what holds of every architecture."""

from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.config import TrainingConfig
from nasbench.cost import count_macs, count_parameters
from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS, build_supernet, elasticize
from nasbench.supernet.elasticized import Elasticized, Rule
from nasbench.supernet.training.strategies import STRATEGIES
from nasbench.supernet.training.trainer import train_supernet
from nasbench.tasks import TASKS
from nasbench.tasks.images import ImageClassification, ImagesInMemory
from nasbench.testing.supernets import (
    SupernetContract,
    calibrated_output,
    disturb,
    random_architectures,
)
from tests.supernet import networks


class TestOwnNetworks(SupernetContract):
    families = (
        "tests.supernet.networks:plain_cnn",
        "tests.supernet.networks:small_resnet",
        "tests.supernet.networks:smooth_mobilenet",
    )
    num_random = 8


def images(channels: int, side: int) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    "plain_cnn": (networks.plain_cnn, images(1, 8)),
    "vgg": (networks.vgg, images(3, 16)),
    "resnet18": (networks.resnet18, images(3, 32)),
    "resnet50": (networks.resnet50, images(3, 32)),
    "resnext": (networks.resnext, images(3, 8)),
    "mobilenet_v2": (networks.mobilenet_v2, images(1, 16)),
    "mobilenet_v3": (networks.mobilenet_v3, images(3, 16)),
    "shufflenet": (networks.ShuffleUnit, images(16, 8)),
    "densenet": (networks.DenseNet, images(3, 8)),
    "unet": (networks.UNet, images(3, 16)),
    "vit": (networks.ViT, images(3, 16)),
    "torch_transformer": (networks.TorchTransformer, torch.arange(24).view(2, 12)),
    "user_mlp": (networks.UserMLP, torch.randn(2, 24)),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """In eval mode, as after some training: no normalization is an identity."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    disturb(network)
    return network.eval()


@cache
def elastic(name: str) -> tuple[nn.Module, Elasticized, Tensor]:
    make, inputs = NETWORKS[name]
    torch.manual_seed(0)
    model = with_statistics(make()).double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    return model, elasticize(model, inputs), inputs


def dimensions(supernet: Elasticized, kind: str) -> list[str]:
    return [d.name for d in supernet.space if d.name.rpartition(".")[2] == kind]


@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_the_largest_is_the_model(self, name):
        model, supernet, inputs = elastic(name)
        supernet, weights = elasticize(model, inputs), model.state_dict()
        assert len(supernet.space) > 0
        assert not supernet.training
        with torch.no_grad():
            torch.testing.assert_close(supernet(inputs), model(inputs), rtol=1e-9, atol=1e-9)
        assert supernet.count(supernet.largest)["num_parameters"] == count_parameters(model)
        for key, tensor in supernet.state_dict().items():
            assert tensor.data_ptr() not in {t.data_ptr() for t in weights.values()}, key

    def test_extraction_is_the_active_subnetwork(self, name):
        _, supernet, _ = elastic(name)
        for architecture in [supernet.smallest, *random_architectures(supernet.space, 6)]:
            output = calibrated_output(supernet, architecture)
            with torch.no_grad():
                extracted = supernet.extract(architecture)(*supernet.example_inputs(8))
            torch.testing.assert_close(extracted, output, rtol=1e-9, atol=1e-9)

    def test_counts_are_exact(self, name):
        _, supernet, _ = elastic(name)
        one = supernet.example_inputs(1)
        for architecture in [
            supernet.largest,
            supernet.smallest,
            *random_architectures(supernet.space, 4),
        ]:
            extracted = supernet.extract(architecture)
            found = supernet.count(architecture)
            assert found["num_parameters"] == count_parameters(extracted)
            assert found["num_macs"] == count_macs(extracted, one)

    def test_each_dimension_costs_something(self, name):
        _, supernet, _ = elastic(name)
        largest = supernet.count(supernet.largest)
        for dimension in supernet.space:
            smaller = {**supernet.largest, dimension.name: min(dimension.choices)}
            found = supernet.count(smaller)
            assert found["num_parameters"] < largest["num_parameters"], dimension.name

    def test_every_convolution_and_linear_layer_is_accounted_for(self, name):
        _, supernet, _ = elastic(name)
        static = {part.name for part in supernet.static}
        weighted = (m for m in supernet.network.modules() if isinstance(m, nn.Linear | nn.Conv2d))
        for layer in weighted:  # a plain one has nothing elastic
            name = next(n for n, m in supernet.network.named_modules() if m is layer)
            assert f"{name}.width" in static or name in static
        assert all(part.reason for part in supernet.static)


class TestWhatIsFound:
    def test_a_residual_stream_is_one_dimension_and_its_blocks_can_be_left_out(self):
        _, supernet, _ = elastic("resnet18")
        assert dimensions(supernet, "depth") == [f"layer{n}.depth" for n in (1, 2, 3, 4)]
        assert dimensions(supernet, "kernel_size") == ["conv1.kernel_size"]
        assert len(dimensions(supernet, "width")) == 4 + 8  # the streams, and within each block
        assert supernet.space["layer2.1.conv1.width"].active_when.dimension == "layer2.depth"

    def test_a_depth_passes_the_input_of_a_block_on(self):
        model = with_statistics(networks.resnet18())
        supernet, inputs = elasticize(model, images(3, 32)), images(3, 32)
        supernet.activate({**supernet.largest, "layer3.depth": 1})
        model.layer3 = model.layer3[:1]
        with torch.no_grad():
            torch.testing.assert_close(supernet(inputs), model(inputs))

    def test_heads_are_kept_whole(self):
        for name in ("vit", "torch_transformer"):
            _, supernet, _ = elastic(name)
            heads = dimensions(supernet, "num_heads")
            assert len(heads) == 3
            assert supernet.space[heads[0]].choices == (1, 2, 3, 4)

    def test_parts_of_a_concatenation_are_dimensions_of_their_own(self):
        _, supernet, _ = elastic("densenet")
        assert {"stem.width", "block1.0.conv2.width", "block1.1.conv2.width"} <= {
            d.name for d in supernet.space
        }

    def test_channels_of_a_group_are_kept_together(self):
        _, supernet, _ = elastic("resnext")
        assert supernet.space["1.conv1.width"].choices == (4, 8, 12, 16)  # four groups of four

    def test_halves_that_are_shuffled_stay_halves(self):
        _, supernet, _ = elastic("shufflenet")
        smallest = supernet.extract(supernet.smallest)
        assert smallest.first.out_channels == 2 * smallest.branch.out_channels

    def test_the_most_important_channels_are_kept(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        weight = model[2].weight.detach().abs().sum(0)
        supernet = elasticize(model, torch.randn(2, 4))
        kept = supernet.extract({"0.width": 2}).get_submodule("2").weight.detach().abs().sum(0)
        torch.testing.assert_close(kept, weight.sort(descending=True).values[:2])


class Tied(nn.Module):
    """An embedding whose weight is also the last layer's."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner = nn.Embedding(20, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(F.relu(self.inner(self.embed(ids))))


class Branching(nn.Module):
    """What torch.fx cannot trace."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(self.conv(x)) if len(x) > 0 else x


class Calls(nn.Module):
    """A convolution, some function of what it writes, and a linear layer."""

    def __init__(self, function, width=8):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 8, 3, padding=1), function
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(input=self.function(self.conv(x)).mean((2, 3)))


class TestWhatStaysAsItIs:
    def reasons(self, model, inputs):
        torch.manual_seed(0)
        supernet = elasticize(model.eval(), inputs)
        with torch.no_grad():
            torch.testing.assert_close(supernet(inputs), model(inputs))
        extracted = supernet.extract(supernet.smallest)
        assert supernet.count(supernet.smallest) == {
            "num_parameters": count_parameters(extracted),
            "num_macs": count_macs(extracted, supernet.example_inputs(1)),
        }
        return supernet, {part.name: part.reason for part in supernet.static}

    def test_a_shared_weight(self):
        supernet, reasons = self.reasons(Tied(), torch.arange(6).view(2, 3))
        assert "shares its weight" in reasons["embed"]
        assert "shares its weight" in reasons["head"]
        assert len(supernet.space) == 0

    def test_a_module_that_cannot_be_traced_is_calibrated_nevertheless(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 1), Branching(), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)
        )
        supernet, reasons = self.reasons(with_statistics(model), images(3, 4))
        assert "cannot trace Branching" in reasons["1"]
        assert "cannot trace Branching" in reasons["0.width"]
        assert [d.name for d in supernet.space] == ["2.width"]
        before = supernet.extract(supernet.largest).get_submodule("1").norm.running_mean.clone()
        calibrated_output(supernet, supernet.largest)
        extracted = supernet.extract(supernet.largest).get_submodule("1")
        assert type(extracted.norm) is nn.BatchNorm2d
        assert not torch.equal(extracted.norm.running_mean, before)

    @pytest.mark.parametrize(
        ("function", "width", "said"),
        [
            (lambda x: torch.cumsum(x, 1), 8, "calls cumsum"),
            (lambda x: x[:, ::2], 4, "takes some of them"),
            (lambda x: x.flip(1), 8, "calls flip"),
            (lambda x: x.mean((2, 3), keepdim=True).expand(x.shape), 8, "size that depends"),
            (lambda x: torch.einsum("bchw->bhcw", x).transpose(1, 2), 8, "calls einsum"),
            (lambda x: x * x.mean().new_ones(x.shape[1], 1, 1), 8, "as large as they are many"),
            (lambda x: x.reshape(-1, 1, 4, 4).reshape(-1, 8, 4, 4), 8, "examples of a batch"),
        ],
    )
    def test_an_operation_without_a_rule(self, function, width, said):
        supernet, reasons = self.reasons(Calls(function, width), images(3, 4))
        assert said in reasons["conv.width"]
        assert len(supernet.space) == 0

    def test_what_is_written_in_place_is_read_by_all_that_follow(self):
        def function(x):
            y = F.relu(x, inplace=True)
            return x.tanh_() + y + x

        supernet, _ = self.reasons(Calls(function), images(3, 4))
        assert [d.name for d in supernet.space] == ["conv.width"]

    def test_one_channel_alone(self):
        model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1))
        supernet, reasons = self.reasons(model, images(3, 4))
        assert "one alone" in reasons["0.width"]
        assert [d.name for d in supernet.space] == ["1.width"]

    def test_an_input_that_is_given_by_name(self):
        supernet, _ = self.reasons(Calls(lambda x: nn.functional.relu(input=x)), images(3, 4))
        assert [d.name for d in supernet.space] == ["conv.width"]

    def test_a_layer_with_hooks(self):
        model = Calls(torch.relu)
        model.conv = nn.utils.spectral_norm(model.conv)
        _, reasons = self.reasons(model, images(3, 4))
        assert "has hooks" in reasons["conv"]

    def test_slices_that_cut_channels_in_two_are_two_dimensions(self):
        model = Calls(lambda x: torch.cat([x[:, 4:], x[:, :4].relu()], 1))
        supernet, _ = self.reasons(model, images(3, 4))
        assert [d.name for d in supernet.space] == ["conv.part1.width", "conv.part2.width"]

    def test_a_projection_block_is_not_left_out(self):
        _, supernet, _ = elastic("resnet50")
        assert supernet.space["layer2.depth"].choices == (1, 2, 3, 4)
        (stage,) = [s for s in supernet.program.stages if s.name == "layer2"]
        assert [block.owner for block in stage.blocks] == ["layer2.1", "layer2.2", "layer2.3"]


class TestRules:
    def build(self, *rules):
        model, inputs = networks.small_resnet(), images(1, 8)
        return elasticize(model, inputs, rules)

    def test_the_last_rule_that_names_a_dimension_counts(self):
        supernet = self.build(
            Rule(pattern="*.width", ratios=(0.5, 1)),
            Rule(pattern="layer1.*.conv1.width", choices=(3, 5, 8, 99)),
            Rule(pattern="layer2.depth", is_elastic=False),
        )
        choices = {d.name: d.choices for d in supernet.space}
        assert choices["conv1.width"] == (4, 8)
        assert choices["layer1.0.conv1.width"] == (3, 5, 8)
        assert "layer2.depth" not in choices
        assert "a rule says so" in {p.reason for p in supernet.static if p.name == "layer2.depth"}
        assert choices["layer1.depth"] == (1, 2)

    def test_a_stream_is_found_by_any_layer_that_writes_it(self):
        supernet = self.build({"pattern": "layer1.1.conv2.width", "is_elastic": False})
        assert "conv1.width" not in supernet.space.largest

    def test_small_kernels_are_asked_for(self):
        supernet = self.build({"pattern": "layer*.kernel_size", "choices": [1, 3]})
        kernels = dimensions(supernet, "kernel_size")
        assert len(kernels) == 8
        extracted = supernet.extract(supernet.smallest)
        assert extracted.layer1.get_submodule("0").conv1.kernel_size == (1, 1)

    @pytest.mark.parametrize(
        ("rule", "said"),
        [
            ({"pattern": "layer9.*"}, "'layer9.*' names no dimension; there are layer1.depth"),
            ({"pattern": "*", "ratio": 0.5}, "a rule has a pattern"),
            ({"pattern": "*", "ratios": [0.5, 1.5]}, "above 0 and at most 1"),
            ({"pattern": "*", "choices": "8"}, "are numbers, not '8'"),
            ({"pattern": "*", "choices": [1], "ratios": [1]}, "give one"),
        ],
    )
    def test_a_wrong_rule_is_refused(self, rule, said):
        with pytest.raises(RequestError) as error:
            self.build(rule)
        assert said in str(error.value)


class Draws(nn.Module):
    def forward(self, x):
        return x + torch.rand(1)


class Writes(nn.Module):
    def forward(self, x):
        x = x * 1
        x[:, 0] = 0
        return x


class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("model", "said"),
        [
            (Decides(), "the forward of Decides cannot be traced"),
            (Writes(), "does not support item assignment"),
            (Draws(), "does not compute what the network does"),
            (nn.Linear(5, 2), "does not run on the example inputs"),
            (nn.Sequential(nn.SyncBatchNorm(4)), "cannot be calibrated"),
            (nn.Sequential(nn.BatchNorm1d(4, affine=False)), "cannot be calibrated"),
        ],
    )
    def test_says_why(self, model, said):
        with pytest.raises(RequestError, match=said):
            elasticize(model, torch.randn(2, 4))


class TestAsAFamily:
    name = "tests.supernet.networks:small_resnet"

    def test_options_reach_the_function_and_weights_are_loaded(self, tmp_path):
        torch.manual_seed(3)
        model = with_statistics(networks.small_resnet(num_classes=4, width=16))
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        supernet = SUPERNETS[self.name].build(
            num_classes=4,
            image_size=8,
            width=16,
            weights=str(tmp_path / "weights.safetensors"),
            rules=[{"pattern": "*.width", "ratios": [0.5, 1]}],
        )
        inputs = images(1, 8)
        with torch.no_grad():
            torch.testing.assert_close(supernet.eval()(inputs), model(inputs))
        assert supernet.space["conv1.width"].choices == (8, 16)
        assert build_supernet(supernet.settings).fingerprint == supernet.fingerprint

    def test_a_text_network_is_given_tokens(self):
        family = SUPERNETS["tests.supernet.networks:TorchTransformer"]
        (ids,) = family.build(vocab_size=30, max_length=12).example_inputs(3)
        assert ids.shape == (3, 12)
        assert ids.dtype == torch.int64

    def test_what_is_wrong_is_a_sentence(self, tmp_path):
        family = SUPERNETS[self.name]
        (tmp_path / "w.safetensors").write_text("no")
        for settings, said in [
            ({"weights": str(tmp_path / "none")}, "no file of weights"),
            ({"weights": str(tmp_path / "w.safetensors")}, "is no safetensors file"),
            ({"widths": 3}, "unknown setting"),
        ]:
            with pytest.raises(RequestError, match=said):
                family.build(**settings)
        with pytest.raises(RequestError, match="neither a SupernetFamily nor a function"):
            SUPERNETS["tests.supernet.networks:__name__"]
        with pytest.raises(RequestError, match="made a Tensor, not"):
            SUPERNETS["tests.supernet.networks:no_network"].build()
        with pytest.raises(RequestError, match="makes no network"):
            SUPERNETS["builtins:dict"]

    def test_profile_prints_what_was_found(self, nasbench):
        code, printed, _ = nasbench("profile", self.name)
        assert code == 0
        assert "layer1.1.conv1.width" in printed
        assert "layer1.depth is 2" in printed
        assert "static, because the network's output has them: fc.width" in printed

    @pytest.mark.parametrize("strategy", sorted(STRATEGIES))
    def test_every_strategy_trains_it(self, strategy, tmp_path):
        digits = TASKS["digits"](None)
        train = digits.labeled["train"]
        few = ImagesInMemory(train.pixels[:64], train.labels[:64], train.white)
        task = ImageClassification(
            "digits", 10, {**digits.labeled, "train": few}, digits.augmentation
        )
        supernet = SUPERNETS[self.name].build(**task.network_settings)
        before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        epochs = 6 if strategy == "progressive_shrinking" else 1
        config = TrainingConfig(
            strategy=strategy, epochs=epochs, batch_size=32, warmup_epochs=0, monitor_every=0
        )
        history = train_supernet(supernet, task, config, seed=0, folder=tmp_path, fingerprint="f")
        assert np.isfinite([record["loss"] for record in history]).all()
        assert any(not torch.equal(p, before[name]) for name, p in supernet.named_parameters())

    def test_weights_can_be_mixed(self):
        supernet = SUPERNETS[self.name].build(sharing="mixture_layerwise")
        disturb(supernet)
        for architecture in (supernet.largest, *random_architectures(supernet.space, 2)):
            output = calibrated_output(supernet, architecture)
            with torch.no_grad():
                extracted = supernet.extract(architecture)(*supernet.example_inputs(8))
            torch.testing.assert_close(extracted, output, rtol=1e-4, atol=1e-5)
