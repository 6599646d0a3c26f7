"""Where a sweep lies: a folder of this machine, or a place that all nodes of a cluster see.

    PLACE/
      sweep.yaml  sweep.json  sweep.csv  pareto.csv  pareto.png  hypervolume.png
      members/NAME/     a run's folder each

On this machine, members work in their folders. On a cluster the place may be object storage or a
network file system, where databases are corrupted; so a member works in a folder of its node, and
copies are kept in the place: after every stage, and every minute of a stage. Wherever the member is
started next, it begins with its copy.

A copy is as good as what it is a copy of was when a process was killed: each file is replaced as a
whole, and a list of files, written last, says which belong to it.
"""

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from nasbench.errors import RequestError

_LIST = ".files.json"  # of a copy; begins with a dot, as nothing does that is copied
_COPY_EVERY_S = 60.0


@dataclass(frozen=True)
class Place:
    """A sweep's folder.

    Args:
        location: a path, or a URL that fsspec knows ("s3://bucket/sweep", "file:///mnt/sweep").
        has_copies: whether members work elsewhere, and copies of their folders are kept here.
    """

    location: str
    has_copies: bool

    @classmethod
    def of(cls, location: str, *, on_cluster: bool) -> "Place":
        """The place that a person named; nothing is written.

        Raises:
            RequestError: for a URL that no installed package knows or that holds a password.
        """
        if "://" not in location:
            return cls(str(Path(location).expanduser().absolute()), has_copies=on_cluster)
        if re.match(r"\w+://[^/]*:[^/]*@", location):
            raise RequestError(
                "a sweep's URL holds a password, which files and messages would show; give it to "
                "fsspec by the environment or its configuration"
            )
        place = cls(location.rstrip("/"), has_copies=True)
        try:
            place._files()
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RequestError(f"cannot use '{location}' for a sweep: {reason}") from None
        return place

    def _files(self) -> tuple[Any, str]:
        """The file system, and this place in it."""
        files, path = fsspec.core.url_to_fs(self.location)
        return files, str(path)

    def _at(self, name: str) -> tuple[Any, str]:
        files, path = self._files()
        return files, f"{path}/{name}"

    def __str__(self) -> str:
        here = f"{Path.cwd()}/"
        return self.location.removeprefix(here)

    # -- files ------------------------------------------------------------------------------

    def read(self, name: str) -> str | None:
        """The text of a file; None where there is none."""
        files, path = self._at(name)
        try:
            return str(files.cat_file(path).decode())
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> Any:
        """The content of a JSON file; None where there is none.

        Raises:
            RequestError: if it is damaged.
        """
        text = self.read(name)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            raise RequestError(
                f"'{self}/{name}' is damaged; delete it and give the same command again"
            ) from None

    def write(self, name: str, content: str | bytes) -> None:
        """Replace a file as a whole."""
        data = content.encode() if isinstance(content, str) else content
        files, path = self._at(name)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{path}.partial", data)
        files.mv(f"{path}.partial", path)

    def is_free(self) -> bool:
        """Whether nothing lies here."""
        files, path = self._files()
        files.invalidate_cache()
        return not files.exists(path) or (files.isdir(path) and not files.ls(path))

    def members(self) -> set[str]:
        """Names of the members that were begun."""
        files, path = self._at("members")
        files.invalidate_cache()
        if not files.isdir(path):
            return set()
        return {PurePosixPath(found).name for found in files.ls(path, detail=False)}

    # -- members' folders -------------------------------------------------------------------

    def folder(self, name: str, *, for_reading: Path | None = None) -> Path:
        """A member's folder on this node, as it was kept last.

        Args:
            for_reading: a folder for copies that nobody works in; they lack the supernet.
        """
        if not self.has_copies:
            return Path(self.location) / "members" / name
        folder = (for_reading or self._scratch()) / name
        if for_reading is None:  # what an earlier attempt left on this node may be outdated
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._listed(name):
            if for_reading is None or not file.startswith("supernet/"):
                self._get(f"members/{name}/{file}", folder / file)
        return folder

    def _scratch(self) -> Path:
        """A folder of this node, in which nobody else can have put anything."""
        above = Path(tempfile.gettempdir()) / f"nasbench-{os.getuid()}"
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        if above.is_symlink() or above.stat().st_uid != os.getuid():
            raise RequestError(f"'{above}' belongs to somebody else; set TMPDIR to another folder")
        return above / re.sub(r"\W+", "-", self.location).strip("-")

    def copy_part(self, name: str, part: str, to: Path) -> bool:
        """Copy a folder below a member's into a folder that is made; whether it was there.

        Files of this machine are linked where that is possible, since nobody changes them.
        """
        to.mkdir(parents=True)
        if self.has_copies:
            found = [file for file in self._listed(name) if file.startswith(f"{part}/")]
            for file in found:
                self._get(f"members/{name}/{file}", to / file.removeprefix(f"{part}/"))
            return bool(found)
        source = Path(self.location) / "members" / name / part
        if not source.is_dir():
            return False
        for path in source.iterdir():
            try:
                (to / path.name).hardlink_to(path)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, to / path.name)
        return True

    def _get(self, name: str, to: Path) -> None:
        files, path = self._at(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(to))

    def _listed(self, name: str) -> list[str]:
        listed = self.read_json(f"members/{name}/{_LIST}") or []
        for file in listed:
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                raise RequestError(f"'{self.location}' lists a file outside of it: '{file}'")
        return list(listed)


class Copy:
    """Keeps the copy of a member's folder up to date, where there is one."""

    def __init__(self, place: Place, name: str, folder: Path) -> None:
        self._place, self._name, self._folder = place, name, folder
        self._copied = self._present()  # what was fetched need not be sent back
        self._last = time.monotonic()

    def keep_now_and_then(self) -> None:
        """Copy what changed, if that was long ago. To be called between trials and steps."""
        if self._place.has_copies and time.monotonic() - self._last >= _COPY_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Copy what changed."""
        if not self._place.has_copies:
            return
        present = self._present()
        for file, state in present.items():
            if self._copied.get(file) != state:
                data = (self._folder / file).read_bytes()
                self._place.write(f"members/{self._name}/{file}", data)
        self._place.write(f"members/{self._name}/{_LIST}", json.dumps(sorted(present)))
        for file in set(self._copied) - set(present):
            files, path = self._place._at(f"members/{self._name}/{file}")
            with suppress(FileNotFoundError):
                files.rm_file(path)
        self._copied = present
        self._last = time.monotonic()

    def leave(self) -> None:
        """Copy what changed, and delete the folder that it is a copy of."""
        self.keep()
        if self._place.has_copies:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _present(self) -> dict[str, tuple[int, int]]:
        """File -> size and time of change; what begins with a dot is not finished."""
        found = {}
        for path in self._folder.rglob("*"):
            file = path.relative_to(self._folder)
            if path.is_file() and not any(part.startswith(".") for part in file.parts):
                state = path.stat()
                found[file.as_posix()] = (state.st_size, state.st_mtime_ns)
        return found
