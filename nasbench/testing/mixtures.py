"""The contract of mixtures: every family, with both kinds, and what is promised of a mixture alone.

    class TestMyFamily(MixtureContract):
        families = ("mine",)

A sub-network that is mixed is routed: which weights it has depends on all of its architecture.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from nasbench.space import Architecture, SearchSpace
from nasbench.supernet.base import Supernet
from nasbench.supernet.mixture import MixedWeight
from nasbench.testing.supernets import (
    Build,
    SupernetContract,
    assert_same_weights,
    calibrated_output,
    gradients,
    random_architectures,
)


def plain_name(name: str) -> str | None:
    """What a supernet without a mixture calls this tensor; None for what only a mixture has."""
    if name.startswith("mixture.") or name.endswith((".weights.1", ".biases.1")):
        return None
    return name.replace(".weights.0", ".weight").replace(".biases.0", ".bias")


class MixtureContract(SupernetContract):
    """What every family promises with either kind of mixture, beside what it does without."""

    sharings = {  # noqa: RUF012
        "layerwise": {"sharing": "mixture_layerwise"},
        "neuronwise": {"sharing": "mixture_neuronwise"},
    }
    num_random = 2

    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """The extremes and a few; which dimensions do what, the plain supernet has shown."""
        return [space.largest, space.smallest, *random_architectures(space, self.num_random)]

    def test_one_expert_is_no_mixture_bit_for_bit(self, build: Build) -> None:
        plain, mixed = build(sharing="slice"), build(num_experts=1)
        inputs = plain.example_inputs(4)
        for architecture in self.architectures(plain.space):
            found = {}
            for supernet in (plain, mixed):
                supernet.activate(architecture)
                found[supernet] = gradients(supernet, inputs)
            named = {plain_name(name): grad for name, grad in found[mixed].items()}
            assert_same_weights({n: g for n, g in named.items() if n is not None}, found[plain])
            outputs = [calibrated_output(supernet, architecture) for supernet in (plain, mixed)]
            assert torch.equal(*outputs)

    def test_the_first_expert_starts_as_the_plain_weight(self, build: Build) -> None:
        plain, mixed = build(sharing="slice", seed=3), build(seed=3)
        named = {plain_name(name): tensor for name, tensor in mixed.state_dict().items()}
        assert_same_weights({n: t for n, t in named.items() if n is not None}, plain.state_dict())

    def test_extraction_is_routed_for_what_is_extracted(self, supernet: Supernet[Any]) -> None:
        inputs = supernet.example_inputs(8)
        for architecture in self.architectures(supernet.space):
            output = calibrated_output(supernet, architecture)
            (other,) = random_architectures(supernet.space, 1)
            supernet.activate(other)
            with torch.no_grad():
                before = supernet(*inputs)
                extracted = supernet.extract(architecture)(*inputs)
                assert torch.equal(supernet(*inputs), before)
            assert (extracted - output).abs().max() <= 1e-5 * output.abs().max(), architecture

    def test_one_step_can_train_several_subnetworks(self, supernet: Supernet[Any]) -> None:
        supernet.double()
        inputs = supernet.example_inputs(4)
        chosen = [supernet.largest, *random_architectures(supernet.space, 2), supernet.smallest]
        summed: dict[str, Tensor] = {}
        for architecture in chosen:
            supernet.activate(architecture)
            for name, gradient in gradients(supernet, inputs).items():
                summed[name] = summed.get(name, torch.zeros_like(gradient)) + gradient
        supernet.zero_grad(set_to_none=True)
        losses = []
        for architecture in chosen:
            supernet.activate(architecture)
            output = supernet(*inputs)
            generator = torch.Generator().manual_seed(2)
            weights = torch.randn(output.shape, generator=generator).to(output)
            losses.append((output * weights).sum())
        torch.stack(losses).sum().backward()
        for name, parameter in supernet.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(gradient, summed[name], msg=name)

    def test_the_largest_subnetwork_uses_every_expert_and_router(self, build: Build) -> None:
        plain, mixed = build(sharing="slice"), build()
        unused = {}
        for supernet in (plain, mixed):
            gradients(supernet, supernet.example_inputs(4))
            unused[supernet] = {n for n, p in supernet.named_parameters() if p.grad is None}
        assert {plain_name(name) for name in unused[mixed]} == unused[plain]

    def test_routers_learn_only_where_experts_differ(self, build: Build) -> None:
        largest: list[float] = []
        for noise in (0.0, 0.02):
            supernet = build(expert_noise=noise).double()
            inputs = supernet.example_inputs(4)
            found = gradients(supernet, inputs)
            scale = max(float(gradient.abs().max()) for gradient in found.values())
            routers = [g for name, g in found.items() if name.startswith("mixture.")]
            largest.append(max(float(g.abs().max()) for g in routers) / scale)
        assert largest[0] < 1e-12 < 1e-6 < largest[1]

    def test_without_gradients_weights_are_mixed_once_until_something_changes(
        self, supernet: Supernet[Any]
    ) -> None:
        def weights() -> list[Tensor]:
            supernet(*supernet.example_inputs(2))
            return [m.leading(*m.weights[0].shape[:2])[0] for m in mixed]

        mixed = [module for module in supernet.modules() if isinstance(module, MixedWeight)]
        supernet.eval()
        with torch.no_grad():
            first = weights()
            assert all(a is b for a, b in zip(first, weights(), strict=True))
            supernet.activate(supernet.smallest)
            switched = weights()
            assert not any(torch.equal(a, b) for a, b in zip(first, switched, strict=True))
            supernet.activate(supernet.largest)
            for parameter in supernet.parameters():
                parameter.mul_(1.5)
            moved = weights()
            assert not any(torch.equal(a, b) for a, b in zip(first, moved, strict=True))
            supernet.double()
            assert {weight.dtype for weight in weights()} == {torch.float64}
            supernet.float()
            assert all(torch.equal(a, b) for a, b in zip(moved, weights(), strict=True))

    def test_a_copy_is_switched_by_itself(self, supernet: Supernet[Any]) -> None:
        output = calibrated_output(supernet, supernet.largest)
        other = copy.deepcopy(supernet)
        other.activate(other.smallest)
        with torch.no_grad():
            assert torch.equal(supernet(*supernet.example_inputs(8)), output)
            smallest = other(*other.example_inputs(8))
            supernet.activate(supernet.smallest)
            assert torch.equal(supernet(*supernet.example_inputs(8)), smallest)
