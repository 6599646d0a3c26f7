"""The README's worked example: a family of one's own passes the contract, and a whole run."""

import subprocess
import sys
from pathlib import Path

import pytest

import nasbench as nb
from nasbench.testing.supernets import SupernetContract

ROOT = Path(__file__).parents[2]
FAMILY = "tests.supernet.own_family:PERCEPTRON"


class TestOwnFamily(SupernetContract):
    families = (FAMILY,)


@pytest.mark.slow
def test_a_yaml_names_it_without_registering(tmp_path):
    command = [
        sys.executable,
        "-m",
        "nasbench",
        "run",
        "tests/tiny.yaml",
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--set", f"supernet.family={FAMILY}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert nb.load_run(tmp_path / "run").pareto_front()
