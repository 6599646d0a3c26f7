"""The README's Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasbench.cli.tables import print_presets
from nasbench.experiment.profile import profile_family
from nasbench.supernet import SUPERNETS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = "".join(re.findall(r"```\n(.*?)```", TEXT, re.DOTALL))
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.ray
def test_the_run_in_python(tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[0], {})
    assert (tmp_path / "front.png").exists()


def test_the_search_in_python():
    names = {}
    exec(BLOCKS[1], names)
    assert len(names["proposals"]) == 8
    assert not set(names["algorithm"].ask(8)) & set(names["proposals"])


def test_the_predictors_in_python():
    names = {}
    exec(BLOCKS[2], names)
    assert np.isfinite(names["prediction"].std).all()
    unseen, few = names["genomes"][60:], names["few"]
    without_prior = type(names["phone"])(names["MOBILE_SPACE"], seed=0)
    without_prior.fit(names["genomes"][few], names["elsewhere"][few])
    agreement = [
        kendalltau(predictor.predict(unseen).mean, names["elsewhere"][60:]).statistic
        for predictor in (names["tablet"], without_prior)
    ]
    assert agreement[0] > max(agreement[1], 0)


def test_every_command_exists():
    from nasbench.cli import app

    named = set(re.findall(r"^nasbench (\w+)", COMMANDS, re.MULTILINE))
    known = {c.name for c in [*app.registered_commands, *app.registered_groups]}
    assert named
    assert named <= known


def test_every_file_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", PROSE):
        assert (ROOT / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(SUPERNETS))
def test_the_table_of_presets_is_what_profile_prints(family, capsys):
    print_presets(profile_family(family))
    printed = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    table = (ROOT / "nasbench/supernet/README.md").read_text()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    assert printed
    for row in printed:
        assert row in rows
