"""The latency protocol, what every engine promises, and what stands beside a latency."""

import json
import sys
import time
import types

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.errors import MissingExtraError, RequestError
from nasbench.hardware import (
    CAREFUL,
    ENGINES,
    Engine,
    LatencyMeasurement,
    LatencyProtocol,
    measure_latency,
)
from nasbench.hardware.energy import NvmlCounter, RaplCounter, measure_energy
from nasbench.hardware.memory import measure_peak_memory
from nasbench.hardware.protocol import median_interval
from nasbench.supernet import SUPERNETS

PROTOCOL = LatencyProtocol(num_warmup=3, num_repeats=20)


class Metronome(Engine):
    """An engine and its clock: the n-th forward pass takes `tempo(n)` milliseconds."""

    name = "metronome"
    packages = ()

    def __init__(self, tempo=lambda n: n, control_tempo=lambda _: 2.0):
        self.tempos = {"artifact": tempo, "control": control_tempo}
        self.num_calls, self.now_ns, self.order = {"artifact": 0, "control": 0}, 0, ""

    def compile(self, module, example_inputs):
        return "control"

    def load(self, artifact, num_threads):
        assert num_threads == 1

        def forward():
            self.num_calls[artifact] += 1
            self.order += artifact[0]
            self.now_ns += round(self.tempos[artifact](self.num_calls[artifact]) * 1_000_000)

        return forward

    def measure(self, **protocol):
        return measure_latency(
            self, "artifact", LatencyProtocol(**protocol), clock_ns=lambda: self.now_ns
        )


class TestProtocol:
    def test_warmup_is_run_and_not_timed(self):
        engine = Metronome()
        found = engine.measure(num_warmup=100, num_repeats=1)
        assert engine.num_calls["artifact"] == 101
        assert found.median_ms == found.p10_ms == found.p90_ms == 101

    def test_percentiles_are_of_the_timed_passes(self):
        found = Metronome().measure(num_warmup=0, num_repeats=101, round_size=101)
        assert (found.p10_ms, found.median_ms, found.p90_ms) == (11, 51, 91)

    def test_the_default_clock_tells_real_time(self):
        engine = Metronome()
        engine.load = lambda *_: lambda: time.sleep(0.01)
        assert measure_latency(engine, "artifact", PROTOCOL).p10_ms >= 10

    def test_a_search_times_a_fixed_number_of_passes_and_no_control(self):
        engine = Metronome()
        found = engine.measure()
        assert engine.num_calls == {"artifact": 220, "control": 0}
        assert (found.stopped_by, found.num_repeats) == ("count", 200)
        assert found.drift is found.relative_to_control is found.control_median_ms is None

    def test_it_stops_when_the_median_is_known_well_enough(self):
        found = Metronome(lambda n: 100 + n % 3).measure(precision=0.02)
        assert (found.stopped_by, found.num_repeats) == ("precision", 6 * 20)
        assert found.relative_interval < 0.02

    def test_it_stops_at_the_limit_and_says_so(self):
        found = Metronome(lambda n: 1 + n // 20).measure(precision=0.02, num_repeats=250)
        assert (found.stopped_by, found.num_repeats) == ("limit", 250)
        assert found.relative_interval > 0.02

    def test_an_interval_is_not_narrowed_by_passes_that_are_slow_together(self):
        together = Metronome(lambda n: 1 + n // 20 % 2).measure(num_repeats=2000)
        assert together.interval_ms == (1, 2)

    def test_the_control_has_its_turn_before_each_round(self):
        engine = Metronome()
        engine.measure(num_warmup=1, num_repeats=5, round_size=2, has_control=True)
        assert engine.order == "ca" + "ccaa" * 2 + "ca"

    def test_a_machine_that_slows_down_shows_in_the_control_and_not_in_the_ratio(self):
        def slowing(n):
            return 1 + n / 100

        engine = Metronome(lambda n: 3 * slowing(n), slowing)
        found = engine.measure(num_warmup=0, has_control=True)
        assert found.relative_to_control == pytest.approx(3)
        assert found.drift == pytest.approx(1.8 / 2.005, abs=0.01)
        steady = Metronome(lambda _: 3.0).measure(has_control=True)
        assert (steady.relative_to_control, steady.drift) == (1.5, 0)

    def test_the_number_of_threads_is_set_back(self):
        before = torch.get_num_threads()
        engine = ENGINES["eager"]()
        protocol = LatencyProtocol(num_threads=before + 1, num_warmup=0, num_repeats=1)
        measure_latency(engine, engine.compile(nn.Identity(), (torch.zeros(1),)), protocol)
        assert torch.get_num_threads() == before

    def test_conditions_say_everything(self):
        found = Metronome().measure(num_warmup=3, num_repeats=20)
        assert found.conditions() == {
            "engine": "metronome",
            "device": found.device,
            "versions": {},
            "batch_size": 1,
            "sequence_length": None,
            "num_threads": 1,
            "num_warmup": 3,
            "num_repeats": 20,
            "round_size": 20,
            "precision": None,
            "has_control": False,
        }
        assert found.device

    def test_json_keeps_every_pass(self):
        found = Metronome().measure(num_warmup=0, num_repeats=50, has_control=True, precision=0.5)
        content = json.loads(json.dumps(found.to_json()))
        assert LatencyMeasurement.from_json(content) == found
        assert sum(map(len, content["rounds_ms"])) == found.num_repeats
        for damage in ({"rounds_ms": []}, {"rounds_ms": [[-1.0]]}, {"conditions": {}}):
            with pytest.raises(RequestError, match="no measured latency"):
                LatencyMeasurement.from_json(content | damage)
        with pytest.raises(RequestError, match="no measured latency"):
            LatencyMeasurement.from_json({})

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"batch_size": 0}, "batch_size is 1 or more, not 0"),
            ({"num_warmup": -1}, "num_warmup is 0 or more, not -1"),
            ({"precision": 2.0}, "0.02 stands for 2 %"),
        ],
    )
    def test_impossible_conditions_are_refused(self, settings, sentence):
        with pytest.raises(RequestError, match=sentence):
            LatencyProtocol(**settings)


@pytest.mark.parametrize("count", [6, 10, 25, 100])
def test_the_interval_holds_the_median_as_often_as_it_says(count):
    values = np.random.default_rng(0).exponential(size=(2000, count))
    covers = [low <= np.log(2) <= high for low, high in map(median_interval, values)]
    assert 0.94 <= np.mean(covers) <= 0.99


def test_few_values_have_no_interval():
    assert median_interval(np.arange(5.0)) is None


class TestEngineContract:
    @pytest.fixture(
        params=[
            pytest.param(name, marks=[pytest.mark.slow] if name == "torch_compile" else [])
            for name in sorted(ENGINES)
        ]
    )
    def engine(self, request):
        try:
            engine = ENGINES[request.param]()
            engine.check_machine()
            return engine
        except MissingExtraError as error:
            pytest.skip(str(error))
        except RequestError as error:
            assert request.param == "cuda"
            pytest.skip(str(error))

    @pytest.fixture
    def is_slow(self, engine):
        if engine.name in ("torch_compile", "executorch", "openvino"):
            pytest.skip("compiling takes too long for more than one network")

    @pytest.fixture
    def supernet(self):
        return SUPERNETS["mobilenet_v3"].build()

    def test_measures_a_network(self, engine):
        inputs = (torch.randn(1, 8, 8, 8),)
        module = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()).eval().requires_grad_(False)
        artifact = engine.compile(module, inputs)
        found = measure_latency(engine, artifact, PROTOCOL)
        assert 0 < found.p10_ms <= found.median_ms <= found.p90_ms
        assert found.engine == engine.name
        assert found.device
        assert set(found.versions) == set(engine.packages)

    def test_a_larger_network_takes_longer(self, engine, is_slow, supernet):
        torch.set_num_threads(1)
        inputs = supernet.example_inputs(batch_size=32)
        small, large = (
            measure_latency(engine, engine.compile(supernet.extract(a), inputs), PROTOCOL)
            for a in (supernet.smallest, supernet.largest)
        )
        assert large.median_ms > small.median_ms

    def test_a_larger_network_takes_more_memory(self, engine, is_slow):
        inputs = (torch.zeros(1, 8),)
        small, large = (
            measure_peak_memory(engine, engine.compile(wide(width), inputs), 1).value
            for width in (8, 10**6)
        )
        assert large - small > 30e6  # weights of 32 MB
        assert large < 200e6

    def test_compiling_leaves_the_module_as_it_was(self, engine, is_slow, supernet):
        module = supernet.extract(supernet.smallest)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        engine.compile(module, supernet.example_inputs())
        assert not module.training
        assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())

    def test_images_may_be_resized(self, engine, is_slow):
        supernet = SUPERNETS["mobilenet_v3"].build("fashion")
        module = supernet.extract(supernet.smallest)
        artifact = engine.compile(module, supernet.example_inputs())
        assert measure_latency(engine, artifact, PROTOCOL).median_ms > 0


def wide(width):
    return nn.Linear(8, width, bias=False).eval().requires_grad_(False)


@pytest.mark.gpu
def test_cuda_events_time_the_gpu_and_not_the_launch():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    engine = ENGINES["cuda"]()
    inputs = (torch.randn(4096, 4096),)
    artifact = engine.compile(nn.Linear(4096, 4096).eval(), inputs)
    found = measure_latency(engine, artifact, CAREFUL)
    assert 0.05 < found.median_ms < 50  # 7e10 MACs take a while; launching takes microseconds
    assert measure_peak_memory(engine, artifact, 1).value > 3 * 4096**2 * 4


class TestMemory:
    def test_where_nobody_tells_there_is_a_reason(self, tmp_path):
        engine = ENGINES["eager"]()
        artifact = engine.compile(wide(8), (torch.zeros(1, 8),))
        found = measure_peak_memory(engine, artifact, 1, process=tmp_path / "none")
        assert found.value is None
        assert "only Linux" in found.reason


class TestEnergy:
    @pytest.fixture
    def powercap(self, tmp_path):
        for package in range(2):
            folder = tmp_path / f"intel-rapl:{package}"
            folder.mkdir()
            (folder / "max_energy_range_uj").write_text("1000\n")
            (folder / "energy_uj").write_text("900\n")
        (tmp_path / "intel-rapl:0:0").mkdir()  # a part of a package is in it already
        return tmp_path

    def test_packages_are_added_and_a_counter_may_begin_anew(self, powercap):
        counter = RaplCounter(powercap)
        (powercap / "intel-rapl:0/energy_uj").write_text("950")
        (powercap / "intel-rapl:1/energy_uj").write_text("30")
        assert counter.joules() == pytest.approx((50 + 130) / 1e6)
        assert counter.joules() == pytest.approx((50 + 130) / 1e6)

    def test_energy_is_per_forward_pass(self):
        class Steady:
            def joules(self):
                return engine.now_ns / 1e9 * 5  # 5 W

        engine = Metronome(lambda _: 2.0)
        found = measure_energy(
            engine,
            "artifact",
            PROTOCOL,
            make_counter=lambda _: Steady(),
            clock=lambda: engine.now_ns / 1e9,
        )
        assert found.value == pytest.approx(10)  # mJ in 2 ms

    def test_where_there_is_no_counter_there_is_a_reason(self, tmp_path):
        def absent(_):
            return RaplCounter(tmp_path)

        found = measure_energy(Metronome(), "artifact", PROTOCOL, make_counter=absent)
        assert found.value is None
        assert "no energy counter" in found.reason

    def test_a_gpu_is_asked_through_nvml(self, monkeypatch):
        nvml = types.SimpleNamespace(
            NVMLError=RuntimeError,
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"GPU-7": 2500}[handle],
        )
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        found = types.SimpleNamespace(uuid="7")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
        assert NvmlCounter().joules() == 2.5
