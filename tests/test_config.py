"""Configuration: what is read is valid, and what is not valid gets one sentence."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from nasbench.config import RunConfig, differing_settings, load_config, parse_config, sections
from nasbench.errors import RequestError

MINIMAL = {"name": "r", "task": {"name": "digits"}, "supernet": {"family": "mobilenet_v3"}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_defaults_complete_a_minimal_file(path):
    config = load_config(path)
    assert config == RunConfig.model_validate(MINIMAL)
    assert config.search.algorithm == "auto"


def test_the_complete_yaml_gives_the_same_configuration(path):
    config = load_config(path, ["search.num_trials=7", "search.batch_size=3"])
    path.write_text(config.to_yaml())
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("search.num_trials=500", lambda c: c.search.num_trials == 500),
        ("search.objectives=[top1_error, num_macs]", lambda c: len(c.search.objectives) == 2),
        ("training.learning_rate=1e-3", lambda c: c.training.learning_rate == 1e-3),
        ("search.options.population=10", lambda c: c.search.options == {"population": 10}),
        ("seed=3", lambda c: c.seed == 3),
    ],
)
def test_settings_can_be_overridden(path, override, read):
    assert read(load_config(path, [override]))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("search.num_trial=5", "search has no setting 'num_trial'; did you mean 'num_trials'?"),
        ("serach.num_trials=5", "has no setting 'serach'; did you mean 'search'?"),
        ("search.num_trials=many", "search.num_trials is 'many': input should be a valid integer"),
        ("search.num_trials=5", "batch_size=20 exceeds num_trials=5"),
        ("search.objectives=[]", "objectives is empty"),
        ("search.objectives=[num_macs, num_macs]", "repeats a metric"),
        ("training.epochs=0", "training.epochs is 0: input should be greater than 0"),
        ("training.epochs=1", "warmup_epochs=2"),
        ("training.learning_rate=.nan", "training.learning_rate is nan"),
        ("name=../elsewhere", "name is '../elsewhere'"),
        ("task=digits", "task is 'digits'"),
        ("task.name=null", "task.name is None"),
        ("search.num_trials", "write section.setting=value"),
        ("seed.value=1", "seed is {'value': 1}"),
        ("search.options=[", "cannot read the value"),
    ],
)
def test_a_wrong_setting_is_one_sentence(path, override, sentence):
    with pytest.raises(RequestError) as caught:
        load_config(path, [override])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("task: [", "not valid YAML"),
        ("", "holds no settings"),
        ("- a\n- b", "holds no settings"),
        ("name: r", "lacks the setting 'task'"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(path, content, sentence):
    path.write_text(content)
    with pytest.raises(RequestError) as caught:
        load_config(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"no configuration file '.*none\.yaml'"):
        load_config(tmp_path / "none.yaml")


def test_settings_that_change_no_result_are_not_part_of_the_identity():
    config = parse_config(MINIMAL)
    same = parse_config(
        {
            **MINIMAL,
            "name": "another",
            "resources": {"workers": 0},
            "export": {"pick": "best"},
            "search": {"num_trials": 999},
        }
    )
    assert same.fingerprint == config.fingerprint


def test_the_number_of_workers_is_where_each_normalizes_by_itself():
    def fingerprint(**training):
        return parse_config({**MINIMAL, "training": training}).fingerprint

    assert fingerprint(num_workers=2) == fingerprint()
    apart = fingerprint(num_workers=2, sync_batch_norm=False)
    assert len({fingerprint(), fingerprint(sync_batch_norm=False), apart}) == 3


def test_every_other_setting_is():
    config = parse_config(MINIMAL)
    other = parse_config({**MINIMAL, "seed": 1, "search": {"algorithm": "random"}})
    assert other.fingerprint != config.fingerprint
    different = differing_settings(config.identity(), other.identity())
    assert different == ["seed", "search.algorithm"]


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse_config(MINIMAL).seed = 1


class TestPretrained:
    def test_has_its_place_in_the_supernet_section(self):
        supernet = {"family": "encoder", "pretrained": "models/bert", "elastic": {"depth": [1, 2]}}
        config = parse_config({**MINIMAL, "supernet": supernet})
        assert config.supernet.elastic == {"depth": (1, 2)}
        assert parse_config(yaml.safe_load(config.to_yaml())) == config

    def test_where_the_folder_lies_makes_no_other_run(self):
        found = [
            parse_config({**MINIMAL, "supernet": {"family": "encoder", "pretrained": folder}})
            for folder in ("here", "there")
        ]
        assert found[0].fingerprint == found[1].fingerprint

    @pytest.mark.parametrize(
        ("supernet", "said"),
        [
            ({"elastic": {"depth": [1]}}, "elastic is for a network that is given as 'pretrained'"),
            ({"order": "weights"}, "order is for a network that is given as 'pretrained'"),
            ({"pretrained": "a", "preset": "sst2"}, "preset cannot be set beside 'pretrained'"),
            ({"pretrained": "a", "options": {"a": 1}}, "options cannot be set beside 'pretrained'"),
            ({"pretrained": "a", "sharing": "separate"}, "sharing cannot be set beside 'pretr"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, supernet, said):
        with pytest.raises(RequestError, match=said):
            parse_config({**MINIMAL, "supernet": {"family": "encoder", **supernet}})


def test_every_setting_says_what_it_is():
    """The page docs/reference/settings.md shows what stands below a setting."""
    tree = ast.parse(Path(sections.__file__).read_text())
    for section in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        kind = getattr(sections, section.name)
        settings = set(getattr(kind, "model_fields", ()))
        for node, below in pairwise([*section.body, None]):
            if isinstance(node, ast.AnnAssign) and node.target.id in settings:
                is_section = node.target.id in RunConfig.model_fields and kind is RunConfig
                says = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                assert says or is_section, f"{section.name}.{node.target.id}"
