"""The studies of nested chains can be built."""

from pathlib import Path

import pytest
import torch
import yaml

from nasbench.config import TrainingConfig
from nasbench.supernet import SUPERNETS
from nasbench.supernet.training.strategies import build_strategy

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def sorted_chain(experiment):
    """The script, as a module."""
    return experiment("sorted_chain")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("sorted_*.yaml")))
def test_each_chain_of_a_study_can_be_trained(sorted_chain, name):
    study = sorted_chain.Study.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
    with torch.device("meta"):
        config = study.supernet
        supernet = SUPERNETS[config.family].build(config.preset, **config.options)
    chain = sorted_chain.chain_of(study, supernet)
    count = min(study.num_compared, study.num_members)
    assert len(sorted_chain.compared(chain, study.num_compared)) == count
    for way in study.chains:
        training = TrainingConfig.model_validate(sorted_chain.settings_of(study, way))
        strategy = build_strategy(training.strategy, supernet, training.options)
        assert list(strategy.chain) == list(chain), way
