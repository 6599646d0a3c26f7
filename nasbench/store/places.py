"""Where a store's trials are kept: the URLs there are, and the file systems that suit them.

    sqlite:///runs/digits/study.db            a file on this machine's own disk
    journal:///runs/digits/study.journal      a log file, also on a file system that nodes share
    postgresql+psycopg://user@host/database   a server that all nodes reach

Relative paths have three slashes, absolute ones four.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nasbench.errors import RequestError, unknown_name, without_passwords

_KINDS = ("journal", "postgresql+psycopg", "sqlite")

# What the kernel calls file systems whose files lie on another machine, or may.
_NETWORKED = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs"),
}
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.ntfs-3g", "fuse.bindfs"}


@dataclass(frozen=True)
class Place:
    """A store's URL, understood."""

    url: URL

    @classmethod
    def of(cls, text: str) -> "Place":
        """Read a URL; RequestError for one that no store understands, without its password."""
        try:
            url = make_url(text)
            if "@" in (url.host or ""):
                raise ValueError("an @ in a password is written %40")
        except (ArgumentError, ValueError):
            raise RequestError(
                f"'{without_passwords(text)}' is no store's URL; write "
                "postgresql+psycopg://user@host/database, sqlite:///study.db or "
                "journal:///study.journal, signs such as @ and / of a name as %40 and %2F"
            ) from None
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername not in _KINDS:
            raise unknown_name("kind of store", url.drivername, _KINDS)
        on_disk = url.drivername in ("journal", "sqlite")
        if on_disk and (url.host or url.query or not url.database):
            raise RequestError(
                f"'{without_passwords(text)}' names no file; a file in the working directory is "
                f"{url.drivername}:///NAME"
            )
        return cls(url)

    @property
    def kind(self) -> str:
        """One of journal, postgresql+psycopg and sqlite."""
        return self.url.drivername

    @property
    def path(self) -> Path | None:
        """The file, None where there is a server."""
        on_disk = self.kind in ("journal", "sqlite")
        return Path(str(self.url.database)) if on_disk else None

    @property
    def has_password(self) -> bool:
        """Whether the URL itself holds a secret."""
        return bool(self.url.password) or any("password" in name for name in self.url.query)

    def inside(self, folder: Path) -> "Place":
        """The same place, its file in the folder.

        Raises:
            RequestError: for a file that lies anywhere else.
        """
        if self.path is None:
            return self
        path = folder / self.path
        if self.path.is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
            raise RequestError(
                f"store.url names the file '{self.path}', which is not in the run's folder; "
                f"write {self.kind}:///{self.path.name}"
            )
        return Place(self.url.set(database=str(path)))

    def check(self, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        """Refuse SQLite on a file system that a network carries, where locks fail and files tear.

        Raises:
            RequestError: says which file system, and what to use instead.
        """
        if self.kind != "sqlite" or self.path is None:
            return
        kind = file_system(self.path, mounts)
        if kind in _NETWORKED or (
            kind.startswith("fuse") and kind not in {"fuseblk", *_LOCAL_FUSE}
        ):
            raise RequestError(
                f"'{self.path}' lies on a file system of type {kind}, which can corrupt an SQLite "
                "file that this machine does not hold itself; set store.url to "
                "journal:///study.journal, or to postgresql+psycopg://user@host/database, or "
                "choose a folder on this machine's own disk with --out"
            )


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds a path, as the kernel calls it; "" where unknown.

    Args:
        path: need not exist yet.
        mounts: a table of mounts as described in proc(5).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return ""
    target, found, depth = path.expanduser().resolve(), "", -1
    for line in lines:
        fields, _, after = line.partition(" - ")
        # Spaces and the like stand there as octal numbers.
        mount = Path(fields.split()[4].encode().decode("unicode_escape"))
        if target.is_relative_to(mount) and len(mount.parts) >= depth:
            found, depth = after.split()[0], len(mount.parts)
    return found
