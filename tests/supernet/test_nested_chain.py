"""Chains: containment and cost, checked at construction; growing; the best one by search."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from nasbench.errors import RequestError
from nasbench.pareto import hypervolume
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace
from nasbench.supernet import SUPERNETS
from nasbench.supernet.nested import NestedChain, best_chain
from nasbench.supernet.nested.chain import steps_between, why_not_below
from nasbench.supernet.sharing import recorded_slices

TINY = {family: SUPERNETS[family].build("tiny", seed=0) for family in SUPERNETS}


class Blocks:
    """Blocks of one width each; a cost that can be read off."""

    space = SearchSpace(
        [
            ElasticDimension("depth", (1, 2)),
            ElasticDimension("block1.width", (8, 16, 32)),
            ElasticDimension("block2.width", (8, 16, 32), ActiveWhen("depth", (2,))),
        ]
    )

    def shape_of(self, a):
        return tuple(a[f"block{n}.width"] for n in range(1, a["depth"] + 1))

    def count(self, a):
        return {"num_macs": sum(self.shape_of(a)), "num_parameters": 0}


def used_slices(supernet, member):
    """What a forward pass reads of each parameter."""
    supernet.activate(member)
    with recorded_slices() as used:
        supernet(*supernet.example_inputs(2))
    return used


@pytest.mark.parametrize("family", sorted(SUPERNETS))
class TestEveryFamily:
    def test_a_grown_chain_goes_from_smallest_to_largest(self, family):
        chain = NestedChain.grown(TINY[family], 7)
        assert (len(chain), chain[0], chain[-1]) == (
            7, TINY[family].smallest, TINY[family].largest
        )  # fmt: skip
        assert all(a < b for a, b in pairwise(chain.num_macs))
        assert [chain.index(member) for member in chain] == list(range(7))

    def test_a_member_reads_no_weight_that_the_next_does_not(self, family):
        """Which is what containment means; found from forward passes, not from sizes."""
        supernet = TINY[family]
        for smaller, larger in pairwise(NestedChain.grown(supernet)):
            within = used_slices(supernet, larger)
            for tensor, slices in used_slices(supernet, smaller).items():
                for sizes in slices:
                    assert any(
                        all(a <= b for a, b in zip(sizes, outer, strict=True))
                        for outer in within[tensor]
                    )

    def test_no_chain_goes_down(self, family):
        with pytest.raises(RequestError, match="members 0 and 1 are no chain: '"):
            NestedChain(TINY[family], [TINY[family].largest, TINY[family].smallest])


class TestWhatBreaksAChain:
    def architecture(self, **choices):
        smallest = Blocks.space.smallest
        return Blocks.space.canonical(
            {**smallest, **{k.replace("_", "."): v for k, v in choices.items()}}
        )

    def test_names_the_pair_and_the_dimension(self):
        members = [
            self.architecture(block1_width=8),
            self.architecture(block1_width=32),
            self.architecture(depth=2, block1_width=16),
        ]
        said = (
            "members 1 and 2 are no chain: 'block1.width' is 32 in the smaller one and 16 in the "
            "larger"
        )
        with pytest.raises(RequestError, match=said):
            NestedChain(Blocks(), members)

    def test_a_dimension_that_the_larger_does_not_have(self):
        deep = self.architecture(depth=2)
        with pytest.raises(RequestError, match="'depth' is 2 in the smaller one and 1"):
            NestedChain(Blocks(), [deep, self.architecture(block1_width=32)])

    def test_the_same_twice(self):
        with pytest.raises(RequestError, match="go from 8 to 8 and so do not rise"):
            NestedChain(Blocks(), [Blocks.space.smallest] * 2)

    def test_a_cost_that_does_not_rise_names_what_differs(self):
        decoder = TINY["decoder"]
        with_bias = decoder.space.canonical({**decoder.smallest, "has_bias": True})
        with pytest.raises(RequestError, match="do not rise; they differ in 'has_bias'"):
            NestedChain(decoder, [decoder.smallest, with_bias])

    def test_a_narrow_block_at_the_end_shrinks_what_follows(self):
        resnet = SUPERNETS["resnet"].build("cifar_resnet20")
        steps = steps_between(resnet.space, resnet.smallest, resnet.largest)
        said = "the size.* is .* in the smaller one and .* they differ in 'stage1.depth'"
        with pytest.raises(RequestError, match=said):
            NestedChain(resnet, steps)
        NestedChain.grown(resnet, 16)

    def test_members_of_another_space_and_none(self):
        with pytest.raises(RequestError, match="no value for"):
            NestedChain(Blocks(), [{"depth": 1}])
        with pytest.raises(RequestError, match="at least one member"):
            NestedChain(Blocks(), [])


class TestGrowing:
    def test_one_choice_at_a_time(self):
        space = Blocks.space
        steps = steps_between(space, space.smallest, space.largest)
        assert len(steps) == 6
        for smaller, larger in pairwise(steps):
            assert sum(smaller[name] != larger[name] for name in space.smallest) == 1

    def test_160_members_of_a_fine_space(self):
        with torch.device("meta"):
            supernet = SUPERNETS["mobilenet_v3"].build("fashion_fine")
        assert len(NestedChain.grown(supernet, 160)) == 160
        with pytest.raises(RequestError, match=r"num_members=172, but .* at most 171"):
            NestedChain.grown(supernet, 172)

    def test_of_chosen_dimensions_by_name_or_kind(self):
        supernet = TINY["mobilenet_v3"]
        chain = NestedChain.grown(supernet, dimensions=("depth", "stage1.width"))
        for name, choice in supernet.largest.items():
            grows = name.endswith("depth") or name == "stage1.width"
            found = {member[name] for member in chain if member[name] != supernet.smallest[name]}
            assert grows or found <= {choice}
        assert len({member["stage1.width"] for member in chain}) == 3
        with pytest.raises(RequestError, match="unknown elastic dimension 'dept'"):
            NestedChain.grown(supernet, dimensions=("dept",))

    @pytest.mark.parametrize("num_members", [3, 4, 9, 20])
    def test_by_way_of_given_ones(self, num_members):
        supernet = TINY["mobilenet_v3"]
        stop = NestedChain.grown(supernet, 11)[2]
        chain = NestedChain.through(
            supernet, [supernet.smallest, stop, supernet.largest], num_members
        )
        assert len(chain) == num_members
        assert stop in chain
        if num_members > 4:
            assert 0 < chain.index(stop) < num_members / 2  # evenly on both sides
        with pytest.raises(RequestError, match="num_members=1, but the chain is to pass 2"):
            NestedChain.through(supernet, [supernet.smallest, stop], 1)

    def test_choices_need_not_be_written_in_order(self):
        class Unordered(Blocks):
            space = SearchSpace(
                [
                    ElasticDimension("depth", (1, 2)),
                    ElasticDimension("block1.width", (32, 8, 16)),
                    ElasticDimension("block2.width", (16, 8), ActiveWhen("depth", (2,))),
                ]
            )

        widths = [member["block1.width"] for member in NestedChain.grown(Unordered())]
        assert widths == sorted(widths)
        assert (widths[0], widths[-1]) == (8, 32)


class TestBestChain:
    REFERENCE = (1.0, 100.0)

    def measured(self, seed, count=9, *, cost_noise=0.0):
        space, rng = Blocks.space, np.random.default_rng(seed)
        found = [space.from_genome(g) for g in np.unique(space.sample_genomes(count, rng), axis=0)]
        costs = [Blocks().count(a)["num_macs"] + cost_noise * rng.normal() for a in found]
        return found, np.column_stack([rng.random(len(found)) * 1.1, costs])

    def all_chains(self, architectures, losses):
        """Every chain, whatever it is worth, by trying every subset."""
        order = np.argsort([Blocks().count(a)["num_macs"] for a in architectures], kind="stable")
        for size in range(1, len(order) + 1):
            for subset in combinations(order.tolist(), size):
                if all(
                    why_not_below(Blocks(), architectures[a], architectures[b]) is None
                    for a, b in pairwise(subset)
                ):
                    yield subset

    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("max_members", [None, 1, 2, 3])
    def test_none_covers_more(self, seed, max_members):
        architectures, losses = self.measured(seed)
        found = best_chain(Blocks(), architectures, losses, self.REFERENCE, max_members=max_members)
        NestedChain(Blocks(), [architectures[i] for i in found])
        assert len(found) <= (max_members or len(architectures))
        best = max(
            hypervolume(losses[list(chain)], self.REFERENCE)
            for chain in self.all_chains(architectures, losses)
            if max_members is None or len(chain) <= max_members
        )
        assert hypervolume(losses[found], self.REFERENCE) == pytest.approx(best, rel=1e-12)

    @pytest.mark.parametrize("seed", range(8))
    def test_with_a_noisy_clock_none_that_rises_covers_more(self, seed):
        architectures, losses = self.measured(seed, cost_noise=12.0)
        found = best_chain(Blocks(), architectures, losses, self.REFERENCE)
        best = max(
            hypervolume(losses[list(chain)], self.REFERENCE)
            for chain in self.all_chains(architectures, losses)
            if (np.diff(losses[list(chain)], axis=0) * [-1, 1] > 0).all()
        )
        assert hypervolume(losses[found], self.REFERENCE) == pytest.approx(best, rel=1e-12)

    def test_members_get_better_as_they_cost_more(self):
        architectures, losses = self.measured(3, 30)
        chain = losses[best_chain(Blocks(), architectures, losses, self.REFERENCE)]
        assert (np.diff(chain[:, 0]) < 0).all()
        assert (np.diff(chain[:, 1]) > 0).all()

    def test_what_cannot_be_asked(self):
        architectures, losses = self.measured(0)
        with pytest.raises(RequestError, match=r"expected losses of shape \(\d+, 2\)"):
            best_chain(Blocks(), architectures, losses[:, :1], self.REFERENCE)
        with pytest.raises(RequestError, match="better than the reference"):
            best_chain(Blocks(), architectures, losses, (-1.0, 100.0))
        with pytest.raises(RequestError, match="at least one member, not 0"):
            best_chain(Blocks(), architectures, losses, self.REFERENCE, max_members=0)
