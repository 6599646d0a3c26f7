"""What holds from process to process: the same proposals, and no import before its use."""

import os
import subprocess
import sys

import pytest

PROPOSE = """
from nasbench.errors import MissingExtraError
from nasbench.search import ALGORITHMS
from nasbench.testing.toys import MIXED_SPACE, MOBILE_SPACE, ToyProblem

for name in ALGORITHMS:
    for space in (MIXED_SPACE, MOBILE_SPACE):
        toy = ToyProblem(space)
        try:
            algorithm = ALGORITHMS[name](toy.problem, seed=3)
        except MissingExtraError:
            continue
        genomes, losses = toy.sample(60)
        algorithm.tell(space.from_genomes(genomes), losses)
        for _ in range(2):
            architectures = algorithm.ask(2 if name == "gp" else 8)  # one takes seconds
            print(name, [architecture.id for architecture in architectures])
            algorithm.tell(architectures, toy.losses(space.to_genomes(architectures)))
"""

IMPORT = """
import sys
from nasbench.search import ALGORITHMS, SearchAlgorithm, SearchProblem
from nasbench.predictors import PREDICTORS

assert list(ALGORITHMS) and list(PREDICTORS)
heavy = {"pymoo", "sklearn", "lightgbm", "scipy", "torch", "ray", "optuna", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
ALGORITHMS["nsga2"], ALGORITHMS["linas"]
[PREDICTORS[name] for name in PREDICTORS if name != "mlp"]  # which is made of torch
print(sorted({"torch", "ray", "optuna"} & set(sys.modules)))
"""


def output_of(program, hash_seed="random"):
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_proposals_do_not_depend_on_the_hashing_of_a_process():
    assert output_of(PROPOSE, "1") == output_of(PROPOSE, "2") != ""


@pytest.mark.slow
def test_heavy_packages_are_imported_when_they_are_used():
    assert output_of(IMPORT).splitlines() == ["[]", "[]"]
