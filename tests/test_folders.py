"""A folder is replaced as a whole."""

import pytest

from nasbench.folders import replace_folder


def folder_of(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("leftover", [False, True])
def test_the_new_one_takes_the_place_and_nothing_else_is_left(tmp_path, leftover):
    old, new = folder_of(tmp_path / "it", "old"), folder_of(tmp_path / ".new", "new")
    if leftover:  # of a process that was killed
        folder_of(tmp_path / ".replaced-it", "older")
    replace_folder(new, old)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert (old / "file").read_text() == "new"


def test_there_need_be_no_old_one(tmp_path):
    replace_folder(folder_of(tmp_path / ".new", "new"), tmp_path / "it")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_the_old_one_is_whole_until_the_new_one_can_take_its_place(tmp_path):
    folder_of(tmp_path / "it", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / ".missing", tmp_path / "it")
    assert (tmp_path / ".replaced-it" / "file").read_text() == "old"
