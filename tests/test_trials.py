import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest

from nasbench.space import Architecture
from nasbench.trials import Trial, TrialState

ARCHITECTURE = Architecture({"depth": 2, "width": 0.5})
WAITING = Trial(number=3, architecture=ARCHITECTURE)
COMPLETE = WAITING.completed({"top1_error": 0.1}, {"device": "cpu"})
FAILED = WAITING.failed("out of memory")


def test_only_complete_and_failed_are_final():
    finished = {state for state in TrialState if state.is_finished}
    assert finished == {TrialState.COMPLETE, TrialState.FAILED}


def test_a_trial_begins_waiting_and_knows_nothing():
    assert WAITING.state is TrialState.WAITING
    assert WAITING.measurements == {}
    assert WAITING.provenance == {}
    assert WAITING.error is None


def test_a_completed_trial_has_its_measurements():
    assert COMPLETE.state is TrialState.COMPLETE
    assert (COMPLETE.number, COMPLETE.architecture) == (3, ARCHITECTURE)
    assert COMPLETE.measurements == {"top1_error": 0.1}
    assert COMPLETE.provenance == {"device": "cpu"}


def test_a_failed_trial_says_why():
    assert FAILED.state is TrialState.FAILED
    assert (FAILED.number, FAILED.architecture) == (3, ARCHITECTURE)
    assert FAILED.error == "out of memory"


def test_a_trial_has_measurements_or_an_error_and_never_both():
    assert FAILED.completed({"top1_error": 0.1}).error is None
    assert COMPLETE.failed("killed").measurements == {}


def test_finishing_leaves_the_earlier_record_as_it_was():
    assert WAITING.state is TrialState.WAITING
    assert WAITING.measurements == {}


def test_a_trial_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        COMPLETE.number = 4
    with pytest.raises(TypeError):
        COMPLETE.measurements["top1_error"] = 0.0
    with pytest.raises(TypeError):
        COMPLETE.provenance["device"] = "gpu"


def test_a_trial_does_not_follow_its_callers_dictionaries():
    measurements, provenance = {"top1_error": 0.1}, {"device": "cpu"}
    trial = WAITING.completed(measurements, provenance)
    measurements["top1_error"] = 0.0
    provenance.clear()
    assert trial == COMPLETE


@pytest.mark.parametrize("trial", [WAITING, COMPLETE, FAILED], ids=lambda trial: trial.state)
@pytest.mark.parametrize("clone", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy])
def test_a_trial_travels_between_processes(trial, clone):
    copied = clone(trial)
    assert copied == trial
    with pytest.raises(TypeError):
        copied.measurements["top1_error"] = 0.0
