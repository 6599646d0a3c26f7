"""Files from strangers run nothing, and what a configuration names stays in the run's folder."""

import ast
import hashlib
import json
import pickle
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import nasbench as nb
from nasbench.config import load_config, parse_config
from nasbench.errors import NasbenchError, RequestError
from nasbench.experiment.device_files import MeasurementLog, read_device_file
from nasbench.experiment.inference import infer
from nasbench.experiment.run import Run
from nasbench.export import EXPORTERS
from nasbench.export.programs import programs_of
from nasbench.hardware import ENGINES
from nasbench.hardware.files import open_exported
from nasbench.store import TrialStore
from nasbench.supernet.nested import NestedModel
from nasbench.supernet.training.checkpoint import Checkpoint, load_latest, save_checkpoint
from nasbench.testing.stores import OBJECTIVES, SPACE
from tests.experiment.searched import make_searched_run

PACKAGE = Path(nb.__file__).parent
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def dangerous_calls(source):
    """Line and name of what could run code that a file holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            for name in [module] if module else names:
                if name.partition(".")[0] in MODULES:
                    yield node.lineno, name
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if (
            name in ("eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
            or name.endswith("read_pickle")
            or (name == "torch.load" and options.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False")
        ):
            yield node.lineno, name


def test_the_package_has_no_loader_that_runs_code():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in PACKAGE.rglob("*.py")
        for line, name in dangerous_calls(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "pd.read_pickle(path)",
        "eval(text)",
    ],
)
def test_such_a_loader_would_be_found(source):
    assert list(dangerous_calls(source))


class Bomb:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(params=["pickle", "torch"])
def bomb(request, tmp_path):
    """A malicious file's content; the test fails if anybody loaded it."""
    mark, file = tmp_path / "it-went-off", tmp_path / "bomb"
    if request.param == "torch":
        torch.save(Bomb(mark), file)
    else:
        file.write_bytes(pickle.dumps(Bomb(mark)))
    yield file.read_bytes()
    assert not mark.exists()


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint(file, bomb, tmp_path):
    made = Checkpoint(step=1, fingerprint="f", weights={"w": torch.zeros(2)})
    folder = save_checkpoint(tmp_path, made)
    (folder / file).write_bytes(bomb)
    with pytest.raises(RequestError, match="is damaged"):
        load_latest(tmp_path, "f")
    if file != "state.json":  # the stranger also knows how to compute a hash
        state = json.loads((folder / "state.json").read_text())
        state["sha256"][file] = hashlib.sha256(bomb).hexdigest()
        (folder / "state.json").write_text(json.dumps(state))
        with suppress(Exception):
            load_latest(tmp_path, "f")


@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors"])
def test_a_bundle(file, bomb, tmp_path):
    for name in ("manifest.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(bomb if name == file else b"{}")
    with pytest.raises(RequestError):
        NestedModel.load(tmp_path)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_store(kind, bomb, tmp_path):
    (tmp_path / "study").write_bytes(bomb)
    with pytest.raises(NasbenchError):
        TrialStore(f"{kind}:///{tmp_path / 'study'}", SPACE, OBJECTIVES).trials()


def test_the_rows_of_a_store(bomb, tmp_path):
    url = f"sqlite:///{tmp_path / 'study'}"
    TrialStore(url, SPACE, OBJECTIVES).propose([SPACE.smallest])
    with sqlite3.connect(tmp_path / "study") as database:
        database.execute("UPDATE trial_user_attributes SET value_json = ?", (bomb,))
    with pytest.raises(NasbenchError):
        TrialStore(url, SPACE, OBJECTIVES).trials()


@pytest.mark.parametrize("suffix", [".onnx", ".pte", ".pt2", ".safetensors"])
def test_an_exported_file(suffix, bomb, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(bomb)
    engine = "onnxruntime" if suffix == ".onnx" else "eager"
    with pytest.raises(NasbenchError):
        open_exported(path).artifact(ENGINES[engine](), 1, None)
    (tmp_path / "manifest.json").write_bytes(bomb)
    with pytest.raises(NasbenchError):
        open_exported(path).artifact(ENGINES[engine](), 1, None)
    with pytest.raises(NasbenchError):
        infer(tmp_path, str(tmp_path / "image.png"))


@pytest.mark.parametrize("target", ["pt2", "onnx", "safetensors"])
def test_an_exported_file_whose_hash_is_right(target, bomb, tmp_path):
    exporter = EXPORTERS[target]()
    network = nn.Linear(2, 2)
    programs = programs_of(network, (torch.zeros(2, 2),))
    for name in exporter.file_names(programs):
        (tmp_path / name).write_bytes(bomb)
    with suppress(Exception):  # what it says is tested elsewhere
        exporter.load(tmp_path, {name: program.inputs for name, program in programs.items()})


def test_the_files_of_a_device(bomb, tmp_path):
    for read in (read_device_file, MeasurementLog):
        (tmp_path / "file.json").write_bytes(bomb + b"\n")
        with pytest.raises(RequestError):
            read(tmp_path / "file.json")


@pytest.mark.parametrize("file", ["config.yaml", "run.json", "study.db", "pareto.csv"])
def test_a_runs_folder(file, bomb, tmp_path, nasbench):
    make_searched_run(tmp_path / "run", num_trials=6)
    (tmp_path / "run" / file).write_bytes(bomb)
    code, _, errors = nasbench("report", tmp_path / "run")
    assert "Traceback" not in errors
    assert code in (0, 1, 2)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system"])
def test_the_yaml_loader_is_the_safe_one(tag, tmp_path):
    (tmp_path / "a.yaml").write_text(f"name: {tag} ['touch {tmp_path / 'mark'}']")
    with pytest.raises(RequestError, match="is not valid YAML"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(RequestError, match="cannot read the value"):
        load_config(Path("experiments/digits.yaml"), [f"name={tag} [true]"])
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"task": {"name": "os:system", "data_dir": "touch it-went-off"}},
        {"task": {"name": "numpy:load", "options": {"allow_pickle": True}}},
        {"search": {"options": {"predictors": ["subprocess:run"]}}},
        {"training": {"strategy": "evil_in_the_folder:go"}},
    ],
)
def test_a_runs_folder_names_no_code_that_is_not_the_users(change, tmp_path, monkeypatch, nasbench):
    run = make_searched_run(tmp_path / "run", num_trials=6)
    (run.folder / "evil_in_the_folder.py").write_text("raise SystemExit('boom')")
    monkeypatch.syspath_prepend(run.folder)
    content = yaml.safe_load((run.folder / "config.yaml").read_text())
    for section, settings in change.items():
        content[section].update(settings)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RequestError, match="neither nasbench's nor a file of yours"):
        nb.load_run(run.folder)
    for command in ("report", "run"):
        code, _, errors = nasbench(command, run.folder)
        assert code == 2
        assert "set NASBENCH_PLUGINS=" in errors
    assert not (tmp_path / "it-went-off").exists()


def test_a_plugin_of_the_users_is_welcome_in_a_runs_folder(tmp_path, monkeypatch):
    run = make_searched_run(tmp_path / "run", num_trials=6)
    (tmp_path / "my_own_strategy.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    text = (run.folder / "config.yaml").read_text()
    for name in ("my_own_strategy:Mine", "json:loads"):
        monkeypatch.setenv("NASBENCH_PLUGINS", "other,json")
        (run.folder / "config.yaml").write_text(
            text.replace("strategy: sandwich", f"strategy: {name}")
        )
        assert nb.load_run(run.folder).config.training.strategy == name


CONFIG = {"name": "a", "task": {"name": "digits"}, "supernet": {"family": "mobilenet_v3"}}


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "..", ".hidden"])
def test_a_name_is_no_path(name):
    with pytest.raises(RequestError):
        parse_config({**CONFIG, "name": name})
    with pytest.raises(RequestError):
        parse_config({**CONFIG, "latency": {"device": name}})


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////tmp/escaped.db",
        "sqlite:///../escaped.db",
        "journal:///nested/../../escaped",
        "sqlite:///file:/tmp/escaped?uri=true",
        "sqlite:///leads_out/escaped.db",
    ],
)
def test_a_store_stays_in_the_runs_folder(url, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "leads_out").symlink_to(tmp_path)
    run = Run(tmp_path / "run", parse_config({**CONFIG, "store": {"url": url}}))
    with pytest.raises(RequestError, match=r"store.url names the file|names no file"):
        run.open_store()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "store",
    [
        {"url": "postgresql+psycopg://me:s3cr3t@host/database"},
        {"url": "postgresql+psycopg://me@host/database?password=s3cr3t"},
        "postgresql+psycopg://me:s3cr3t@host/database",
        {"urls": "postgresql+psycopg://me:s3cr3t@host/database"},
        {"patience_s": "postgresql+psycopg://me:s3cr3t@host/database"},
    ],
)
def test_a_password_in_a_configuration_is_refused_and_not_repeated(store, tmp_path, nasbench):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**CONFIG, "store": store}))
    code, output, errors = nasbench("run", "a.yaml")
    assert code == 2
    assert "s3cr3t" not in output + errors
    assert not (tmp_path / "runs").exists()
