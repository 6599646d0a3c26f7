"""What all tests share: examples that are the same in every run, and where the public data is."""

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("nasbench", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("nasbench")


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the public data; a test without it is skipped."""
    folder = os.environ.get("NASBENCH_DATA")
    if folder is None:
        pytest.skip("needs the public data in the folder NASBENCH_DATA")
    return Path(folder)
