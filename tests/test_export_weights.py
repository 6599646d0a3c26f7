"""Networks that are built again from `config.json` and their weights, by nothing but plain code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nasbench.errors import RequestError
from nasbench.export.weights import SafetensorsExporter, build_network, describe


class Scaled(nn.Module):
    """A module of somebody's own."""

    def __init__(self, body, factor):
        super().__init__()
        self.body, self.factor = body, factor

    def forward(self, x):
        return self.factor * self.body(x)


class Forgetful(nn.Module):
    """Keeps no argument."""

    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(size, size)


def write(network, folder):
    SafetensorsExporter().write(network, {}, folder)
    return folder


def change(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


@pytest.fixture
def written(tmp_path):
    return write(nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)), tmp_path)


def test_building_imports_no_supernet_and_no_search(written):
    program = (
        "import sys; from pathlib import Path; from nasbench.export.weights import build_network; "
        f"build_network(Path({str(written)!r})); "
        "print(*(n for n in sys.modules if n.startswith('nasbench.') or n in "
        "('ray', 'pymoo', 'optuna', 'pandas', 'sklearn', 'matplotlib')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    of_nasbench = ("errors", "registry", "space", "objectives", "trials")  # of `import nasbench`
    allowed = (*of_nasbench, "export", "supernet.plain", "supernet.rotary")
    loaded = {name.removeprefix("nasbench.") for name in done.stdout.split()}
    assert {name for name in loaded if not name.startswith(allowed)} <= {"supernet"}


def test_modules_of_your_own_are_named_by_you(tmp_path):
    network = Scaled(nn.Sequential(nn.Linear(2, 2)), 0.5)
    folder = write(network, tmp_path)
    with pytest.raises(RequestError, match="unknown module 'Scaled'"):
        build_network(folder)
    built = build_network(folder, own_modules=[Scaled])
    x = torch.rand(3, 2)
    torch.testing.assert_close(built(x), network(x))
    assert not built.training


def test_what_keeps_no_argument_cannot_be_described():
    with pytest.raises(RequestError, match="its argument 'size' is no attribute of it"):
        describe(Forgetful(3))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c["parts"]["0"].update(module="System"), "unknown module 'System'"),
        (lambda c: c["parts"]["0"]["arguments"].update(colour=3), "cannot build a network"),
        (lambda c: c["parts"]["0"]["arguments"].update(in_features=5), "do not fit its network"),
        (lambda c: c["parts"]["0"]["arguments"].update(in_features="x"), "cannot build a network"),
        (lambda c: c.pop("parts"), "cannot build a network"),
        (lambda c: c.update(module=7), "unknown module '7'"),
    ],
)
def test_a_configuration_is_not_believed(written, edit, sentence):
    change(written, edit)
    with pytest.raises(RequestError, match=sentence):
        build_network(written)


def test_a_missing_or_damaged_file_is_one_sentence(written):
    (written / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RequestError, match="do not fit its network"):
        build_network(written)
    (written / "config.json").unlink()
    with pytest.raises(RequestError, match="cannot build a network from"):
        build_network(written)
