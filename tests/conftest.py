"""What tests share: the same examples in every run, where public data is, the command line."""

import importlib
import os
import sys
from pathlib import Path

import hypothesis
import pytest

from nasbench import cli
from nasbench.testing.postgresql import PostgreSQLServer, find_programs

hypothesis.settings.register_profile("nasbench", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("nasbench")


@pytest.fixture
def experiment(monkeypatch):
    """Imports a script of the folder `experiments` by its name, as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments")
    return importlib.import_module


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the public data; a test without it is skipped."""
    folder = os.environ.get("NASBENCH_DATA")
    if folder is None:
        pytest.skip("needs the public data in the folder NASBENCH_DATA")
    return Path(folder)


@pytest.fixture(scope="session")
def postgresql():
    """A real server; a test is skipped where none is installed."""
    programs = find_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's server (Debian's package postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra postgresql")
    with PostgreSQLServer(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request, tmp_path):
    """A new store's URL, for each kind of store that outlives a process."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql").new_store()
    return f"{request.param}:///{tmp_path / 'study'}"


@pytest.fixture
def nasbench(monkeypatch, capsys, tmp_path):
    """Call the command line in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nasbench", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as exited:
            cli.main()
        printed = capsys.readouterr()
        return exited.value.code or 0, printed.out, printed.err

    return call
