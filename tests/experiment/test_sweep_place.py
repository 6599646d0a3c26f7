"""Where a sweep lies: copies of members' folders that survive a kill at any file."""

import json
import os

import pytest

from nasbench.errors import RequestError
from nasbench.experiment.sweep.place import Copy, Place


@pytest.fixture
def place(tmp_path):
    """A place of copies."""
    return Place.of(f"file://{tmp_path}/shared", on_cluster=False)


@pytest.fixture
def folder(place, tmp_path, monkeypatch):
    """Begin with a member's folder on a node whose temporary folder is ours."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    return lambda: place.folder("a")


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_another_node_begins_with_what_was_kept(place, folder):
    here = folder()
    copy = Copy(place, "a", here)
    write(here, config="1", supernet__checkpoints__step="weights")
    copy.keep()
    write(here, config="2", later="3", **{".unfinished": "4"})
    (here / "supernet/checkpoints/step").unlink()
    copy.keep()
    assert content(folder()) == {"config": "2", "later": "3"}


def test_what_was_not_kept_is_forgotten(place, folder):
    here = folder()
    copy = Copy(place, "a", here)
    write(here, config="1")
    copy.keep()
    write(here, config="killed before it was kept", more="so was this")
    assert content(folder()) == {"config": "1"}


def test_a_copy_that_was_cut_short_is_the_one_before(place, folder, monkeypatch):
    """Whichever write is the last one, no file is half there and none is there too early."""
    before, after = {"config": "1"}, {"config": "2", "step/state": "s", "step/weights": "w"}
    for num_written in range(4):
        here = folder()
        copy = Copy(place, "a", here)
        for path in list(here.rglob("*")):
            if path.is_file():
                path.unlink()
        write(here, config="1")
        copy.keep()
        write(here, config="2", step__weights="w", step__state="s")
        done = []

        def cut(self, name, data, done=done, num_written=num_written, whole=Place.write):
            if len(done) == num_written:
                raise KeyboardInterrupt
            done.append(name)
            whole(self, name, data)

        with monkeypatch.context() as patch:
            patch.setattr(Place, "write", cut)
            with pytest.raises(KeyboardInterrupt):
                copy.keep()
        found = content(folder())
        assert set(found) == set(before), "the list is written last"
        assert found["config"] in (before["config"], after["config"])
        copy = Copy(place, "a", here)
        copy.keep()


def test_a_part_is_copied_or_linked(place, folder, tmp_path):
    here = folder()
    copy = Copy(place, "a", here)
    write(here, supernet__checkpoints__step__weights="w", supernet__checkpoints__step__state="s")
    copy.keep()
    assert place.copy_part("a", "supernet/checkpoints/step", tmp_path / "of_copy")
    local = Place.of(str(tmp_path / "local"), on_cluster=False)
    write(local.folder("a"), supernet__checkpoints__step__weights="w")
    assert local.copy_part("a", "supernet/checkpoints/step", tmp_path / "of_local")
    assert content(tmp_path / "of_copy") == {"weights": "w", "state": "s"}
    assert content(tmp_path / "of_local") == {"weights": "w"}
    assert not place.copy_part("b", "supernet/checkpoints/step", tmp_path / "none")
    assert not local.copy_part("b", "supernet/checkpoints/step", tmp_path / "none_either")


def test_for_reading_the_supernet_stays_where_it_is(place, folder, tmp_path):
    here = folder()
    write(here, config="1", supernet__checkpoints__step="weights")
    copy = Copy(place, "a", here)
    copy._copied = {}
    copy.keep()
    assert content(place.folder("a", for_reading=tmp_path / "read")) == {"config": "1"}
    assert place.members() == {"a"}


@pytest.mark.parametrize("file", ["../../escaped", "/tmp/escaped", "a/../../b"])
def test_a_list_cannot_reach_out_of_the_folder(place, folder, file):
    place.write("members/a/.files.json", json.dumps([file]))
    with pytest.raises(RequestError, match="lists a file outside of it"):
        folder()


def test_a_damaged_file_is_named(place):
    place.write("sweep.json", "{")
    with pytest.raises(RequestError, match=r"shared/sweep.json' is damaged"):
        place.read_json("sweep.json")
    assert place.read_json("none.json") is None


def test_a_folder_for_copies_that_somebody_else_made_is_refused(place, folder, tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / f"nasbench-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="belongs to somebody else"):
        folder()


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("nowhere://bucket/sweep", "cannot use 'nowhere://bucket/sweep' for a sweep"),
        ("ftp://me:secret@host/sweep", "holds a password"),
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(location, sentence):
    with pytest.raises(RequestError, match=sentence) as raised:
        Place.of(location, on_cluster=False)
    assert "secret" not in str(raised.value)


def test_on_this_machine_members_work_in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Place.of("runs/s", on_cluster=False)
    assert place.folder("a") == tmp_path / "runs/s/members/a"
    assert str(place) == "runs/s"
    assert Place.of("runs/s", on_cluster=True).has_copies
