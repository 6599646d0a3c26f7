"""The worked examples of docs/your_data.md and docs/your_network.md run as they stand."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from nasbench.config import parse_config
from nasbench.errors import RequestError
from nasbench.experiment import Run
from nasbench.experiment.checks import check
from nasbench.supernet import SUPERNETS, build_supernet
from nasbench.tasks import TASKS

ROOT = Path(__file__).parents[1]


def blocks(page, language):
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


FROM_ARCHIVE, DATA_SUITE = blocks("your_data.md", "python")
OTHER_SIZES, OWN_FAMILY, NETWORK_SUITE = blocks("your_network.md", "python")


def saved(name, text):
    """A block as the module that a reader saves it as."""
    module = ModuleType(name)
    exec(text, vars(module))
    sys.modules[name] = module
    return module


saved("my_data", FROM_ARCHIVE)
saved("my_sizes", OTHER_SIZES)


class TestMyData(saved("test_my_data", DATA_SUITE).TestMyData):
    """The suite of the text, in a folder that has the archive."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def archive(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("archive")
        images, labels = load_digits(return_X_y=True)
        images = (images * 15).astype(np.uint8).reshape(-1, 8, 8)
        np.savez(folder / "my_images.npz", images=images, labels=labels)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            yield


def test_a_missing_archive_is_a_sentence(tmp_path):
    with pytest.raises(RequestError, match=r"there is no '.*my_images\.npz'"):
        TASKS["my_data:from_archive"](tmp_path, file="my_images.npz")


def test_the_run_on_folders_of_images_can_be_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        for name in ("daisy", "rose"):
            (tmp_path / "flowers" / part / name).mkdir(parents=True)
            for number in range(32):
                pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                path = tmp_path / "flowers" / part / name / f"{number}.jpg"
                Image.fromarray(pixels).save(path)
    check(Run(tmp_path / "run", parse_config(yaml.safe_load(blocks("your_data.md", "yaml")[0]))))


def test_the_other_configurations_name_what_there_is():
    _, text, archive = (yaml.safe_load(block) for block in blocks("your_data.md", "yaml"))
    assert text["task"]["name"] in TASKS
    assert text["supernet"]["preset"] in SUPERNETS[text["supernet"]["family"]].presets
    assert archive["task"]["name"] == "my_data:from_archive"
    (sizes,) = (yaml.safe_load(block) for block in blocks("your_network.md", "yaml"))
    assert sizes["supernet"]["family"] == "my_sizes:DEEP_RESNET"


def test_other_sizes_are_searched_and_built_again():
    supernet = SUPERNETS["my_sizes:DEEP_RESNET"].build(num_classes=3)
    assert {d.choices for d in supernet.space if d.name.endswith(".depth")} == {(1, 2, 3, 4)}
    again = build_supernet(supernet.settings)
    assert again.fingerprint == supernet.fingerprint
    (images,) = supernet.example_inputs(4)
    for architecture in (supernet.smallest, supernet.largest):
        again.activate(architecture)
        torch.testing.assert_close(
            supernet.extract(architecture)(images), again.eval()(images), rtol=1e-5, atol=1e-5
        )


def test_the_family_in_the_text_is_the_one_that_passes_the_contract():
    file = (ROOT / "tests/supernet/own_family.py").read_text()
    assert OWN_FAMILY.strip() == file.split('"""\n', 1)[1].strip()
    names = {}
    exec(NETWORK_SUITE, names)
    assert names["TestMyFamily"].families == ("tests.supernet.own_family:PERCEPTRON",)
