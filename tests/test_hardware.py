"""The latency protocol, and what every engine promises."""

import time

import pytest
import torch

from nasbench.hardware import ENGINES, LatencyProtocol, measure_latency
from nasbench.supernet import SUPERNETS

PROTOCOL = LatencyProtocol(num_warmup=3, num_repeats=20)


class Sleeper:
    """An engine whose every second forward pass takes 4 ms, the others 2 ms."""

    name = "sleeper"
    num_calls = 0

    def compile(self, module, example_inputs):
        return "artifact"

    def load(self, artifact, num_threads):
        assert (artifact, num_threads) == ("artifact", 1)

        def forward():
            self.num_calls += 1
            time.sleep(0.002 * (1 + self.num_calls % 2))

        return forward


def test_warmup_is_run_and_not_timed():
    engine = Sleeper()
    measure_latency(engine, "artifact", PROTOCOL)
    assert engine.num_calls == 3 + 20


def test_percentiles_are_of_the_timed_runs():
    found = measure_latency(Sleeper(), "artifact", LatencyProtocol(num_warmup=0, num_repeats=41))
    assert 2.0 <= found.p10_ms < 3.9 < 4.0 <= found.p90_ms
    assert found.p10_ms <= found.median_ms <= found.p90_ms


def test_conditions_say_everything():
    found = measure_latency(Sleeper(), "artifact", PROTOCOL)
    assert found.conditions() == {
        "engine": "sleeper",
        "device": found.device,
        "batch_size": 1,
        "num_threads": 1,
        "num_warmup": 3,
        "num_repeats": 20,
    }
    assert found.device


class TestEngineContract:
    @pytest.fixture(params=sorted(ENGINES))
    def engine(self, request):
        return ENGINES[request.param]()

    @pytest.fixture
    def supernet(self):
        return SUPERNETS["mobilenet_v3"].build()

    def test_measures_a_network(self, engine, supernet):
        module = supernet.extract(supernet.smallest)
        artifact = engine.compile(module, supernet.example_inputs())
        found = measure_latency(engine, artifact, PROTOCOL)
        assert 0 < found.p10_ms <= found.median_ms <= found.p90_ms
        assert found.engine == engine.name

    def test_a_larger_network_takes_longer(self, engine, supernet):
        torch.set_num_threads(1)
        inputs = supernet.example_inputs(batch_size=32)
        small, large = (
            measure_latency(engine, engine.compile(supernet.extract(a), inputs), PROTOCOL)
            for a in (supernet.smallest, supernet.largest)
        )
        assert large.median_ms > small.median_ms

    def test_compiling_leaves_the_module_as_it_was(self, engine, supernet):
        module = supernet.extract(supernet.smallest)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        engine.compile(module, supernet.example_inputs())
        assert not module.training
        assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
