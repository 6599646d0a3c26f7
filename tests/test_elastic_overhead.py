"""The benchmark of elasticity runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "elastic_overhead.py"


@pytest.mark.slow
def test_it_prints_a_table_and_writes_all_numbers(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "resnet/tiny", "--repetitions", "3", "--json", report]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resnet/tiny" in done.stdout
    numbers = json.loads(report.read_text())
    assert [row["step"] for row in numbers["overheads"]] == ["forward", "training"]
    assert all(row["times_ms"].keys() == set("abcd") for row in numbers["overheads"])
    assert numbers["memory"]["resnet/tiny"]["growth_bytes"] == 0
    assert numbers["machine"]["num_threads"] == 1
