"""Every notebook runs from top to bottom, with tiny budgets, and is small as it is kept."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TINY = {
    "quickstart": "EPOCHS, TRIALS = 3, 20",
    "bring_your_own_model": "EPOCHS, FINETUNING, TRIALS = 1, 3, 20",
    "pareto_fronts": "EPOCHS, TRIALS, SEEDS = 3, 12, (0,)\nNUM_INITIAL = 5",
    "sweep_results": "EPOCHS, TRIALS, SEEDS = 3, 12, [0]",
    "choose_an_algorithm": "TRIALS, SEEDS = 30, (0,)",
    "nested_models": "EPOCHS, TRIALS, MEMBERS, FINETUNING = 3, 20, 4, 1",
    "bring_your_own_device": "SAMPLES, TESTS, FEW = 6, 4, 4\nEPOCHS, TRIALS, PASSES = 3, 12, 40",
}


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_is_a_tiny_budget_for_each():
    assert {path.stem for path in NOTEBOOKS} == TINY.keys()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*event loop.*")
def test_it_runs(path):
    notebook = read(path)
    (budget,) = (c for c in notebook.cells if "budget" in c.metadata.get("tags", ()))
    budget.source = TINY[path.stem]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_as_it_ran_and_small(path):
    assert path.stat().st_size < 500_000
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
