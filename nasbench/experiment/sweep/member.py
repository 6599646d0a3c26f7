"""One member of a sweep, done in a process of its own."""

import re
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from nasbench.distributed.sweep import Tell
from nasbench.errors import NasbenchError, RequestError
from nasbench.experiment.run import Run
from nasbench.experiment.stages import execute
from nasbench.experiment.sweep.place import Copy, Place
from nasbench.experiment.sweep.settings import Member
from nasbench.folders import replace_folder

_PATIENCE_S = 60.0  # with a process that was killed and may take a moment to go


class ToldProgress:
    """Progress of a run's stages, told to whoever drives the sweep."""

    def __init__(self, tell: Tell, copy: Copy) -> None:
        self._tell, self._copy = tell, copy
        self._stage, self._total, self._done = "", 0, 0

    def start(self, stage: str, total: int, done: int) -> None:
        """Tell that a stage begins; the one before it is kept."""
        self._copy.keep()
        self._stage, self._total, self._done = stage, total, done
        self._tell.progress(stage, done, total)

    def advance(self, text: str) -> None:
        """Tell where things are."""
        self._done += 1
        self._copy.keep_now_and_then()
        self._tell.progress(self._stage, self._done, self._total, text)

    def looked(self, epoch: int, quality: float) -> None:
        """Tell how good the supernet is; this call may end the training."""
        self._tell.quality(epoch, quality)


@dataclass(frozen=True)
class MemberWork:
    """What is done for each member's name.

    Args:
        mark: the text of the sweep's `sweep.yaml`, which a node that sees the place finds there.
    """

    place: Place
    members: Mapping[str, Member]
    mark: str

    def __call__(self, name: str, tell: Tell) -> str | None:
        """Do all stages that are left; returns why that failed."""
        try:
            if self.place.read("sweep.yaml") != self.mark:
                return (
                    f"its node does not see '{self.place}'; name a folder or URL that all nodes "
                    "see with --out"
                )
            self._execute(self.members[name], tell)
        except (NasbenchError, OSError) as error:
            return " ".join(str(error).split())
        except Exception as error:  # one member does not stop the others
            traceback.print_exc()  # in the log of its process
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None

    def _execute(self, member: Member, tell: Tell) -> None:
        run = Run(self.place.folder(member.name), member.config)
        copy = Copy(self.place, member.name, run.folder)
        run.folder.mkdir(parents=True, exist_ok=True)
        _wait_until_free(run)
        try:
            run.create()
            if member.leader is not None and not run.is_done("train"):
                self._take_supernet(run, member.leader)
            execute(run, run.stages, ToldProgress(tell, copy))
        finally:
            copy.leave()

    def _take_supernet(self, run: Run, leader: str) -> None:
        """Put the leader's trained supernet, whose training is the same, into the run."""
        checkpoint = checkpoint_of(self.place, leader)
        partial = run.folder / ".supernet.partial"
        shutil.rmtree(partial, ignore_errors=True)
        part = f"supernet/checkpoints/{checkpoint}"
        if checkpoint is None or not self.place.copy_part(leader, part, partial):
            raise RequestError(f"its supernet, that of '{leader}', is not trained")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        replace_folder(partial, run.checkpoints / checkpoint)


def checkpoint_of(place: Place, name: str) -> str | None:
    """The name of a member's last checkpoint; None where its supernet is not trained."""
    record = place.read_json(f"members/{name}/run.json") or {}
    found = str(record.get("stages", {}).get("train", {}).get("checkpoint"))
    return found if re.fullmatch(r"step-\d+", found) else None


def _wait_until_free(run: Run) -> None:
    """Wait for a process that works on the run; RequestError if it goes on with that."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with run.exclusive():
                return
        except RequestError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
