"""Every command that prints a table prints JSON and CSV, too, as docs/reference/outputs.md says.

A new command is enrolled by being one: it prints no table and stands in WITHOUT_TABLE, or it has an
example here and a section there.
"""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from nasbench.cli import app
from nasbench.cli.output import Found, Result, prints_table
from nasbench.config import load_config
from nasbench.experiment import Run
from nasbench.experiment.measuring import measure_members
from nasbench.experiment.stages import execute
from nasbench.hardware import CAREFUL
from nasbench.objectives import METRICS
from tests.experiment.simulated import SIMULATED

TINY = Path(__file__).parent / "tiny.yaml"
PAGE = (Path(__file__).parents[1] / "docs/reference/outputs.md").read_text()
WITHOUT_TABLE = {"device prepare"}
FEW = ("--repeats", 6, "--engine", SIMULATED)
RESNET = ("--set", "supernet.family=resnet", "--out", "resnet")

OF_ARCHITECTURE = {"architecture", "architecture_id", "purpose", "supernet"}
EXAMPLES = {  # what is called in a folder that has a finished run, an image and an export of it
    "run": ("run",),
    "train": ("run",),
    "search": ("run",),
    "report": ("run",),
    "export": ("run", "--target", "pt2"),
    "nest": ("run", "--members", 4),
    "sweep": ("sweep.yaml",),
    "infer": ("export", "--input", "dark.png"),
    "list": (),
    "profile": (TINY,),
    "predictors": ("run", "--predictor", "ridge", "--size", 6),
    "measure": ("export", "--repeats", 20),
    "lut build": (TINY, "--device", "a", "--test", 2, *FEW, *RESNET),
    "device fit": (TINY, "--device", "a", "--samples", 4, "--test", 2, *FEW, *RESNET),
    "device import": (TINY, "measured.json", "--device", "b", "--predictor", "ridge"),
}


def commands(group=None, prefix=""):
    """Every command: its name with those of its groups -> its options."""
    found = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = {option for p in command.params for option in p.opts}
    return found


def sections():
    """Command -> the part of the page that describes what it prints."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        _, named, _ = section.split("\n\n", 2)
        for name in re.findall(r"`nasbench ([a-z ]+)`", named):
            found[name] = section
    return found


def test_every_command_has_both_or_prints_no_table():
    for name, options in commands().items():
        assert ({"--json", "--csv"} <= options) != (name in WITHOUT_TABLE), name
        assert not {"--json", "--csv"} & options or name in EXAMPLES, name
    assert EXAMPLES.keys() | WITHOUT_TABLE == commands().keys()


def test_every_output_is_described():
    assert sections().keys() == EXAMPLES.keys()


def test_both_at_once_are_refused(nasbench, tmp_path):
    code, out, err = nasbench("run", TINY, "--json", "--csv")
    assert (code, out) == (2, "")
    assert "give --json or --csv, not both" in err
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_standard_output_empty(nasbench):
    code, out, err = nasbench("report", "none.yaml", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("nasbench: ")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run, an export of it, an image, and what a device measured."""
    folder = tmp_path_factory.mktemp("finished")
    run = Run(folder / "run", load_config(TINY, ["export.targets=[pt2]"]))
    execute(run)
    sweep = {"name": "few", "base": str(TINY), "grid": {"search.num_trials": [4, 8]}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    (export,) = (folder / "run/export").iterdir()
    shutil.copytree(export, folder / "export")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "dark.png")
    ids = [trial.architecture.id for trial in run.completed[:4]]
    measured = measure_members(run.folder, ids, SIMULATED, replace(CAREFUL, num_repeats=6))
    (folder / "measured.json").write_text(json.dumps([each.to_json() for each in measured]))
    return folder


@pytest.fixture
def inside(finished, nasbench, tmp_path):
    """The command line in a copy of that folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return nasbench


def described(command, form):
    """The names that the page gives for a form of a command's output."""
    (paragraph,) = (p for p in sections()[command].split("\n\n") if p.startswith(f"{form}: "))
    return re.findall(r"`([a-z0-9_]+)`", paragraph)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=pytest.mark.ray) if name == "sweep" else name for name in EXAMPLES],
)
def test_standard_output_is_the_data_as_described(inside, command):
    arguments = (*command.split(), *EXAMPLES[command])
    code, out, err = inside(*arguments, "--json")
    assert code == 0, err
    document = json.loads(out, parse_constant=pytest.fail)
    code, out, err = inside(*arguments, "--csv")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert rows
    named, columns = described(command, "CSV"), list(rows[0])
    if "a column for each metric" in sections()[command]:
        named = [name for name in named if not name.endswith("_")]
        others = [column for column in columns if column not in named]
        assert {re.sub("^(validation|test)_", "", other) for other in others} <= {*METRICS}
        columns = [column for column in columns if column in named]
    assert columns == named
    if command not in ("export", "infer", "list"):  # whose names are those of classes and kinds
        known = {*described(command, "JSON"), *named, *METRICS, *OF_ARCHITECTURE}
        for each in document if isinstance(document, list) else [document]:
            assert each.keys() <= known


def test_what_is_said_meanwhile_goes_to_standard_error(capsys):
    @prints_table
    def command() -> Result:
        print("a library's remark")
        return Result(show=lambda: print("a table"), find=lambda: Found({"a": 1}, [{"a": 1}]))

    command(as_json=False, as_csv=True)
    assert capsys.readouterr() == ("a\n1\n", "a library's remark\n")
    command(as_json=False, as_csv=False)
    assert capsys.readouterr() == ("a library's remark\na table\n", "")


def test_what_json_does_not_have_is_null(capsys):
    found = Found({"loss": float("inf"), "parts": (1.5, float("nan")), "is_ok": True}, [])
    prints_table(lambda: Result(show=print, find=lambda: found))(as_json=True, as_csv=False)
    assert json.loads(capsys.readouterr().out) == {
        "loss": None,
        "parts": [1.5, None],
        "is_ok": True,
    }
