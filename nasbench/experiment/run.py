"""A run on disk: its configuration, how far it came, and what it found.

    runs/NAME/
      config.yaml   what was asked, complete
      run.json      versions, machine, fingerprint, conditions, and the stages that are done
      supernet/     checkpoints
      shapes/       of a run that learns shapes: its searches, and what each found
      study.db      the trials, unless `store.url` says where else
      earlier.json  those of another search, where it begins from one
      pareto.csv  pareto.png  report.html
      nest/         the bundle of nested sub-networks, with ladder.png beside it
      export/ARCHITECTURE_ID/
      devices/NAME/ what is known of a device: samples, look-up table, predictor

Reading a run imports torch only to extract a network.
"""

import fcntl
import importlib.util
import json
import os
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from nasbench.config import RunConfig, differing_settings, parse_config
from nasbench.errors import RequestError
from nasbench.folders import write_atomically
from nasbench.objectives import (
    Constraint,
    Objective,
    losses_of,
    violations_of,
)
from nasbench.space import SearchSpace
from nasbench.trials import Trial, TrialState

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

    from nasbench.store import TrialStore
    from nasbench.store.places import Place

STAGES = ("train", "search", "report", "export")
_PACKAGES = ("nasbench", "torch", "ray", "pymoo", "optuna", "scikit-learn", "numpy")


class Run:
    """A run's folder.

    Args:
        folder: where it lies; it need not exist yet.
        config: what was asked.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder.expanduser()
        self.config = config

    # -- the folder -------------------------------------------------------------------------

    def check_folder(self) -> None:
        """See that the folder is free, or holds this very run; write nothing.

        Raises:
            RequestError: if it holds another run or something else, or cannot be written.
        """
        if (self.folder / "config.yaml").is_file():
            found = _read_config(self.folder)
            different = differing_settings(found.identity(), self.config.identity())
            if different:
                raise RequestError(
                    f"'{self.folder}' holds a different run (it differs in "
                    f"{', '.join(different)}); choose another folder with --out"
                )
            places = [(c.store.url, c.store.study) for c in (found, self.config)]
            if "search" in self.record and places[0] != places[1]:
                raise RequestError(
                    f"the trials of '{self.folder}' are kept in {_named(found)} and not in "
                    f"{_named(self.config)}; leave store.url and store.study as they were"
                )
        elif self.folder.is_dir() and any(
            not path.name.endswith(".partial") and path.name != "devices"
            for path in self.folder.iterdir()
        ):
            raise RequestError(f"'{self.folder}' holds something that is no run; choose another")
        if any(sign in str(self.folder) for sign in "?#%{}"):
            raise RequestError(f"a run's folder has none of ?#%{{}} in its path: '{self.folder}'")
        self.store_place.check()
        existing = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise RequestError(f"cannot write to '{existing}'; choose another folder with --out")

    def create(self) -> None:
        """Write `config.yaml` and `run.json`, or bring those of an earlier process up to date."""
        self.folder.mkdir(parents=True, exist_ok=True)
        resources = self.config.resources.model_copy(update={"address": None})
        kept = self.config.model_copy(update={"resources": resources})  # clusters come and go
        if not (self.folder / "config.yaml").exists() or _read_config(self.folder) != kept:
            write_atomically(self.folder / "config.yaml", kept.to_yaml())
        facts = {
            "fingerprint": self.config.fingerprint,
            "seed": self.config.seed,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in _PACKAGES},
            "machine": {"platform": platform.platform(), "num_cpus": os.cpu_count()},
        }
        self._update(facts)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody else works on this run during the block; a killed process holds nothing.

        Raises:
            RequestError: if another process does.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(
                    f"another process is working on '{self.folder}'; wait for it, or stop it first"
                ) from None
            yield
        finally:
            os.close(descriptor)

    @property
    def record(self) -> dict[str, Any]:
        """The content of `run.json`; empty before the run was created."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
            if not isinstance(found, dict):
                raise ValueError("no object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            raise RequestError(
                f"'{self.folder / 'run.json'}' is damaged; delete it and run again, which repeats "
                "no training and no trial"
            ) from None
        return found

    def _update(self, facts: Mapping[str, Any]) -> None:
        found = self.record
        if found != {**found, **facts}:
            text = json.dumps({**found, **facts}, indent=2) + "\n"
            write_atomically(self.folder / "run.json", text)

    # -- stages -----------------------------------------------------------------------------

    def _request(self, stage: str) -> dict[str, Any]:
        """What, beside the run's identity, a stage was asked to do; it is done only for that."""
        config = self.config
        if stage == "train":
            return {}
        request: dict[str, Any] = {"num_trials": config.search.num_trials}
        if stage == "export":
            request |= config.export.model_dump(mode="json")
        return request

    def is_done(self, stage: str) -> bool:
        """Whether a stage was finished for what the configuration asks now."""
        if not self.is_recorded(stage):
            return False
        done = self.record["stages"][stage]
        return all((self.folder / part).exists() for part in self._left_by(stage, done))

    def is_recorded(self, stage: str) -> bool:
        """Whether the record says that a stage is done, wherever what it left may lie."""
        done = self.record.get("stages", {}).get(stage)
        return done is not None and done.get("request") == self._request(stage)

    def _left_by(self, stage: str, done: Mapping[str, Any]) -> list[str]:
        """What a finished stage left in the folder; somebody may have deleted it since."""
        if stage == "train":
            return [f"supernet/checkpoints/{done.get('checkpoint')}"]
        if stage == "search":
            path = self.store_place.path
            return [] if path is None else [str(path.relative_to(self.folder))]
        if stage == "report":
            figures = ["pareto.png"] if len(self.objectives) == 2 else []
            return ["pareto.csv", self.page.name, *figures]
        has_export = bool(self.config.export.targets)
        return [f"export/{done['architecture_id']}/manifest.json"] if has_export else []

    @property
    def stages(self) -> tuple[str, ...]:
        """What there is to do, in order: a table is searched and reported."""
        return STAGES if self.config.table is None else ("search", "report")

    def check_stages(self, stages: Iterable[str]) -> None:
        """RequestError for a stage that this kind of run does not have."""
        if not set(stages) <= set(self.stages):
            self.config.network_sections()

    @property
    def is_finished(self) -> bool:
        """Whether every stage is done."""
        return all(self.is_done(stage) for stage in self.stages)

    def mark_done(self, stage: str, *, seconds: float, **facts: Any) -> None:
        """Record that a stage is done; those after it are to be done again."""
        stages = self.record.get("stages", {})
        kept = {s: stages[s] for s in STAGES[: STAGES.index(stage)] if s in stages}
        done = {"request": self._request(stage), "seconds": round(seconds, 1), **facts}
        self._update({"stages": {**kept, stage: done}})

    # -- what it found ----------------------------------------------------------------------

    @property
    def objectives(self) -> list[Objective]:
        """What the search optimizes, in the order of the configuration."""
        return [Objective.of(name) for name in self.config.search.objectives]

    @property
    def constraints(self) -> list[Constraint]:
        """What the search respects, in absolute terms once the search has begun."""
        search = self.record.get("search", {"constraints": self.config.search.constraints})
        return [Constraint.parse(text) for text in search["constraints"]]

    @property
    def checkpoints(self) -> Path:
        """Where training keeps its state."""
        return self.folder / "supernet" / "checkpoints"

    @property
    def bundle(self) -> Path:
        """Where its nested sub-networks lie, once they were made."""
        return self.folder / "nest"

    @property
    def devices(self) -> Path:
        """Where what is known of devices lies."""
        return self.folder / "devices"

    @property
    def page(self) -> Path:
        """The page on which everything it found can be looked at."""
        return self.folder / "report.html"

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were proposed."""
        path = self.store_place.path
        if "search" not in self.record or (path is not None and not path.exists()):
            raise RequestError(f"'{self.folder}' holds no trials yet; run: nasbench search")
        return self.open_store().trials()

    @property
    def space(self) -> SearchSpace:
        """The search space of its trials."""
        if "search" not in self.record:
            raise RequestError(f"'{self.folder}' was not searched yet; run: nasbench search")
        return SearchSpace.from_json(self.record["search"]["space"])

    @property
    def store_place(self) -> "Place":
        """Where the trials are kept.

        Raises:
            RequestError: if `store.url` is none, or names a file outside the folder.
        """
        from nasbench.store.places import Place

        return Place.of(self.config.store.url or "sqlite:///study.db").inside(self.folder)

    def open_store(self) -> "TrialStore":
        """The store of the search that `begin_search` recorded."""
        from nasbench.store import TrialStore

        config, place = self.config, self.store_place
        shared = f"{config.name}-{config.fingerprint}" if place.path is None else "search"
        return TrialStore(
            place.url.render_as_string(hide_password=False),
            self.space,
            self.objectives,
            name=config.store.study or shared,
            fingerprint=self.record["search"]["fingerprint"],
            patience_s=config.store.patience_s,
            heartbeat_s=config.store.heartbeat_s,
        )

    def begin_search(
        self, space: SearchSpace, fingerprint: str, constraints: Sequence[Constraint]
    ) -> None:
        """Record what the trials belong to, so that they can be read without the supernet."""
        found = {
            "space": space.to_json(),
            "fingerprint": fingerprint,
            "constraints": [str(constraint) for constraint in constraints],
        }
        self._update({"search": found})

    @property
    def completed(self) -> list[Trial]:
        """The completed trials that respect every constraint."""
        return self._completed(is_feasible=True)

    @property
    def infeasible(self) -> list[Trial]:
        """The completed trials that break a constraint."""
        return self._completed(is_feasible=False)

    def _completed(self, *, is_feasible: bool) -> list[Trial]:
        completed = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        violations = violations_of(self.constraints, [trial.measurements for trial in completed])
        return [t for t, v in zip(completed, violations, strict=True) if (v == 0) == is_feasible]

    @property
    def losses(self) -> "NDArray[np.float64]":
        """Losses of every finished trial in order, float64 of shape (num_finished, num_objectives).

        Failed and infeasible trials, which are on no front whatever they measured, are infinite.
        """
        finished = [trial for trial in self.trials if trial.state.is_finished]
        constraints = self.constraints
        rows = np.full((len(finished), len(self.objectives)), np.inf)
        for row, trial in enumerate(finished):
            found = [trial.measurements]
            if trial.state is TrialState.COMPLETE and violations_of(constraints, found)[0] == 0:
                rows[row] = losses_of(self.objectives, found)[0]
        return rows

    def pareto_front(self) -> list[Trial]:
        """The non-dominated completed trials, from the best in the first objective to the worst."""
        from nasbench.experiment.choosing import pareto_front

        return pareto_front(self.completed, self.objectives)

    def trials_dataframe(self) -> "pd.DataFrame":
        """One row per trial: number, state, architecture id, metrics, then the architecture."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "number": trial.number,
                    "state": str(trial.state),
                    "architecture_id": trial.architecture.id,
                    **trial.measurements,
                    **trial.architecture,
                }
                for trial in self.trials
            ]
        )

    def select(self, where: str = "", pick: str = "knee") -> Trial:
        """One trial of the front.

        Args:
            where: constraints joined by "and"; with it the best in the first objective of those
                that respect them is taken.
            pick: without `where`: "knee", "best" (in the first objective), "most-accurate",
                "fastest", or an architecture's id, which may be of any completed trial.

        Raises:
            RequestError: if nothing fits.
        """
        from nasbench.experiment.choosing import choose

        front = self.pareto_front()
        if not front:
            raise RequestError(f"no completed trial of '{self.folder}' respects the constraints")
        return choose(front, self.trials, self.objectives, where=where, pick=pick)

    def extract(self, architecture_id: str) -> "nn.Module":
        """The sub-network of a completed trial, as a plain calibrated module in eval mode."""
        from nasbench.experiment.shapes import build_evaluator

        trial = self.select(pick=architecture_id)
        return build_evaluator(self).extract(trial.architecture)

    def __repr__(self) -> str:
        return f"Run('{self.folder}')"


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Open a run's folder; RequestError if it is none."""
    path = Path(folder)
    config = _read_config(path)
    check_code_of_others(config, path)
    return Run(path, config)


def check_code_of_others(config: RunConfig, folder: Path) -> None:
    """Refuse a run's folder that names code which did not come from where the user works.

    A folder may come from a stranger, and a name such as `os:system` in it would be called. A
    plug-in of the user's own lies on the Python path, outside of Python's own folders and of the
    run's.

    Raises:
        RequestError: names the setting's value and how to allow its module.
    """
    allowed = os.environ.get("NASBENCH_PLUGINS", "").split(",")
    for name in _plugins_in(config.model_dump(mode="json")):
        module = name.partition(":")[0].partition(".")[0]
        if module in allowed:
            continue
        try:
            spec = importlib.util.find_spec(module)
        except ValueError:  # a module of this process that no file holds
            spec = None
        if spec is None:
            continue  # nothing that could be imported
        origin = Path(spec.origin or next(iter(spec.submodule_search_locations or ["/"])))
        others = [Path(place) for place in sysconfig.get_paths().values()]
        if not origin.is_absolute() or any(
            origin.resolve().is_relative_to(place.resolve()) for place in (*others, folder)
        ):
            raise RequestError(
                f"'{folder}' names the code '{name}', which is neither nasbench's nor a file of "
                f"yours; if you trust it, set NASBENCH_PLUGINS={module}"
            )


def _plugins_in(value: object) -> Iterator[str]:
    """All texts of the form `module:object` within plain values."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*:\w+", value):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _plugins_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _plugins_in(part)


def _named(config: RunConfig) -> str:
    """Where a configuration keeps trials, for a sentence."""
    place = f"'{config.store.url}'" if config.store.url else "'study.db'"
    return f"{place}, study '{config.store.study}'" if config.store.study else place


def _read_config(folder: Path) -> RunConfig:
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"'{folder}' is no run: it has no config.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise RequestError(f"cannot read '{path}': {problem}") from None
    return parse_config(content or {}, source=str(path))
