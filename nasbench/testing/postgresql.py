"""A real PostgreSQL server of one's own, in a folder, for tests that kill it.

It listens on 127.0.0.1 alone and trusts whoever connects. PostgreSQL refuses to run as root, so
there it runs as the user `postgres` whom its packages create.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_PROGRAMS = ("initdb", "postgres", "pg_isready", "psql")
_START_TIMEOUT_S = 60


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / program).exists() for program in _PROGRAMS):
            return folder
    return None


class PostgreSQLServer:
    """A server that is started with the block and gone after it.

    Args:
        programs: what `find_programs` found.
        is_durable: whether a commit waits for the disk; what is killed loses nothing either way,
            as long as the machine lives.
    """

    def __init__(self, programs: Path, *, is_durable: bool = False) -> None:
        self._programs = programs
        self._options = [] if is_durable else ["-cfsync=off", "-cfull_page_writes=off"]
        self._folder = Path(tempfile.mkdtemp(prefix="nasbench-postgresql-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._num_stores = 0
        with socket.socket() as probing:
            probing.bind(("127.0.0.1", 0))
            self.port = int(probing.getsockname()[1])

    def __enter__(self) -> "PostgreSQLServer":
        arguments = ["--username=nasbench", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [self._programs / "initdb", *arguments, f"--pgdata={self._folder / 'data'}"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and delete all that it kept."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_store(self) -> str:
        """A store's URL that nobody used: a schema of its own, which is cheaper than a database."""
        self._num_stores += 1
        name = f"store{self._num_stores}"
        server = ["-h127.0.0.1", f"-p{self.port}", "-Unasbench", "-dpostgres", "-q"]
        subprocess.run([self._programs / "psql", *server, f"-cCREATE SCHEMA {name}"], check=True)
        place = f"nasbench@127.0.0.1:{self.port}/postgres"
        return f"postgresql+psycopg://{place}?options=-csearch_path%3D{name}"

    def start(self) -> None:
        """Start the server, anew after `kill`, and wait until it answers."""
        options = [f"-p{self.port}", "-h127.0.0.1", f"-k{self._folder}", *self._options]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *options],
            user=self._user,
            cwd=self._folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        ready = [str(self._programs / "pg_isready"), "-h127.0.0.1", f"-p{self.port}", "-q"]
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("the PostgreSQL server did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as if the machine lost power."""
        if self._process is None:
            return
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        self._process.kill()
        for child in children:  # each is a session of its own
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process.wait()
        self._process = None
