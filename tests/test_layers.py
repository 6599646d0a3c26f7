"""The picture of what imports what, held against the files.

Every import counts, wherever it stands: at the top, inside a function, under TYPE_CHECKING, by
`importlib.import_module("...")`, or as the text `module:object` that a registry imports later.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "nasbench"

FACADE = "nasbench/__init__.py"  # what `import nasbench` and `from nasbench import NAME` read

LAYERS = [  # bottom first; a unit imports from lower layers only
    {"errors"},
    {"registry", "folders"},
    {"space", "objectives", "pareto", "config"},
    {"trials", "tasks", "encoding"},
    {"store", "predictors", "supernet", "cost"},
    {"search", "export", "plots"},
    {"hardware"},
    {"evaluation"},
    {"distributed"},
    {"experiment"},
    {FACADE},
    {"cli"},
    {"testing", "__main__"},  # nothing imports these
]
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}

DOORS = {  # heavy package -> the files and folders that may import it
    "ray": ("distributed/", "testing/faults.py"),
    "pymoo": ("search/evolution.py",),
    "optuna": ("search/optuna_samplers.py", "store/"),
    "lightgbm": ("predictors/boosting.py",),
    "matplotlib": ("plots/",),
    "onnx": ("export/", "hardware/"),
    "onnxscript": ("export/", "hardware/"),
    "onnxruntime": ("export/", "hardware/"),
    "executorch": ("export/executorch.py", "export/int8.py"),
    "torchao": ("export/int8.py",),
    "openvino": ("export/openvino.py",),
    "pynvml": ("hardware/",),
    "tokenizers": ("tasks/text.py",),
    "sacrebleu": ("tasks/multi30k.py",),
    "PIL": ("tasks/image_folder.py",),
    "plotly": ("experiment/html_report/",),
    "jinja2": ("experiment/html_report/",),
    "transformers": ("export/huggingface.py",),
}

WITHOUT_TORCH = set().union(
    *LAYERS[:3], {"trials", "encoding", "store", "predictors", "search", FACADE}
)
WITH_TORCH_NEVERTHELESS = {"predictors/neural.py"}

HEAVY = (
    "torch",
    "ray",
    "matplotlib",
    "optuna",
    "pymoo",
    "pandas",
    "sklearn",
    "lightgbm",
    "tokenizers",
    "sacrebleu",
    "PIL",
    "plotly",
    "jinja2",
    "transformers",
)


def imported_names(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of all that a file imports; a name may end in an attribute."""
    parents = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=aliases):
                yield from ((node.lineno, alias.name) for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases, level=level):
                start = parents[: len(parents) - level + 1] if level else []
                base = ".".join([*start, *([module] if module else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in aliases)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+:\w+", text):
                yield node.lineno, text.replace(":", ".")


def unit_of(path: Path, package: Path) -> str:
    """The root module or the package of a file."""
    first = path.relative_to(package).parts[0].removesuffix(".py")
    return FACADE if first == "__init__" else first


def imported_unit(name: str, package: Path) -> str | None:
    """The unit of `package` that an imported name belongs to, None where it is no such name."""
    first, _, rest = name.partition(".")
    if first != package.name or rest == "__version__":
        return None
    unit = rest.partition(".")[0]
    return unit if unit in RANK else FACADE


def violations(package: Path) -> list[str]:
    """One sentence for each import that the picture does not allow."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file, unit = path.relative_to(package).as_posix(), unit_of(path, package)
        if unit not in RANK:
            found.append(f"{file}: '{unit}' has no place in the picture of layers")
            continue
        for line, name in imported_names(path, package):
            where, other = f"{file}:{line}", imported_unit(name, package)
            if other is not None and other != unit and RANK[other] >= RANK[unit]:
                found.append(f"{where}: {unit} imports {other}, which is not below it")
            heavy = name.partition(".")[0]
            if heavy in DOORS and not file.startswith(DOORS[heavy]):
                found.append(f"{where}: {heavy} is imported only in {', '.join(DOORS[heavy])}")
            if heavy == "torch" and unit in WITHOUT_TORCH and file not in WITH_TORCH_NEVERTHELESS:
                found.append(f"{where}: {unit} imports torch and must run without it")
    return list(dict.fromkeys(found))  # one import of three names is one violation


def test_imports_point_down_and_heavy_packages_keep_to_their_doors():
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def loaded_after(statement: str) -> list[str]:
    """Which heavy packages a fresh process has loaded after a statement."""
    program = f"import sys; {statement}; print(*(n for n in {HEAVY} if n in sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return process.stdout.split()


def test_importing_nasbench_is_light():
    assert loaded_after("import nasbench; nasbench.SearchSpace; nasbench.Trial") == []


def test_search_and_predictors_load_neither_torch_nor_ray():
    loaded = loaded_after("import nasbench.search, nasbench.predictors, nasbench.trials")
    assert not {"torch", "ray", "matplotlib"} & set(loaded)


def test_figures_load_no_package_that_only_some_of_them_need():
    assert set(loaded_after("import nasbench.plots")) <= {"matplotlib", "PIL"}  # which it needs


def write(package: Path, file: str, text: str) -> None:
    path = package / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def package(tmp_path):
    """A package of the same name where nothing is wrong yet."""
    root = tmp_path / "nasbench"
    for file, text in {
        "__init__.py": "from nasbench.space import SearchSpace\n__version__ = '1'\n"
        "if TYPE_CHECKING:\n    from nasbench.experiment import load_run\n",
        "errors.py": '"""Search spaces come later: see nasbench.space:SearchSpace."""\n',
        "space.py": "import json\nfrom nasbench.errors import RequestError\n",
        "tasks/digits.py": "import torch\nfrom nasbench.tasks.base import Task\n",
        "predictors/neural.py": "import torch.nn as nn\nfrom torch import Tensor\n",
        "predictors/boosting.py": "from lightgbm import LGBMRegressor\n",
        "store/sql.py": "import optuna\nfrom nasbench import space\n",
        "search/__init__.py": "ALGORITHMS = {'nsga2': 'nasbench.search.evolution:Nsga2'}\n",
        "search/evolution.py": "from pymoo.algorithms import nsga2\nfrom .base import Problem\n",
        "search/optuna_samplers.py": "def f():\n    import optuna.samplers\n",
        "plots/style.py": "import matplotlib.pyplot as plt\n",
        "export/onnx.py": "import onnx\nimport torch\n",
        "hardware/onnxruntime_engine.py": "import onnxruntime\nimport nasbench.export.manifest\n",
        "evaluation.py": "from nasbench import cost, hardware, __version__\n",
        "distributed/pool.py": "import ray\nfrom ..evaluation import Evaluator\n",
        "experiment.py": "from nasbench import __version__\nimport nasbench.distributed.pool\n",
        "cli.py": "import nasbench as nb\nfrom nasbench import load_run\n",
        "__main__.py": "from nasbench.cli import main\n",
        "testing/search.py": "import nasbench\nfrom nasbench.experiment import Run\n",
    }.items():
        write(root, file, text)
    return root


def test_what_the_picture_allows_passes(package):
    assert violations(package) == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("space.py", "import nasbench.search", "space.py:1: space imports search, which is not"),
        ("space.py", "from nasbench.search.base import X", "space imports search"),
        ("space.py", "from nasbench import search as s", "space imports search"),
        ("space.py", "from . import search", "space imports search"),
        ("space.py", "from .search.base import X", "space imports search"),
        (
            "space.py",
            "def f():\n    from nasbench.store import X",
            "space.py:2: space imports stor",
        ),
        ("space.py", "if TYPE_CHECKING:\n    import nasbench.cli", "space.py:2: space imports cli"),
        ("space.py", "importlib.import_module('nasbench.plots')", "space imports plots"),
        ("space.py", "LATER = 'nasbench.plots:draw'", "space imports plots"),
        (
            "space.py",
            "from nasbench.pareto import a, b",
            "space imports pareto, which is not below",
        ),
        ("errors.py", "from nasbench.registry import Registry", "errors imports registry"),
        ("supernet/families/vit.py", "from ...search import X", "supernet imports search"),
        ("supernet/base.py", "from nasbench.predictors import X", "supernet imports predictors"),
        ("export/onnx.py", "from nasbench.hardware import X", "export imports hardware"),
        ("distributed/pool.py", "import nasbench.experiment", "distributed imports experiment"),
        ("experiment.py", "import nasbench.cli", "experiment imports cli"),
        ("cli.py", "from nasbench.testing import X", "cli imports testing"),
        ("experiment.py", "import nasbench", "experiment imports nasbench/__init__.py"),
        ("search/base.py", "from nasbench import SearchSpace", "search imports nasbench/__init__"),
        ("search/base.py", "from nasbench import *", "search imports nasbench/__init__.py"),
        ("__init__.py", "from nasbench.cli import main", "nasbench/__init__.py imports cli"),
        ("misc.py", "", "misc.py: 'misc' has no place in the picture of layers"),
        ("helpers/a.py", "", "helpers/a.py: 'helpers' has no place in the picture of layers"),
        ("experiment.py", "import ray", "experiment.py:1: ray is imported only in distributed/"),
        ("cli.py", "def f():\n    from ray import tune", "cli.py:2: ray is imported only in dist"),
        ("search/linas.py", "from pymoo.core import x", "pymoo is imported only in search/evolut"),
        ("search/loop.py", "__import__('optuna')", "optuna is imported only in search/optuna_sa"),
        ("predictors/ridge.py", "import lightgbm", "lightgbm is imported only in predictors/boo"),
        ("experiment.py", "import matplotlib.pyplot", "matplotlib is imported only in plots/"),
        ("evaluation.py", "import onnxruntime", "onnxruntime is imported only in export/, hardw"),
        ("supernet/base.py", "import onnx", "onnx is imported only in export/, hardware/"),
        ("cost.py", "import executorch.exir", "executorch is imported only in export/executorch"),
        ("tasks/sst2.py", "import tokenizers", "tokenizers is imported only in tasks/text.py"),
        ("tasks/text.py", "import sacrebleu", "sacrebleu is imported only in tasks/multi30k.py"),
        ("supernet/a.py", "import transformers", "transformers is imported only in export/huggi"),
        (
            "plots/fronts.py",
            "from PIL import Image",
            "PIL is imported only in tasks/image_folder.py",
        ),
        ("predictors/ridge.py", "import torch", "predictors imports torch and must run without"),
        ("search/linas.py", "from torch.nn import Linear", "search imports torch and must run wit"),
        ("store/sql.py", "import torch", "store imports torch and must run without it"),
        ("trials.py", "import torch", "trials imports torch and must run without it"),
        ("config.py", "import torch", "config imports torch and must run without it"),
        ("registry.py", "import torch", "registry imports torch and must run without it"),
        ("__init__.py", "import torch", "nasbench/__init__.py imports torch and must run without"),
    ],
)
def test_what_the_picture_forbids_is_found(package, file, text, said):
    write(package, file, text)
    found = violations(package)
    assert len(found) == 1
    assert said in found[0]


def test_heavy_packages_that_are_loaded_are_seen():
    assert loaded_after("sys.modules['ray'] = sys") == ["ray"]
