"""What the parts of a study found leaves its folder and comes back."""

import json

import pytest


@pytest.fixture
def study_parts(experiment):
    """The script, as a module."""
    return experiment("study_parts")


def write(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def test_parts_come_back_without_checkpoints(study_parts, tmp_path):
    study, file, other = tmp_path / "study", tmp_path / "parts.jsonl", tmp_path / "other"
    write(study / "a" / "result.json", {"test": [0.5]})
    write(study / "b-50%.json", {"share": 0.5})
    write(study / "a" / "step-0000010" / "state.json", {"step": 10})
    assert study_parts.save(study, file) == 2
    write(other / "b-50%.json", {"share": 0.4})  # which was found here, and stays
    assert study_parts.restore(file, other) == 2
    found = {
        str(path.relative_to(other)): json.loads(path.read_text()) for path in other.rglob("*.json")
    }
    assert found == {"a/result.json": {"test": [0.5]}, "b-50%.json": {"share": 0.4}}


def test_nothing_is_put_outside_of_the_folder(study_parts, tmp_path):
    file = tmp_path / "parts.jsonl"
    file.write_text(json.dumps({"part": "../outside.json", "found": {}}) + "\n")
    with pytest.raises(SystemExit, match="would lie outside"):
        study_parts.restore(file, tmp_path / "study")
    assert not (tmp_path / "outside.json").exists()


def test_an_empty_folder_is_no_study(study_parts, tmp_path):
    with pytest.raises(SystemExit, match="no part of a study"):
        study_parts.save(tmp_path, tmp_path / "parts.jsonl")
