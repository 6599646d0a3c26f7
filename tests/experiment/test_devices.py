"""Getting to know a device: tables, predictors, files, and a search that uses them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nasbench.config import load_config
from nasbench.errors import RequestError, WorkError
from nasbench.experiment.checks import check
from nasbench.experiment.device_files import (
    MeasurementLog,
    common_conditions,
    corrected_ms,
    read_device_file,
)
from nasbench.experiment.devices import (
    DeviceRequest,
    build_lookup_table,
    choose_networks,
    fit_device,
    import_networks,
    prepare_networks,
)
from nasbench.experiment.measuring import measure_files
from nasbench.experiment.run import Run
from nasbench.experiment.stages import execute
from nasbench.hardware import CAREFUL, LatencyMeasurement, LatencyProtocol
from nasbench.space import Architecture
from nasbench.supernet import SUPERNETS
from nasbench.testing.toys import TINY_SPACE
from tests.experiment.simulated import SIMULATED, SLOW, SimulatedEngine

TINY = Path(__file__).parents[1] / "tiny.yaml"
QUICK = LatencyProtocol(num_warmup=0, num_repeats=6, round_size=1, has_control=True)


@pytest.fixture(autouse=True)
def _fresh_engine(monkeypatch):
    monkeypatch.setattr(SimulatedEngine, "num_compiled", 0)
    monkeypatch.setattr(SimulatedEngine, "fails_after", None)


@pytest.fixture
def request_for(tmp_path):
    def build(engine=SIMULATED, device="here", *settings):
        return DeviceRequest(
            Run(tmp_path / "run", load_config(TINY, settings)), device, engine, QUICK
        )

    return build


def small(request):
    """The same for a family with few blocks, so that a test has little to measure."""
    config = request.run.config.model_copy(
        update={"supernet": request.run.config.supernet.model_copy(update={"family": "resnet"})}
    )
    return replace(request, run=Run(request.run.folder, config))


class TestLookupTable:
    def test_it_adds_up_exactly_where_latencies_do(self, request_for):
        path = build_lookup_table(small(request_for()), num_fitted=4, num_tested=6)
        file = read_device_file(path)
        assert file.quality["mape"] < 1e-6
        assert file.quality["tau"] == pytest.approx(1)
        assert file.correction["slope"] == pytest.approx(1)
        assert file.correction["intercept_ms"] == pytest.approx(0, abs=1e-6)
        assert file.overhead_ms == pytest.approx(0.005)
        assert path == path.parents[2] / "devices/here/lookup_table.json"

    def test_every_distinct_block_is_measured_once(self, request_for):
        request = small(request_for())
        build_lookup_table(request, num_fitted=4, num_tested=6)
        num_blocks = len(request.supernet().distinct_blocks())
        control = 1
        assert SimulatedEngine.num_compiled == control + 1 + num_blocks + 4 + 6
        build_lookup_table(request, num_fitted=4, num_tested=6)
        assert SimulatedEngine.num_compiled == control + 1 + num_blocks + 4 + 6

    @pytest.mark.slow
    def test_what_was_measured_before_a_failure_is_kept(self, request_for, monkeypatch):
        request = small(request_for())
        monkeypatch.setattr(SimulatedEngine, "fails_after", 50)
        with pytest.raises(RuntimeError, match="unplugged"):
            build_lookup_table(request, num_fitted=4, num_tested=6)
        assert not (request.folder / "lookup_table.json").exists()
        monkeypatch.setattr(SimulatedEngine, "fails_after", None)
        build_lookup_table(request, num_fitted=4, num_tested=6)
        num_blocks = len(request.supernet().distinct_blocks())
        new_control = 1
        assert SimulatedEngine.num_compiled == 1 + 1 + num_blocks + 4 + 6 + new_control

    def test_a_family_without_blocks_says_so_before_anything_is_written(self, request_for):
        request = request_for()
        supernet = request.run.config.supernet.model_copy(update={"family": "vit"})
        config = request.run.config.model_copy(update={"supernet": supernet})
        request = replace(request, run=Run(request.run.folder, config))
        with pytest.raises(RequestError, match="the family 'vit' names no blocks"):
            build_lookup_table(request)
        assert not request.run.folder.exists()


class TestPredictor:
    def test_it_ranks_networks_that_it_has_not_seen(self, request_for):
        path = fit_device(small(request_for()), num_samples=40, num_tested=30)
        file = read_device_file(path)
        assert file.predictor_name == "gp"
        assert (len(file.fitted_to), len(file.tested_on)) == (40, 30)
        assert file.quality["tau"] > 0.7
        assert file.quality["mape"] < 0.25
        assert file.quality["tau_of_macs"] > 0.5
        assert file.conditions["engine"] == "simulated"

    def test_a_file_is_fitted_anew_and_predicts_the_same(self, request_for):
        request = request_for()
        file = read_device_file(fit_device(request, num_samples=12, num_tested=4))
        supernet = request.supernet()
        genomes = supernet.space.sample_genomes(20, np.random.default_rng(0))
        first, second = (file.fitted(supernet).predict(genomes) for _ in range(2))
        np.testing.assert_array_equal(first.mean, second.mean)
        with pytest.raises(RequestError, match="is about the supernet mobilenet_v3/tiny"):
            file.fitted(SUPERNETS["resnet"].build())

    @pytest.mark.slow
    def test_another_device_is_corrected(self, request_for):
        known = fit_device(request_for(), num_samples=60, num_tested=0)
        request = request_for(SLOW, "slow")
        path = fit_device(request, num_samples=10, num_tested=30, prior=known)
        file = read_device_file(path)
        assert file.predictor_name == "transfer"
        assert file.prior.device == "here"
        assert file.quality["tau"] > 0.8
        known.unlink()  # the file is complete by itself
        assert read_device_file(path).fitted(request.supernet()).predict is not None

    def test_a_table_can_be_the_prior(self, request_for):
        table = build_lookup_table(small(request_for()), num_fitted=4, num_tested=0)
        path = fit_device(small(request_for(SLOW, "b")), num_samples=8, num_tested=10, prior=table)
        assert read_device_file(path).quality["tau"] > 0.9

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"predictor": "gpp"}, "did you mean 'gp'"),
            ({"predictor": "transfer"}, "corrects another device's; give --from"),
            ({"predictor": "lookup"}, "nasbench lut build"),
            ({"prior": Path("none.json")}, "there is no file 'none.json'"),
            ({"num_samples": 1}, "at least 2 networks"),
        ],
    )
    def test_refusals_come_before_anything_is_written(self, request_for, options, sentence):
        request = request_for()
        with pytest.raises(RequestError, match=sentence):
            fit_device(request, **{"num_samples": 10, **options})
        assert not request.run.folder.exists()

    def test_a_device_that_cannot_measure_says_why(self, request_for, monkeypatch):
        def fail(*_):
            raise RuntimeError("no such operator")

        monkeypatch.setattr(SimulatedEngine, "load", fail)
        with pytest.raises(WorkError, match="cannot be measured: RuntimeError: no such operator"):
            fit_device(request_for(), num_samples=4)


class TestChoice:
    SUPERNET = SUPERNETS["mobilenet_v3"].build()

    def macs(self, architectures):
        return np.array([self.SUPERNET.count(each)["num_macs"] for each in architectures])

    def test_what_is_learned_from_is_spread_over_costs(self):
        fitted, tested = choose_networks(self.SUPERNET, 20, 10, seed=0)
        assert len({*fitted, *tested}) == 30
        assert {self.SUPERNET.largest, self.SUPERNET.smallest} <= set(fitted)
        gaps = np.diff(np.sort(np.log(self.macs(fitted))))
        assert gaps.max() < 3 * gaps.mean()
        assert np.ptp(np.log(self.macs(tested))) < np.ptp(np.log(self.macs(fitted)))

    def test_a_small_space_has_not_enough(self):
        supernet = SimpleNamespace(space=TINY_SPACE, count=lambda _: {"num_macs": 1})
        with pytest.raises(RequestError, match="the space has 12 sub-networks; 10 to fit and 3"):
            choose_networks(supernet, 10, 3, seed=0)
        fitted, tested = choose_networks(supernet, 10, 2, seed=0)
        assert len({*fitted, *tested}) == 12

    def test_the_same_seed_chooses_the_same(self):
        assert choose_networks(self.SUPERNET, 5, 5, 3) == choose_networks(self.SUPERNET, 5, 5, 3)
        assert choose_networks(self.SUPERNET, 5, 5, 3) != choose_networks(self.SUPERNET, 5, 5, 4)


def measurement(medians, controls=(), **conditions):
    return LatencyMeasurement(
        rounds_ms=tuple((m,) for m in medians),
        control_ms=tuple((c,) for c in controls),
        stopped_by="count",
        engine="eager",
        versions={},
        load_average=None,
        **{"device": "a cpu", "protocol": QUICK, **conditions},
    )


class TestLog:
    def test_what_a_killed_process_left_of_a_line_is_forgotten(self, tmp_path):
        path = tmp_path / "deep/samples.jsonl"
        log = MeasurementLog(path)
        log.add("a", measurement([1.0]))
        log.add("b", measurement([2.0]))
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        torn = MeasurementLog(path)
        assert torn.find("b", "eager", QUICK) is None
        torn.add("b", measurement([2.0]))
        assert path.read_bytes() == whole
        assert MeasurementLog(path).find("b", "eager", QUICK).median_ms == 2

    def test_other_conditions_are_other_measurements(self, tmp_path):
        log = MeasurementLog(tmp_path / "samples.jsonl")
        log.add("a", measurement([1.0]))
        assert log.find("a", "onnxruntime", QUICK) is None
        assert log.find("a", "eager", CAREFUL) is None

    def test_a_damaged_line_is_a_sentence(self, tmp_path):
        (tmp_path / "samples.jsonl").write_text("{}\n")
        with pytest.raises(RequestError, match="is damaged; delete it and measure again"):
            MeasurementLog(tmp_path / "samples.jsonl")

    def test_measurements_of_two_machines_are_not_mixed(self):
        mixed = {"a": measurement([1.0]), "b": measurement([1.0], device="another cpu")}
        with pytest.raises(RequestError, match="differ in device: a cpu and another cpu"):
            common_conditions("here", mixed)


def test_a_machine_that_was_slow_for_a_while_is_corrected():
    usual, slow = measurement([2.0, 2.0], [1.0, 1.0]), measurement([6.0, 6.0], [3.0, 3.0])
    assert corrected_ms([usual, slow, usual]) == [2, 2, 2]
    assert corrected_ms([measurement([2.0]), measurement([3.0])]) == [2, 3]


class TestFiles:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{", "cannot read"),
            ("[]", "says nothing of a device"),
            ('{"kind": "look-up table"}', "device: Field required"),
        ],
    )
    def test_a_file_that_is_none_is_one_sentence(self, tmp_path, text, sentence):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(RequestError, match=sentence):
            read_device_file(tmp_path / "x.json")


class TestSearch:
    SETTINGS = ("search.objectives=[top1_error, predicted_latency_ms]", "search.num_trials=4")

    @pytest.mark.slow
    def test_what_a_file_predicts_can_be_an_objective(self, request_for, tmp_path):
        request = small(request_for())
        path = build_lookup_table(request, num_fitted=4, num_tested=0)
        settings = [*self.SETTINGS, "supernet.family=resnet", f"latency.predictor={path}"]
        run = Run(tmp_path / "run", load_config(TINY, settings))
        check(run)
        execute(run)
        (trial, *_) = run.trials
        supernet = request.supernet()
        genome = supernet.space.to_genome(trial.architecture)
        expected = read_device_file(path).fitted(supernet).predict(genome[None]).mean[0]
        assert trial.measurements["predicted_latency_ms"] == expected
        assert "latency_ms" not in trial.measurements
        assert "predicted_latency_ms" in (run.folder / "pareto.csv").read_text().splitlines()[0]

    def test_without_a_file_it_is_refused(self, tmp_path):
        run = Run(tmp_path / "b", load_config(TINY, self.SETTINGS))
        with pytest.raises(RequestError, match=r"name the file in latency\.predictor"):
            check(run)

    def test_a_missing_file_is_refused(self, tmp_path):
        settings = [*self.SETTINGS, "latency.predictor=none.json"]
        with pytest.raises(RequestError, match=r"there is no file 'none\.json'"):
            check(Run(tmp_path / "b", load_config(TINY, settings)))

    def test_a_target_device_needs_ray(self, tmp_path):
        run = Run(tmp_path / "b", load_config(TINY, ["latency.device=pi5"]))
        with pytest.raises(RequestError, match=r"resources\.workers=0 does without"):
            check(run)

    def test_images_have_no_sequence_length(self, tmp_path):
        run = Run(tmp_path / "b", load_config(TINY, ["latency.sequence_length=8"]))
        with pytest.raises(RequestError, match="only networks that read token ids"):
            check(run)


@pytest.mark.slow
@pytest.mark.onnx
class TestWithoutRay:
    """Files go to the device, measurements come back."""

    @pytest.fixture
    def prepared(self, request_for, tmp_path):
        request = replace(request_for(), engine="onnxruntime")
        folders = prepare_networks(request, tmp_path / "files", num_samples=6, num_tested=3)
        assert len(folders) == 9
        return request, folders

    def test_there_and_back(self, prepared, tmp_path):
        request, folders = prepared
        measured = measure_files(folders, None, QUICK)
        (tmp_path / "pi5.json").write_text(json.dumps([each.to_json() for each in measured]))
        path = import_networks(request.run, tmp_path / "pi5.json", "pi5")
        file = read_device_file(path)
        assert path == request.run.folder / "devices/pi5/predictor.json"
        assert (len(file.fitted_to), len(file.tested_on)) == (6, 3)
        by_id = {each.identity["architecture_id"]: each.latency for each in measured}
        usual = np.median([each.control_median_ms for each in by_id.values()])
        for each in (*file.fitted_to, *file.tested_on):
            latency = by_id[Architecture(each.architecture).id]
            assert each.latency_ms == pytest.approx(latency.relative_to_control * usual)

    def test_refusals_are_sentences(self, prepared, tmp_path):
        request, folders = prepared
        with pytest.raises(RequestError, match="exists already; choose a new folder"):
            prepare_networks(request, tmp_path / "files", num_samples=2)
        eager = replace(request, engine="eager")
        with pytest.raises(RequestError, match="engine 'eager' runs no files"):
            prepare_networks(eager, tmp_path / "others", num_samples=2)
        (folders[0] / "manifest.json").unlink()
        rows = [each.to_json() for each in measure_files(folders[:3], None, QUICK)]
        file = tmp_path / "pi5.json"
        for content, sentence in (
            (rows, "does not say which sub-network"),
            (rows[1:2], "holds 1 networks to fit to"),
            ({}, "is not what 'nasbench measure --json' prints"),
            ([{"architecture": rows[1]["architecture"]}], "no measured latency"),
        ):
            file.write_text(json.dumps(content))
            with pytest.raises(RequestError, match=sentence):
                import_networks(request.run, file, "pi5")
        assert not request.run.folder.exists()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["files", "pi5.json"]
