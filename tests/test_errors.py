import pickle

import pytest

from nasbench.errors import (
    MissingExtraError,
    NasbenchError,
    RequestError,
    WorkError,
    closest,
    unknown_name,
)

MISSING = MissingExtraError("onnx", "onnx", "exporting to ONNX")


def test_every_error_is_one_family_and_the_builtin_kind_that_one_expects():
    assert issubclass(RequestError, NasbenchError)
    assert issubclass(RequestError, ValueError)
    assert issubclass(WorkError, NasbenchError)
    assert issubclass(WorkError, RuntimeError)
    assert not issubclass(WorkError, RequestError)


def test_missing_extra_says_what_to_install():
    assert isinstance(MISSING, RequestError)
    assert str(MISSING) == (
        "exporting to ONNX needs the package 'onnx', which is not installed; "
        "install it with: pip install 'nasbench[onnx]'"
    )


@pytest.mark.parametrize("error", [RequestError("no"), WorkError("no"), MISSING], ids=repr)
def test_errors_survive_the_way_back_from_another_process(error):
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("num_trial", "num_trials"), ("bach_size", "batch_size"), ("zzz", None), ("", None)],
)
def test_closest_finds_the_likely_intention(given, meant):
    assert closest(given, ["num_trials", "batch_size"]) == meant


def test_closest_of_nothing_is_none():
    assert closest("linas", []) is None


def test_unknown_name_gives_the_closest_and_all_in_order():
    assert str(unknown_name("search algorithm", "lina", {"random", "linas", "nsga2"})) == (
        "unknown search algorithm 'lina'; did you mean 'linas'? possible: linas, nsga2, random"
    )


def test_unknown_name_without_a_close_one_gives_no_hint():
    assert str(unknown_name("task", "zzz", ["digits"])) == "unknown task 'zzz'; possible: digits"
    assert str(unknown_name("task", "zzz", [])) == "unknown task 'zzz'; possible: none"


def test_unknown_name_takes_what_is_no_text():
    assert str(unknown_name("task", 3, ["digits"])) == "unknown task '3'; possible: digits"
