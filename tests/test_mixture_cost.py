"""The benchmark of mixtures runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "mixture_cost.py"


@pytest.mark.slow
def test_it_prints_a_table_and_writes_all_numbers(tmp_path):
    report = tmp_path / "report.json"
    options = ["--repetitions", "2", "--batch-size", "4", "--json", report]
    command = [sys.executable, SCRIPT, "decoder/tiny", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "decoder/tiny" in done.stdout
    plain, layerwise, neuronwise = json.loads(report.read_text())["costs"]
    assert plain["ratios"]["training"]["median"] == 1
    assert plain["kept_bytes"] == 0 < layerwise["kept_bytes"] == neuronwise["kept_bytes"]
    held = [cost["num_parameters"] for cost in (plain, layerwise, neuronwise)]
    assert held == sorted(held)
    for cost in (plain, layerwise, neuronwise):
        assert cost["training_bytes"] >= 16 * cost["num_parameters"]
