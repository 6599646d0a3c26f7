"""The experiments of this repository: every YAML of a run or sweep is one that could be started,
and every script finds what it imports.
"""

import re
from pathlib import Path

import pytest
import yaml

from nasbench.config import load_config
from nasbench.experiment import Run
from nasbench.experiment.checks import check
from nasbench.experiment.sweep import Place, check_sweep, load_sweep

FOLDER = Path(__file__).parents[1] / "experiments"
NAMED = {
    path: content
    for path in sorted(FOLDER.glob("*.yaml"))
    if "name" in (content := yaml.safe_load(path.read_text()))
}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
RUNS = [path for path, content in NAMED.items() if "base" not in content]
SWEEPS = [path for path, content in NAMED.items() if "base" in content]


def test_the_readme_has_a_line_for_every_file_and_names_no_other():
    text = (FOLDER / "README.md").read_text()
    lines = [line for line in text.split("## All files")[1].splitlines() if line.startswith("| [")]
    listed = [re.match(r"\| \[(.*?)\]\((.*?)\) \|", line).groups() for line in lines]
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".yaml", ".py")}
    assert all(name == link for name, link in listed)
    assert sorted(name for name, _ in listed) == sorted(files)
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_what_it_imports(name, experiment):
    assert experiment(name).__doc__, "says what it measures"


def test_there_is_one_for_every_task_that_ships_data():
    tasks = {config.task.name for config in map(load_config, RUNS) if config.task is not None}
    assert tasks >= {"digits", "fashion_mnist", "sst2", "language_model", "multi30k"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == "digits" else pytest.mark.data)
        for path in RUNS
    ],
)
def test_can_be_started(path, tmp_path, request):
    if path.stem != "digits":
        request.getfixturevalue("data_dir")
    check(Run(tmp_path / "run", load_config(path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_can_be_read(path):
    assert len(load_sweep(path).members) > 1


@pytest.mark.slow
def test_the_small_sweep_can_be_started(tmp_path):
    place = Place.of(str(tmp_path / "sweep"), on_cluster=False)
    check_sweep(load_sweep(FOLDER / "sweep.yaml"), place, None)
    assert list(tmp_path.iterdir()) == []
