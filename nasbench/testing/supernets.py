"""The contract of supernets: subclass it, and every family of `SUPERNETS` is enrolled.

Presets whose largest sub-network has up to `MAX_MACS` are run; each family's "tiny" is one.
A family of your own passes the same tests once it is registered:

    SUPERNETS.register("mine", "my_package.my_family:MY_FAMILY")

    class TestMyFamily(SupernetContract):
        families = ("mine",)
"""

import gc
import json
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.cost import count_macs
from nasbench.errors import RequestError
from nasbench.space import Architecture, Choice, SearchSpace
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.supernet.base import Supernet
from nasbench.supernet.shape_search import COSTS, ExpectedCost, TransformableNetwork
from nasbench.supernet.shape_search.mixing import MixedConvNorm, MixedLinear
from nasbench.supernet.sharing import SharedWeight
from nasbench.supernet.training.calibration import calibrate

MAX_MACS = 20_000_000
ELASTIC_MODULES = re.compile(r"nasbench\.supernet\.(?!plain).*")  # where no plain module is

Build = Callable[..., Supernet[Any]]


@cache
def runnable_presets(family: str) -> dict[str, Build]:
    """A name and a `build` for each of the family's presets that is small enough for a test."""
    builds: dict[str, Build] = {}
    for preset in SUPERNETS[family].presets:
        build = partial(SUPERNETS[family].build, preset=preset)
        with torch.device("meta"):
            supernet = build()
        if supernet.count(supernet.largest)["num_macs"] <= MAX_MACS:
            builds[f"{family}-{preset}"] = build
    return builds


def corners(space: SearchSpace) -> list[Architecture]:
    """The extremes, and each of them with one dimension at each other choice."""
    extremes = [space.largest, space.smallest]
    return extremes + [neighbor for extreme in extremes for neighbor in space.neighbors(extreme)]


def random_architectures(space: SearchSpace, count: int) -> list[Architecture]:
    """The same ones at every call."""
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


@torch.no_grad()
def disturb(module: nn.Module) -> None:
    """Move every parameter, as training does, so that no identity or zero hides a mistake."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))


@torch.no_grad()
def calibrated_output(supernet: Supernet[Any], architecture: Architecture) -> Tensor:
    """What the supernet computes in eval mode with this architecture active."""
    inputs = supernet.example_inputs(8)
    supernet.activate(architecture)
    calibrate(supernet, [inputs[0]])
    supernet.eval()
    output: Tensor = supernet(*inputs)
    return output


def gradients(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The gradient of each parameter, zero where backpropagation left none."""
    module.train()
    module.zero_grad(set_to_none=True)
    output = module(*inputs)
    generator = torch.Generator().manual_seed(2)
    (output * torch.randn(output.shape, generator=generator).to(output)).sum().backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }


def assert_same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Every entry is bit for bit the same."""
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def copy_weights(plain: nn.Module, mixed: nn.Module) -> None:
    """Give a supernet of mixed layers another's weights, and all choices one normalization."""
    for name, module in mixed.named_children():
        found = getattr(plain, name)
        if isinstance(module, MixedConvNorm):
            module.conv.load_state_dict(found.conv.state_dict())
            for norm in module.norms:
                norm.load_state_dict(found.norm.state_dict())
        elif isinstance(module, MixedLinear):
            module.linear.load_state_dict(found.state_dict())
        elif any(True for _ in module.children()):
            copy_weights(found, module)
        else:
            module.load_state_dict(found.state_dict())


def learnable(
    mixed: TransformableNetwork, architectures: Sequence[Architecture]
) -> list[Architecture]:
    """The extremes and these, with what no search by gradient learns at its largest."""
    space = mixed.distribution.space
    learned = mixed.distribution.choices.keys()
    fixed = {name: choice for name, choice in space.largest.items() if name not in learned}
    every = (space.smallest, space.largest, *architectures)
    return [space.canonical({**architecture, **fixed}) for architecture in every]


class SupernetContract:
    """What every family promises at every preset. `build(**settings)` makes one of its supernets.

    Attributes:
        families: keys of `SUPERNETS`; None says all.
        sharings: a name for each kind of weight sharing -> the settings that ask `build` for it.
        num_random: random sub-networks that are extracted, beside the corners of the space.
    """

    families: Sequence[str] | None = None
    sharings: Mapping[str, Mapping[str, Any]] = {"": {}}
    num_random = 16

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "build" in metafunc.fixturenames:
            families = sorted(SUPERNETS) if self.families is None else self.families
            builds = [
                _enrolled(preset, sharing, partial(build, **settings))
                for family in families
                for preset, build in runnable_presets(family).items()
                for sharing, settings in self.sharings.items()
            ]
            metafunc.parametrize("build", builds)

    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """Those that are extracted, and whose parameters are counted."""
        return corners(space) + random_architectures(space, self.num_random)

    @pytest.fixture
    def supernet(self, build: Build) -> Supernet[Any]:
        supernet = build()
        disturb(supernet)
        return supernet

    # -- building -----------------------------------------------------------------------------

    def test_a_new_supernet_has_its_largest_subnetwork_active(self, build: Build) -> None:
        supernet = build()
        assert supernet.architecture == supernet.largest == supernet.space.largest
        assert supernet.smallest == supernet.space.smallest

    def test_weights_depend_on_the_seed_alone(self, build: Build) -> None:
        torch.manual_seed(123)
        before = torch.get_rng_state()
        first = build(seed=5).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(321)
        assert_same_weights(first, build(seed=5).state_dict())
        other = build(seed=6).state_dict()
        assert any(not torch.equal(first[name], other[name]) for name in first)

    def test_settings_make_the_same_supernet_again(self, build: Build) -> None:
        supernet = build(seed=5)
        again = build_supernet(json.loads(json.dumps(supernet.settings)))
        assert again.fingerprint == supernet.fingerprint
        assert again.space == supernet.space
        assert_same_weights(again.state_dict(), supernet.state_dict())

    def test_the_fingerprint_does_not_depend_on_the_seed(self, build: Build) -> None:
        assert build(seed=1).fingerprint == build(seed=2).fingerprint

    def test_unknown_names_are_refused(self, build: Build) -> None:
        for wrong in ({"preset": "tinny"}, {"sharing": "slise"}, {"no_such_setting": 1}):
            with pytest.raises(RequestError, match="possible"):
                build(**wrong)

    def test_example_inputs_are_what_forward_takes(self, supernet: Supernet[Any]) -> None:
        inputs = supernet.example_inputs(batch_size=3)
        assert {len(tensor) for tensor in inputs} == {len(supernet(*inputs))} == {3}
        for first, second in zip(inputs, supernet.example_inputs(batch_size=3), strict=True):
            assert torch.equal(first, second)

    # -- activating ---------------------------------------------------------------------------

    def test_each_change_of_a_choice_changes_the_output(self, supernet: Supernet[Any]) -> None:
        for architecture in (supernet.largest, supernet.smallest):
            output = calibrated_output(supernet, architecture)
            for neighbor in supernet.space.neighbors(architecture):
                changed = (calibrated_output(supernet, neighbor) - output).abs().max()
                assert changed > 1e-4, _difference(architecture, neighbor)

    def test_an_architecture_of_another_space_is_refused(self, supernet: Supernet[Any]) -> None:
        supernet.activate(supernet.smallest)
        member = supernet.largest.to_json()
        foreign: list[dict[str, Choice]] = [{"layers": 3}, {**member, "layers": 3}]
        foreign += [{**member, name: "no such choice"} for name in member]
        foreign += [{name: member[name] for name in member if name != left} for left in member]
        for architecture in foreign:
            for use in (supernet.activate, supernet.extract, supernet.count):
                with pytest.raises(RequestError, match="is not in the space of the supernet"):
                    use(architecture)
        assert supernet.architecture == supernet.smallest

    # -- blocks, where the family names some ---------------------------------------------------

    @pytest.fixture
    def with_blocks(self, supernet: Supernet[Any]) -> Supernet[Any]:
        try:
            supernet.blocks_of(supernet.largest)
        except RequestError as error:
            assert "names no blocks" in str(error)
            with pytest.raises(RequestError, match="names no blocks"):
                supernet.distinct_blocks()
            pytest.skip(str(error))
        return supernet

    @torch.inference_mode()
    def test_blocks_one_after_another_compute_the_network(self, with_blocks: Supernet[Any]) -> None:
        space = with_blocks.space
        for architecture in (space.smallest, space.largest, *random_architectures(space, 3)):
            inputs = with_blocks.example_inputs(3)
            values: Any = inputs[0]
            for block in with_blocks.blocks_of(architecture):
                assert block.input_shape == tuple(values.shape[1:])
                assert block.example_inputs(3)[0].shape == values.shape
                values = block.module()(values)
            expected = with_blocks.extract(architecture)(*inputs)
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)

    def test_distinct_blocks_are_those_of_all_architectures(
        self, with_blocks: Supernet[Any]
    ) -> None:
        distinct = with_blocks.distinct_blocks()
        assert all(key == block.key for key, block in distinct.items())
        genomes = with_blocks.space.sample_choices(2000, np.random.default_rng(0))
        met = {
            block.key: block
            for architecture in with_blocks.space.from_genomes(genomes)
            for block in with_blocks.blocks_of(architecture)
        }
        assert met.keys() <= distinct.keys()
        if len(distinct) < len(genomes):  # of more, a sample meets too few to tell
            assert len(met) > 0.8 * len(distinct)
        for key in sorted(met)[::20]:
            assert met[key].input_shape == distinct[key].input_shape
            sizes = [sum(p.numel() for p in b[key].module().parameters()) for b in (met, distinct)]
            assert sizes[0] == sizes[1]

    # -- shapes by gradient, where the family says which layers to mix --------------------------

    @pytest.fixture
    def mixed(self, build: Build) -> TransformableNetwork:
        try:
            return TransformableNetwork(build(), seed=0)
        except RequestError as error:
            assert "names no layers" in str(error) or "needs supernet.sharing slice" in str(error)
            pytest.skip(str(error))

    def test_pieces_of_a_shape_cost_what_is_counted_of_it(
        self, mixed: TransformableNetwork, build: Build
    ) -> None:
        supernet = build()
        costs = {metric: ExpectedCost(supernet, of_piece) for metric, of_piece in COSTS.items()}
        for architecture in learnable(mixed, random_architectures(supernet.space, 6)):
            counts = supernet.count(architecture)
            assert {m: round(cost.of(architecture)) for m, cost in costs.items()} == counts

    def test_a_shape_alone_computes_what_its_subnetwork_does(
        self, mixed: TransformableNetwork, supernet: Supernet[Any]
    ) -> None:
        copy_weights(supernet, mixed.supernet)
        inputs = supernet.train().example_inputs(8)
        for architecture in learnable(mixed, random_architectures(supernet.space, 3)):
            supernet.activate(architecture)
            mixed.select(mixed.distribution.one_hot(architecture))
            torch.testing.assert_close(mixed(*inputs), supernet(*inputs), rtol=1e-4, atol=1e-5)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_works_on_cuda(self, supernet: Supernet[Any]) -> None:
        inputs = tuple(x.cuda() for x in supernet.example_inputs(2))
        supernet.cuda().eval()
        for architecture in (supernet.smallest, supernet.largest):
            supernet.activate(architecture)
            with torch.inference_mode():
                expected = supernet(*inputs)
                torch.testing.assert_close(supernet.extract(architecture)(*inputs), expected)
            gradients(supernet, inputs)
            supernet.eval()

    def test_gradients_reach_what_the_active_subnetwork_uses(self, supernet: Supernet[Any]) -> None:
        inputs = supernet.double().example_inputs(8)  # in which no gradient is rounded to zero
        for architecture in (supernet.smallest, *random_architectures(supernet.space, 3)):
            supernet.activate(architecture)
            reached = _count_nonzero(gradients(supernet, inputs))
            assert reached >= _count_nonzero(gradients(supernet.extract(architecture), inputs))
            if architecture == supernet.smallest:
                assert reached < sum(p.numel() for p in supernet.parameters())

    def test_what_no_gradient_reaches_does_not_matter(
        self, build: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A unit that is off for all inputs has no gradient and does matter: so none is ever off.
        monkeypatch.setattr(F, "relu", lambda x, **_: F.softplus(x))
        for architecture in random_architectures(build().space, 3):
            supernet = build().double()
            disturb(supernet)
            supernet.activate(architecture)
            inputs = supernet.example_inputs(8)
            reached = gradients(supernet, inputs)
            output = supernet(*inputs)
            with torch.no_grad():
                for name, parameter in supernet.named_parameters():
                    parameter[reached[name] == 0] = 1e3
            torch.testing.assert_close(supernet(*inputs), output, rtol=0, atol=1e-8)

    def test_computes_in_bfloat16_under_autocast(self, supernet: Supernet[Any]) -> None:
        for architecture in (supernet.largest, supernet.smallest):
            output = calibrated_output(supernet, architecture)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                rounded = supernet(*supernet.example_inputs(8))
            assert rounded.dtype == torch.bfloat16
            assert (rounded - output).abs().max() < 0.1 * output.abs().max(), architecture

    # -- extracting ---------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)]
    )
    def test_the_extracted_module_computes_what_the_active_subnetwork_does(
        self, supernet: Supernet[Any], dtype: torch.dtype, tolerance: float
    ) -> None:
        supernet.to(dtype)
        inputs = supernet.example_inputs(8)
        for architecture in self.architectures(supernet.space):
            output = calibrated_output(supernet, architecture)
            with torch.no_grad():
                extracted = supernet.extract(architecture)(*inputs)
            largest_difference = (extracted - output).abs().max() / output.abs().max()
            assert largest_difference <= tolerance, architecture

    def test_extracting_leaves_the_supernet_as_it_was(self, supernet: Supernet[Any]) -> None:
        output = calibrated_output(supernet, supernet.largest)
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        random_state = torch.get_rng_state()
        supernet.extract(supernet.smallest)
        assert supernet.architecture == supernet.largest
        assert_same_weights(supernet.state_dict(), before)
        assert torch.equal(torch.get_rng_state(), random_state)
        assert torch.equal(supernet(*supernet.example_inputs(8)), output)

    def test_the_extracted_module_is_plain_and_independent(self, build: Build) -> None:
        supernet = build()
        inputs = supernet.example_inputs(2)
        extracted = supernet.extract(supernet.largest)
        for module in extracted.modules():
            assert not module.training
            assert not isinstance(module, Supernet | SharedWeight)
            assert not ELASTIC_MODULES.fullmatch(type(module).__module__), module
        output = extracted(*inputs)
        with torch.no_grad():
            for tensor in supernet.state_dict().values():
                tensor.fill_(-1)
        assert torch.equal(extracted(*inputs), output)
        reference = weakref.ref(supernet)
        del supernet, tensor
        gc.collect()
        assert reference() is None, "the extracted module keeps the supernet in memory"

    @pytest.mark.slow
    def test_the_extracted_module_exports(self, supernet: Supernet[Any]) -> None:
        inputs, others = supernet.example_inputs(2), supernet.example_inputs(3)
        any_batch_size = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs)
        for architecture in (supernet.smallest, *random_architectures(supernet.space, 1)):
            extracted = supernet.extract(architecture)
            program = torch.export.export(extracted, inputs, dynamic_shapes=any_batch_size)
            torch.testing.assert_close(program.module()(*others), extracted(*others))

    @pytest.mark.slow
    def test_the_extracted_module_compiles_as_one_graph(self, supernet: Supernet[Any]) -> None:
        torch.compiler.reset()
        extracted = supernet.extract(supernet.smallest)
        compiled = torch.compile(extracted, fullgraph=True, backend="eager")
        inputs = supernet.example_inputs(2)
        torch.testing.assert_close(compiled(*inputs), extracted(*inputs))

    # -- counting -----------------------------------------------------------------------------

    def test_counted_parameters_are_those_of_the_extracted_module(
        self, supernet: Supernet[Any]
    ) -> None:
        for architecture in self.architectures(supernet.space):
            held = sum(p.numel() for p in supernet.extract(architecture).parameters())
            assert supernet.count(architecture)["num_parameters"] == held, architecture

    def test_counted_macs_are_half_of_the_flops_that_torch_counts(
        self, supernet: Supernet[Any]
    ) -> None:
        extremes = [supernet.largest, supernet.smallest]
        for architecture in extremes + random_architectures(supernet.space, self.num_random // 2):
            extracted = supernet.extract(architecture)
            num_macs = count_macs(extracted, supernet.example_inputs(1))
            assert supernet.count(architecture)["num_macs"] == num_macs, architecture

    def test_counting_touches_no_weight(self, build: Build) -> None:
        supernet = build()
        with torch.device("meta"):
            weightless = build()
        for architecture in random_architectures(supernet.space, 8):
            assert weightless.count(architecture) == supernet.count(architecture)

    # -- what training strategies may ask for --------------------------------------------------

    def test_sorted_channels_leave_what_was_trained_as_it_was(
        self, supernet: Supernet[Any]
    ) -> None:
        if not supernet.channel_groups():
            with pytest.raises(RequestError, match="names no groups of channels"):
                supernet.sort_channels()
            return
        supernet.double()  # another order of summation, and no more than that, is forgiven
        trained: dict[str, list[Choice]] = {}
        for group in supernet.channel_groups():
            by_width = sorted(group.widths_at, key=lambda choice: max(group.widths_at[choice]))
            trained[group.dimension] = by_width[-2:]
        narrower = supernet.space.canonical(
            {**supernet.largest, **{name: choices[0] for name, choices in trained.items()}}
        )
        before = supernet.state_dict()
        before = {name: tensor.clone() for name, tensor in before.items()}
        rng = np.random.default_rng(0)
        drawn = [
            supernet.space.canonical(
                {**other, **{name: of[rng.integers(len(of))] for name, of in trained.items()}}
            )
            for other in random_architectures(supernet.space, 4)
        ]
        kept = [supernet.largest, narrower, *drawn]
        outputs = [calibrated_output(supernet, architecture) for architecture in kept]
        supernet.sort_channels(trained)
        for architecture, output in zip(kept, outputs, strict=True):
            torch.testing.assert_close(calibrated_output(supernet, architecture), output)
        supernet.sort_channels()
        largest = calibrated_output(supernet, supernet.largest)
        torch.testing.assert_close(largest, outputs[0])
        assert (calibrated_output(supernet, narrower) - outputs[1]).abs().max() > 1e-4
        for group in supernet.channel_groups():
            importance = group.importance()
            assert torch.equal(importance, importance.sort(descending=True).values)

    def test_residual_branches_start_at_zero(self, supernet: Supernet[Any]) -> None:
        if not supernet.residual_ends():
            with pytest.raises(RequestError, match="names no residual branches"):
                supernet.zero_residual_branches()
            return
        outputs: list[Tensor] = []
        ends = supernet.residual_ends()
        for end in ends:
            end.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        supernet.zero_residual_branches()
        assert not any(parameter.any() for end in ends for parameter in end.parameters())
        assert calibrated_output(supernet, supernet.largest).isfinite().all()
        assert outputs
        assert not any(output.any() for output in outputs)

    def test_last_features_go_into_the_output_layer(self, supernet: Supernet[Any]) -> None:
        try:
            supernet.output_layer  # noqa: B018
        except RequestError as error:
            assert "names no layer of last features" in str(error)
            return
        seen: list[Tensor] = []
        supernet.output_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for architecture in (supernet.largest, supernet.smallest):
            seen.clear()
            output = calibrated_output(supernet, architecture)
            assert seen[-1].shape[:-1] == output.shape[:-1]

    # -- saving -------------------------------------------------------------------------------

    def test_exits_compute_what_the_shallower_subnetworks_do(self, supernet: Supernet[Any]) -> None:
        """A family may have none."""
        inputs = supernet.eval().example_inputs(2)
        for architecture in (supernet.largest, supernet.smallest):
            supernet.activate(architecture)
            with torch.inference_mode():
                try:
                    outputs = supernet.forward_exits(*inputs)
                except RequestError as error:
                    assert "one pass" in str(error)
                    return
            choices = supernet.space["depth"].rising
            own = choices.index(architecture["depth"])
            assert list(outputs) == list(choices[: own + 1])
            for depth, output in outputs.items():
                supernet.activate({**architecture, "depth": depth})
                with torch.inference_mode():
                    torch.testing.assert_close(output, supernet(*inputs))

    def test_loaded_weights_compute_the_same(self, build: Build, supernet: Supernet[Any]) -> None:
        output = calibrated_output(supernet, supernet.smallest)
        other = build(seed=9)
        other.load_weights(supernet.state_dict())
        other.activate(supernet.smallest)
        with torch.no_grad():
            assert torch.equal(other.eval()(*other.example_inputs(8)), output)

    def test_weights_of_another_supernet_are_refused(self, supernet: Supernet[Any]) -> None:
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        name = next(iter(before))
        zeros = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
        incomplete = {other: tensor for other, tensor in zeros.items() if other != name}
        misshapen = {**zeros, name: torch.zeros(len(before[name]) + 1)}
        for wrong in (incomplete, misshapen, {**zeros, "no.such.weight": torch.zeros(1)}):
            with pytest.raises(RequestError, match="these are no weights of the supernet"):
                supernet.load_weights(wrong)
        assert_same_weights(supernet.state_dict(), before)


def _enrolled(preset: str, sharing: str, build: Build) -> Any:
    """One preset as a parameter; all but the tiny ones belong to the slow tests."""
    marks = () if preset.endswith("-tiny") else pytest.mark.slow
    return pytest.param(build, id=f"{preset}-{sharing}" if sharing else preset, marks=marks)


def _difference(first: Architecture, second: Architecture) -> str:
    return ", ".join(f"{n}: {first[n]} -> {second[n]}" for n in first if first[n] != second[n])


def _count_nonzero(tensors: Mapping[str, Tensor]) -> int:
    return sum(int(tensor.count_nonzero()) for tensor in tensors.values())
