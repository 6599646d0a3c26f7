"""The worked examples of docs/search.md run as they stand and pass the contract."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nasbench.testing.algorithms import SearchAlgorithmContract

TEXT = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
WARM_START, ALGORITHM, SUITE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def my_search(monkeypatch):
    """The module that a reader saves."""
    module = ModuleType("my_search")
    exec(ALGORITHM, vars(module))
    monkeypatch.setitem(sys.modules, "my_search", module)


class TestMutateTheFront(SearchAlgorithmContract):
    names = ("my_search:MutateTheFront",)


def test_the_suite_in_the_text_is_this_one():
    names = {}
    exec(SUITE, names)
    assert names["TestMutateTheFront"].names == TestMutateTheFront.names


def test_a_warm_start():
    names = {}
    exec(WARM_START, names)
    assert len(names["proposals"]) == 4


def test_every_file_exists():
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (Path(__file__).parents[2] / "docs" / link).exists(), link
