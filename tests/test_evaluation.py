"""Evaluation: what is reported of an architecture is what the extracted network does."""

import numpy as np
import pytest
import torch

from nasbench.config import EvaluationConfig
from nasbench.cost import count_macs, count_parameters
from nasbench.evaluation import Evaluator, EvaluatorRecipe
from nasbench.supernet import SUPERNETS
from nasbench.tasks import TASKS
from nasbench.trials import FULL

CONFIG = EvaluationConfig(calibration_samples=128, batch_size=128)


@pytest.fixture(scope="module")
def task():
    return TASKS["digits"](None)


@pytest.fixture(scope="module")
def evaluator(task):
    return Evaluator(SUPERNETS["mobilenet_v3"].build(), task, CONFIG, engine="eager")


@pytest.fixture(params=range(3))
def architecture(request, evaluator):
    return evaluator.supernet.space.sample(np.random.default_rng(request.param))


def test_the_extracted_network_is_what_was_measured(evaluator, task, architecture):
    measured = evaluator.evaluate(architecture).measurements
    module = evaluator.extract(architecture)
    again = task.evaluate(module, "validation", batch_size=360)
    assert measured["top1_accuracy"] == again["top1_accuracy"]
    assert measured["cross_entropy"] == pytest.approx(again["cross_entropy"], rel=1e-5)
    assert measured["num_parameters"] == count_parameters(module)
    assert measured["num_macs"] == count_macs(module, task.example_inputs(1))


def test_a_measurement_does_not_depend_on_what_was_measured_before(evaluator, architecture):
    first = evaluator.evaluate(architecture).measurements
    evaluator.evaluate(evaluator.supernet.largest)
    evaluator.evaluate(evaluator.supernet.smallest, "test")
    assert evaluator.evaluate(architecture).measurements == first


def test_statistics_come_from_training_data(task, architecture, evaluator):
    expected = evaluator.evaluate(architecture).measurements
    (calibration,) = task.example_inputs(128)
    assert all(
        torch.equal(a, b) for a, b in zip(evaluator._calibration[FULL], [calibration], strict=True)
    )
    no_calibration = evaluator.supernet.extract(evaluator.supernet.largest)
    wrong = task.evaluate(no_calibration, "validation", 128)
    assert wrong["cross_entropy"] != expected["cross_entropy"]


def test_a_recipe_builds_the_same_evaluator_elsewhere(evaluator, task, architecture):
    state = evaluator.supernet.state_dict()
    arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
    for array in arrays.values():
        array.flags.writeable = False  # as in Ray's shared memory
    recipe = EvaluatorRecipe(
        supernet_settings=evaluator.supernet.settings,
        weights=arrays,
        task=task,
        config=CONFIG,
        num_threads=torch.get_num_threads(),
    )
    built = recipe.build()
    assert (
        built.evaluate(architecture).measurements == evaluator.evaluate(architecture).measurements
    )
    shared = built.supernet.get_parameter(next(n for n, _ in built.supernet.named_parameters()))
    assert any(shared.data_ptr() == array.ctypes.data for array in arrays.values()), "not copied"


def test_a_search_can_measure_on_fewer_samples(task):
    config = CONFIG.model_copy(update={"validation_samples": 50})
    evaluator = Evaluator(SUPERNETS["mobilenet_v3"].build(), task, config)
    smallest = evaluator.supernet.smallest
    measured = evaluator.evaluate(smallest).measurements["top1_accuracy"] * 50
    assert measured == pytest.approx(round(measured))
    tested = evaluator.evaluate(smallest, "test").measurements
    again = task.evaluate(evaluator.extract(smallest), "test", 128)
    assert tested["top1_accuracy"] == again["top1_accuracy"]
