"""A sweep's YAML: its members, and the sentence for every mistake."""

import pytest
import yaml

from nasbench.errors import RequestError
from nasbench.experiment.sweep.settings import load_sweep

BASE = {
    "name": "base",
    "task": {"name": "digits"},
    "supernet": {"family": "mobilenet_v3"},
    "training": {"epochs": 3, "warmup_epochs": 1},
    "search": {"num_trials": 12, "batch_size": 4},
}


@pytest.fixture
def load(tmp_path):
    """Load a sweep of these settings."""

    def load(overrides=(), run=BASE, **content):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(run))
        path = tmp_path / "sweep.yaml"
        path.write_text(
            yaml.safe_dump({"name": "s", "base": "base.yaml", **content}, sort_keys=False)
        )
        return load_sweep(path, overrides)

    return load


class TestMembers:
    def test_are_every_combination_with_the_settings_of_all(self, load):
        grid = {"search.algorithm": ["random", "linas"], "seed": [0, 1]}
        sweep = load(["search.num_trials=8"], settings={"training.epochs": 5}, grid=grid)
        assert [member.name for member in sweep.members] == [
            "algorithm-random_seed-0",
            "algorithm-random_seed-1",
            "algorithm-linas_seed-0",
            "algorithm-linas_seed-1",
        ]
        for member in sweep.members:
            config = member.config
            assert config.search.algorithm == member.settings["search.algorithm"]
            assert config.seed == member.settings["seed"]
            assert (config.training.epochs, config.search.num_trials) == (5, 8)
            assert config.name == member.name
            assert config.resources.workers == 0
        assert [m.group() for m in sweep.members] == ["random", "random", "linas", "linas"]

    def test_a_sampled_set_is_within_its_ends_and_the_same_again(self, load):
        settings = {
            "training.learning_rate": {"log_uniform": [0.001, 0.1]},
            "training.weight_decay": {"uniform": [0.0, 0.2]},
            "training.epochs": {"integers": [3, 5]},
            "training.strategy": {"choice": ["sandwich", "bignas"]},
        }
        sampled = {"num_samples": 30, "seed": 1, "settings": settings}
        members = load(sampled=sampled).members
        assert [m.settings for m in load(sampled=sampled).members] == [m.settings for m in members]
        drawn = [m.config.training for m in members]
        assert len(members) == 30
        assert all(0.001 <= t.learning_rate <= 0.1 for t in drawn)
        assert any(t.learning_rate < 0.01 for t in drawn), "uniform in the logarithm"
        assert all(0 <= t.weight_decay <= 0.2 for t in drawn)
        assert {t.epochs for t in drawn} == {3, 4, 5}
        assert {t.strategy for t in drawn} == {"sandwich", "bignas"}
        other = load(sampled={**sampled, "seed": 2}).members
        assert [m.settings for m in other] != [m.settings for m in members]

    def test_the_same_draws_are_done_at_every_point_of_a_grid(self, load):
        drawn = {"training.learning_rate": {"uniform": [0.01, 0.1]}}
        sampled = {"num_samples": 3, "settings": drawn}
        rates = {}
        for member in load(grid={"seed": [0, 1]}, sampled=sampled).members:
            rates.setdefault(member.config.seed, []).append(member.config.training.learning_rate)
        assert rates[0] == rates[1]
        assert len(set(rates[0])) == 3

    def test_none_is_there_twice(self, load):
        drawn = {"search.algorithm": {"choice": ["random", "linas"]}}
        assert len(load(sampled={"num_samples": 20, "settings": drawn}).members) == 2

    def test_a_whole_section_can_vary(self, load):
        families = [
            {"family": "mobilenet_v3", "preset": "tiny"},
            {"family": "resnet", "preset": "tiny"},
        ]
        sweep = load(grid={"supernet": families})
        assert [m.config.supernet.family for m in sweep.members] == ["mobilenet_v3", "resnet"]
        assert sweep.members[1].name == "supernet-resnet-tiny"

    def test_those_that_train_the_same_are_led_by_the_first(self, load):
        grid = {"search.algorithm": ["random", "linas"], "seed": [0, 1]}
        leaders = {m.name: m.leader for m in load(grid=grid).members}
        assert leaders == {
            "algorithm-random_seed-0": None,
            "algorithm-random_seed-1": None,
            "algorithm-linas_seed-0": "algorithm-random_seed-0",
            "algorithm-linas_seed-1": "algorithm-random_seed-1",
        }
        apart = load(grid={"training.learning_rate": [0.1, 0.2]}).members
        assert [m.leader for m in apart] == [None, None]

    def test_their_paths_hold_in_another_folder(self, load, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = {"task.data_dir": "data", "latency.predictor": "pi5.json"}
        (member,) = load(settings=settings, grid={"seed": [0]}).members
        assert member.config.task.data_dir == tmp_path / "data"
        assert member.config.latency.predictor == tmp_path / "pi5.json"

    def test_long_and_strange_names_become_folders(self, load):
        values = ["a/../b", "x" * 200, "y" * 200]
        run = {**BASE, "task": {"name": "digits", "options": {}}}
        names = [m.name for m in load(run=run, grid={"task.options.v": values}).members]
        assert len(set(names)) == 3
        assert all(len(name) <= 90 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "varies nothing; give a grid, or a sampled set"),
        ({"grid": {"seed": []}}, "grid.seed is empty"),
        ({"grid": {"seed": [0, 0]}}, "grid.seed has a value twice"),
        ({"grid": {"seed": 3}}, "grid.seed is 3"),
        ({"grids": {"seed": [0]}}, "has no setting 'grids'; did you mean 'grid'"),
        (
            {"grid": {"search.algoritmh": ["random"]}},
            "member 'algoritmh-random': search has no setting 'algoritmh'; did you mean 'algorithm",
        ),
        ({"grid": {"serach.seed": [1]}}, "no setting 'serach'; did you mean 'search'"),
        ({"grid": {"seed.deep": [1]}, "settings": {"seed": 1}}, "'seed' is no section"),
        ({"grid": {"search.num_trials": ["many"]}}, "search.num_trials is 'many'"),
        ({"grid": {"name": ["a"]}}, "'name' cannot be set here"),
        ({"settings": {"resources.workers": 2}, "grid": {"seed": [0]}}, "set members.workers"),
        ({"settings": {"seed": 2}, "grid": {"seed": [0]}}, "'seed' is set twice"),
        (
            {"settings": {"search.num_trials": 8}, "grid": {"search": [{"algorithm": "linas"}]}},
            "'search' is set twice, by 'search.num_trials' and 'search'",
        ),
        ({"grid": {"training.num_workers": [2]}}, "a member of a sweep trains in one process"),
        (
            {
                "sampled": {
                    "num_samples": 2,
                    "settings": {"seed": {"uniform": [0, 1], "choice": [1]}},
                }
            },
            "give exactly one of uniform, log_uniform, integers, choice, not uniform, choice",
        ),
        (
            {"sampled": {"num_samples": 2, "settings": {"seed": {"integers": [3, 1]}}}},
            "integers begins at 3, above its end 1",
        ),
        (
            {"sampled": {"num_samples": 2, "settings": {"seed": {"log_uniform": [0, 1]}}}},
            "has no logarithm",
        ),
        ({"grid": {"seed": [0]}, "early_stopping": {}}, "lacks the setting 'grace_epochs'"),
        (
            {"grid": {"seed": [0]}, "early_stopping": {"grace_epochs": 2}},
            "training.monitor_every=10 gives early_stopping nothing to compare trainings by",
        ),
        ({"grid": {"seed": [0]}, "base": "none.yaml"}, "no configuration file"),
        ({"grid": {"seed": [0]}, "members": {"cpu": 2}}, "no setting 'cpu'; did you mean 'cpus'"),
    ],
)
def test_what_is_wrong_is_one_sentence(load, content, sentence):
    with pytest.raises(RequestError) as raised:
        load(**content)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_run_is_told_from_a_sweep(load, tmp_path):
    load(grid={"seed": [0]})
    with pytest.raises(RequestError, match="describes one run, not a sweep; use: nasbench run"):
        load_sweep(tmp_path / "base.yaml")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed=3", "'seed' is what the sweep varies"),
        ("supernet.preset=tiny", "'supernet.preset' is what the sweep varies"),
        ("search={algorithm: linas}", "'search' is what the sweep varies"),
        ("resources.address=auto", "name the cluster with --address"),
    ],
)
def test_an_override_that_would_do_nothing_is_refused(load, override, sentence):
    supernets = [{"family": "mobilenet_v3"}, {"family": "resnet"}]
    grid = {"seed": [0], "supernet": supernets, "search.algorithm": ["random"]}
    with pytest.raises(RequestError, match=sentence):
        load([override], grid=grid)
