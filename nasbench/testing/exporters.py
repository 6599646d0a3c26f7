"""The contract of export targets: every one of `EXPORTERS`, with a network of every kind.

A target of your own passes the same tests once it is registered:

    EXPORTERS.register("mine", "my_package.my_target:MyExporter")

    class TestMyExporter(ExporterContract):
        targets = ("mine",)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasbench.errors import MissingExtraError
from nasbench.export import EXPORTERS
from nasbench.export.base import Exporter
from nasbench.export.manifest import computed
from nasbench.export.programs import Inputs, Program, programs_of
from nasbench.supernet import SUPERNETS
from nasbench.supernet.nested import NestedChain
from nasbench.supernet.plain_transformer import TextClassifier
from nasbench.testing.supernets import disturb

TOLERANCES = {"float32": 1e-4, "int8": 0.2}
_LOWERED = ("executorch", "executorch_int8", "onnx_int8")  # take ten seconds and more each
_LOWERED_FAMILIES = {"executorch": ("mobilenet_v3", "decoder", "smaller images")}


class Case(NamedTuple):
    """A plain network with inputs of any size: (batch size) -> inputs."""

    network: nn.Module
    inputs: Callable[[int], Inputs]

    def programs(self) -> dict[str, Program]:
        """Its programs, with something to calibrate by."""
        return programs_of(self.network, self.inputs(4), calibration=[self.inputs(8)])


def _of_family(name: str, **settings: Any) -> Case:
    supernet = SUPERNETS[name].build(**settings)
    disturb(supernet)
    architecture = supernet.smallest
    if supernet.mixture is not None:  # where every choice is mixed anew
        architecture = supernet.space.sample(np.random.default_rng(0))
    return Case(supernet.extract(architecture), supernet.example_inputs)


def _with_mask() -> Case:
    """An encoder that is told where padding is: two inputs."""
    network, inputs = _of_family("encoder")
    assert isinstance(network, TextClassifier)

    def with_mask(batch_size: int) -> Inputs:
        (ids_BT,) = inputs(batch_size)
        return ids_BT, ids_BT != network.padding_id

    return Case(network, with_mask)


def _member() -> Case:
    """A member of a chain of nested sub-networks."""
    supernet = SUPERNETS["mobilenet_v3"].build()
    disturb(supernet)
    return Case(supernet.extract(NestedChain.grown(supernet, 3)[1]), supernet.example_inputs)


CASES: dict[str, Callable[[], Case]] = {
    **{name: lambda name=name: _of_family(name) for name in SUPERNETS},  # type: ignore[misc]
    "encoder with mask": _with_mask,
    "smaller images": lambda: _of_family("mobilenet_v3", preset="fashion"),
    "nested member": _member,
    "mixture": lambda: _of_family("mobilenet_v3", sharing="mixture_layerwise"),
}


def _marks(target: str, case: str) -> list[pytest.MarkDecorator]:
    usual = _LOWERED_FAMILIES.get(target, ("mobilenet_v3",))
    return [pytest.mark.nightly] if target in _LOWERED and case not in usual else []


class Written(NamedTuple):
    """A network in its files."""

    exporter: Exporter
    case: Case
    programs: dict[str, Program]
    folder: Path
    state_before: dict[str, Tensor]
    facts: dict[str, dict[str, Any]]


_WRITTEN: dict[tuple[str, str], Written | str] = {}


def write(target: str, case_name: str, folder: Path) -> Written | str:
    """The files of a case; or why there are none."""
    try:
        exporter = EXPORTERS[target]()
    except MissingExtraError as error:
        return str(error)
    case = CASES[case_name]()
    programs = case.programs()
    reason = exporter.refusal(programs)
    if reason is not None:
        assert reason[0].islower(), "a clause that goes on from a colon"
        assert not reason.endswith("."), "a clause that goes on from a colon"
        return f"{target} cannot write this network: {reason}"
    before = {name: tensor.clone() for name, tensor in case.network.state_dict().items()}
    facts = exporter.write(case.network, programs, folder)
    return Written(exporter, case, programs, folder, before, facts)


class ExporterContract:
    """What every target promises: its files run in their own runtime and compute the same.

    Attributes:
        targets: keys of `EXPORTERS`; None says all.
    """

    targets: Sequence[str] | None = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "target_and_case" in metafunc.fixturenames:
            targets = sorted(EXPORTERS) if self.targets is None else self.targets
            pairs = [
                pytest.param((target, case), id=f"{target}-{case}", marks=_marks(target, case))
                for target in targets
                for case in CASES
            ]
            metafunc.parametrize("target_and_case", pairs)

    @pytest.fixture
    def written(self, target_and_case, tmp_path_factory):
        """Written once for all tests, which leave it as it is."""
        if target_and_case not in _WRITTEN:
            folder = tmp_path_factory.mktemp("written")
            _WRITTEN[target_and_case] = write(*target_and_case, folder)
        found = _WRITTEN[target_and_case]
        if isinstance(found, str):
            pytest.skip(found)
        return found

    def test_computes_the_same_for_every_size(self, written):
        inputs_of = {name: program.inputs for name, program in written.programs.items()}
        found = written.exporter.load(written.folder, inputs_of)
        for batch_size in (1, 2, 9):
            full = written.case.inputs(batch_size)
            is_tokens = all(x.ndim == 2 and not x.is_floating_point() for x in full)
            for length in (full[0].shape[1], 5) if is_tokens else (None,):
                inputs = full if length is None else tuple(x[:, :length] for x in full)
                with torch.inference_mode():
                    expected = written.case.network(*inputs)
                self.check_close(written.exporter.precision, computed(found, inputs), expected)

    def check_close(self, precision: str, found: Tensor, expected: Tensor) -> None:
        assert found.shape == expected.shape
        if precision == "float32":
            torch.testing.assert_close(found, expected, atol=TOLERANCES["float32"], rtol=0)
        else:
            difference = (found - expected).square().mean() / expected.square().mean()
            assert difference.sqrt() < TOLERANCES[precision]

    def test_writes_the_files_that_it_names(self, written):
        names = written.exporter.file_names(written.programs)
        assert sorted(file.name for file in written.folder.iterdir()) == sorted(names)
        assert set(written.facts) <= set(names)

    def test_leaves_the_network_as_it_was(self, written):
        state = written.case.network.state_dict()
        assert not written.case.network.training
        assert all(torch.equal(t, written.state_before[name]) for name, t in state.items())
