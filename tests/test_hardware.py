"""The latency protocol, and what every engine promises."""

import time

import pytest
import torch

from nasbench.hardware import ENGINES, LatencyProtocol, measure_latency
from nasbench.supernet import SUPERNETS

PROTOCOL = LatencyProtocol(num_warmup=3, num_repeats=20)


class Metronome:
    """An engine and its clock: the n-th forward pass takes n milliseconds."""

    name = "metronome"

    def __init__(self):
        self.num_calls, self.now_ns = 0, 0

    def compile(self, module, example_inputs):
        return "artifact"

    def load(self, artifact, num_threads):
        assert (artifact, num_threads) == ("artifact", 1)

        def forward():
            self.num_calls += 1
            self.now_ns += self.num_calls * 1_000_000

        return forward

    def measure(self, **protocol):
        return measure_latency(
            self, "artifact", LatencyProtocol(**protocol), clock_ns=lambda: self.now_ns
        )


def test_warmup_is_run_and_not_timed():
    engine = Metronome()
    found = engine.measure(num_warmup=100, num_repeats=1)
    assert engine.num_calls == 101
    assert found.median_ms == found.p10_ms == found.p90_ms == 101


def test_percentiles_are_of_the_timed_runs():
    found = Metronome().measure(num_warmup=0, num_repeats=101)
    assert (found.p10_ms, found.median_ms, found.p90_ms) == (11, 51, 91)


def test_the_default_clock_tells_real_time():
    engine = Metronome()
    engine.load = lambda *_: lambda: time.sleep(0.01)
    found = measure_latency(engine, "artifact", PROTOCOL)
    assert found.p10_ms >= 10


def test_conditions_say_everything():
    found = Metronome().measure(num_warmup=3, num_repeats=20)
    assert found.conditions() == {
        "engine": "metronome",
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
