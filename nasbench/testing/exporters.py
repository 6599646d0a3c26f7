"""The contract of export targets, enrolled from `EXPORTERS`."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from nasbench.export import EXPORTERS
from nasbench.supernet import SUPERNETS


class ExporterContract:
    """What every target promises: the file runs in its own runtime and computes the same."""

    @pytest.fixture(params=sorted(EXPORTERS))
    def exporter(self, request):
        return EXPORTERS[request.param]()

    @pytest.fixture
    def supernet(self):
        return SUPERNETS["mobilenet_v3"].build()

    @pytest.fixture(params=["smallest", "largest", "random"])
    def module(self, request, supernet):
        named = {"smallest": supernet.smallest, "largest": supernet.largest}
        random = supernet.space.sample(np.random.default_rng(0))
        return supernet.extract(named.get(request.param, random))

    @pytest.fixture
    def written(self, exporter, module, supernet, tmp_path) -> Path:
        path = tmp_path / exporter.file_name
        exporter.write(module, supernet.example_inputs(), path)
        return path

    @pytest.fixture
    def run(self, exporter, module, written):
        blank = copy.deepcopy(module)
        for parameter in blank.parameters():
            torch.nn.init.zeros_(parameter)
        return exporter.load(written, blank)

    def test_computes_the_same_for_every_batch_size(self, run, module, supernet):
        for batch_size in (1, 2, 7):
            (inputs,) = supernet.example_inputs(batch_size)
            with torch.inference_mode():
                expected = module(inputs)
            torch.testing.assert_close(run(inputs), expected, atol=1e-4, rtol=0)

    def test_writes_one_file(self, written):
        assert [file.name for file in written.parent.iterdir()] == [written.name]

    def test_leaves_the_module_as_it_was(self, exporter, module, supernet, tmp_path):
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        exporter.write(module, supernet.example_inputs(), tmp_path / exporter.file_name)
        assert not module.training
        assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
