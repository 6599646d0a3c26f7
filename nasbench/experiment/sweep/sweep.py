"""All members of a sweep: who is done, who is left, and doing those on Ray Tune."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
import yaml

from nasbench.config import ResourcesConfig, differing_settings, parse_config, parse_yaml
from nasbench.distributed.clock import check_device
from nasbench.distributed.cluster import LATENCY_SLOT, check_address, connected
from nasbench.distributed.sweep import EarlyStopping, Event, TuneSettings, run_on_tune
from nasbench.errors import RequestError
from nasbench.experiment.checks import check
from nasbench.experiment.parts import needs_latency
from nasbench.experiment.run import Run
from nasbench.experiment.sweep.member import MemberWork, checkpoint_of
from nasbench.experiment.sweep.place import Place
from nasbench.experiment.sweep.settings import Member, Sweep


@dataclass(frozen=True)
class Status:
    """Where a member is: "waiting", "running", "finished", "stopped" (early) or "failed".

    Args:
        reason: why it was stopped or failed.
        text: what it is doing while it runs.
    """

    state: str = "waiting"
    reason: str = ""
    text: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the same command leaves it as it is."""
        return self.state in ("finished", "stopped")


Show = Callable[[str, Status], None]


def check_sweep(sweep: Sweep, place: Place, address: str | None) -> None:
    """See that a sweep can be done as asked; write nothing.

    Raises:
        RequestError: the first thing that is wrong, with the member that it is wrong for.
    """
    if address is not None:
        check_address(address)
    elif sweep.config.members.gpus and not torch.cuda.is_available():
        raise RequestError(
            f"members.gpus={sweep.config.members.gpus:g}, but this machine has no GPU; name a "
            "cluster with --address"
        )
    _check_place(sweep, place)
    checked = set()
    for member in sweep.members:
        config = member.config
        identity = config.identity() | config.export.model_dump(mode="json") | {"seed": 0}
        key = json.dumps(identity, sort_keys=True)
        if key in checked:  # what is wrong with a member is wrong with it under every seed
            continue
        checked.add(key)
        resources = config.resources.model_copy(update={"address": address})
        folder = Path(tempfile.gettempdir()) if place.has_copies else Path(place.location)
        run = Run(
            folder / "members" / member.name, config.model_copy(update={"resources": resources})
        )
        try:
            check(run)
        except RequestError as error:
            raise RequestError(f"member '{member.name}': {error}") from error


def _check_place(sweep: Sweep, place: Place) -> None:
    """Refuse a place that holds something else, or members that were asked otherwise."""
    if place.read("config.yaml") is not None:
        raise RequestError(f"'{place}' holds a run, not a sweep; choose another folder with --out")
    is_sweep = place.read("sweep.yaml") is not None
    if not is_sweep and not place.is_free():
        raise RequestError(f"'{place}' holds something that is no sweep; choose another with --out")
    members = {member.name: member for member in sweep.members}
    for name in sorted(place.members()):
        if name not in members:
            raise RequestError(
                f"'{place}' holds another sweep: it has a member '{name}'; choose another folder "
                "with --out"
            )
        text, path = (
            place.read(f"members/{name}/config.yaml"),
            f"{place}/members/{name}/config.yaml",
        )
        if text is None:
            continue
        found = parse_config(parse_yaml(text, path), source=path)
        different = differing_settings(found.identity(), members[name].config.identity())
        if different:
            raise RequestError(
                f"'{place}' holds another sweep: its member '{name}' differs in "
                f"{', '.join(different)}; choose another folder with --out"
            )


def read_statuses(sweep: Sweep, place: Place) -> dict[str, Status]:
    """Where each member is, by what lies in the place."""
    noted = (place.read_json("sweep.json") or {}).get("members", {})
    if sweep.config.early_stopping is None:  # what was stopped may go on
        noted = {}
    return {member.name: _status(member, place, noted.get(member.name)) for member in sweep.members}


def _status(member: Member, place: Place, noted: Mapping[str, str] | None) -> Status:
    stopped = {"state": "stopped", "fingerprint": member.config.fingerprint}
    if noted is not None and noted.items() >= stopped.items():
        return Status("stopped", noted.get("reason", ""))
    if not place.has_copies:
        is_finished = Run(place.folder(member.name), member.config).is_finished
    else:
        with tempfile.TemporaryDirectory() as empty:
            run = Run(Path(empty), member.config)
            record = place.read_json(f"members/{member.name}/run.json") or {}
            (run.folder / "run.json").write_text(json.dumps(record))
            is_finished = all(run.is_recorded(stage) for stage in run.stages)
    return Status("finished") if is_finished else Status()


def execute_sweep(sweep: Sweep, place: Place, address: str | None, show: Show) -> dict[str, Status]:
    """Do every member that is not done; one that fails does not stop the others.

    Members whose training is the same train one supernet: theirs is trained by the first of them,
    and they are begun when those that train are done.

    Args:
        show: called with a member's name whenever its status changes.

    Returns:
        The status of every member, by name.

    Raises:
        RequestError: if no cluster answers, or a target device is none of its nodes.
    """
    statuses = read_statuses(sweep, place)
    if all(status.is_final for status in statuses.values()):
        return statuses
    mark = _described(sweep)
    work = MemberWork(place, {member.name: member for member in sweep.members}, mark)
    with connected(_resources(sweep, address)):
        for device in {m.config.latency.device for m in sweep.members if _measures(m)} - {None}:
            check_device(device)
        if place.read("sweep.yaml") != mark:
            place.write("sweep.yaml", mark)

        def note(name: str, status: Status) -> None:
            if status != statuses[name]:
                statuses[name] = status
                if status.state in ("stopped", "failed"):
                    _keep(sweep, place, statuses)
                show(name, status)

        for phase in ("leaders", "followers"):
            names = []
            for member in sweep.members:
                if statuses[member.name].is_final or (member.leader is None) != (
                    phase == "leaders"
                ):
                    continue
                obstacle = _obstacle(member, place, statuses)
                if obstacle is None:
                    names.append(member.name)
                else:
                    note(member.name, obstacle)
            if names:
                key = f"{sweep.config.name}-{phase}-{_key(sweep, place)}"
                settings = _tune_settings(sweep, is_training=phase == "leaders")
                run_on_tune(
                    work, names, key, settings, lambda event: note(event.name, _status_of(event))
                )
    _keep(sweep, place, statuses)
    return statuses


def _obstacle(member: Member, place: Place, statuses: Mapping[str, Status]) -> Status | None:
    """What becomes of a member that has no supernet to take; None where nothing is in its way."""
    if member.leader is None or checkpoint_of(place, member.leader) is not None:
        return None
    leader = statuses[member.leader]
    if leader.state == "stopped":
        return Status("stopped", f"its supernet, that of '{member.leader}', was stopped early")
    return Status("failed", f"its supernet, that of '{member.leader}', is not trained")


def _status_of(event: Event) -> Status:
    told = event.told
    if event.state == "running":
        if "stage" not in told:
            return Status("running")
        where = f"{told['stage']} {told['num_done']} of {told['num_total']}"
        return Status("running", text=f"{where}, {told['text']}" if told["text"] else where)
    if event.state == "stopped":
        epoch, quality = told.get("epoch", 0), told.get("quality", 0.0)
        return Status("stopped", f"early, after epoch {epoch} with a quality of {quality:.4g}")
    return Status("finished") if event.state == "done" else Status("failed", event.reason)


def _described(sweep: Sweep) -> str:
    """The content of `sweep.yaml`: what was asked, and every member's configuration."""
    asked = sweep.config.model_dump(mode="json")
    members = {m.name: yaml.safe_load(m.config.to_yaml()) for m in sweep.members}
    return yaml.safe_dump({"sweep": asked, "members": members}, sort_keys=False)


def _keep(sweep: Sweep, place: Place, statuses: Mapping[str, Status]) -> None:
    """Write `sweep.json`: what the members' own folders do not say."""
    members = {
        member.name: {
            "state": statuses[member.name].state,
            "reason": statuses[member.name].reason,
            "fingerprint": member.config.fingerprint,
        }
        for member in sweep.members
    }
    versions = {package: version(package) for package in ("nasbench", "ray")}
    content = {"versions": versions, "members": members}
    place.write("sweep.json", json.dumps(content, indent=2) + "\n")


def _key(sweep: Sweep, place: Place) -> str:
    """Of this sweep in this place, for this request."""
    text = f"{place.location} {sweep.fingerprint}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tune_settings(sweep: Sweep, *, is_training: bool) -> TuneSettings:
    asked, members = sweep.config.early_stopping, sweep.config.members
    early_stopping = None
    if asked is not None and is_training:
        early_stopping = EarlyStopping(
            grace_epochs=asked.grace_epochs,
            reduction_factor=asked.reduction_factor,
            max_epochs=max(member.config.training.epochs for member in sweep.members),
        )
    return TuneSettings(
        bundles={member.name: _bundles(sweep, member) for member in sweep.members},
        max_concurrent=members.max_concurrent,
        max_retries=members.max_retries,
        early_stopping=early_stopping,
    )


def _bundles(sweep: Sweep, member: Member) -> list[dict[str, float]]:
    """What a member occupies: its process, then those that evaluate and measure for it.

    Where any member measures latency, each holds the latency slot of its node while it is under
    way, so that nothing of the sweep runs beside a measurement.
    """
    asked, config = sweep.config.members, member.config
    own: dict[str, float] = {"CPU": asked.cpus}
    if asked.gpus:
        own["GPU"] = asked.gpus
    workers = [{"CPU": float(config.resources.cpus_per_worker)}] * asked.workers
    if not any(_measures(each) for each in sweep.members):
        return [own, *workers]
    if config.latency.device is not None:
        return [own, *workers, {f"device:{config.latency.device}": 1.0}]
    if workers:  # then a further process has the clock
        return [own, *workers, {LATENCY_SLOT: 1.0}]
    return [{**own, LATENCY_SLOT: 1.0}]


def _measures(member: Member) -> bool:
    """Whether a member needs a clock."""
    return member.config.table is None and needs_latency(Run(Path(), member.config))


def _resources(sweep: Sweep, address: str | None) -> ResourcesConfig:
    """So that Ray, where it starts here, has room for a member."""
    needed = [sum(b.get("CPU", 0) for b in _bundles(sweep, m)) for m in sweep.members]
    return ResourcesConfig(workers=1, cpus_per_worker=int(max(needed)), address=address)
