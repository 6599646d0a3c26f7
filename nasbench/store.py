"""The trial store: every trial of a search, kept as an Optuna trial.

A trial is committed when it is proposed and again when it is finished, so a killed search costs
the trials in flight and nothing else. `optuna-dashboard` opens the same storage. Trial numbers
are Optuna's: 0, 1, 2, ... in the order of proposals.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from nasbench.errors import RequestError, WorkError
from nasbench.objectives import Objective
from nasbench.space import Architecture, SearchSpace
from nasbench.trials import Trial, TrialState

_STATES = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.PRUNED: TrialState.FAILED,
}


class TrialStore:
    """The trials of one search.

    Args:
        url: any SQLAlchemy URL ("sqlite:///runs/digits/study.db"), or None to keep them in
            memory only.
        space: the search space that the trials belong to.
        objectives: become the study's values, in this order and in their natural sign.
        name: the study's name within the storage.
        fingerprint: what else trials must share to be comparable (the supernet, the data).

    Raises:
        RequestError: if the storage holds trials of another space, supernet or objective set.
        WorkError: if the storage cannot be opened.
    """

    def __init__(
        self,
        url: str | None,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        name: str = "search",
        fingerprint: str = "",
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self._distributions = {d.name: CategoricalDistribution(d.choices) for d in space}
        self._ids: dict[int, int] = {}
        with _readable_errors(url):
            self._storage: BaseStorage = InMemoryStorage() if url is None else RDBStorage(url)
            self._study_id = self._open_study(name, fingerprint)

    def _open_study(self, name: str, fingerprint: str) -> int:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=[objective.direction for objective in self.objectives],
            load_if_exists=True,
        )
        described = {
            "space": self.space.fingerprint,
            "objectives": [f"{o.direction} {o.metric}" for o in self.objectives],
            "fingerprint": fingerprint,
        }
        found = study.user_attrs.get("nasbench")
        if found is None:
            with warnings.catch_warnings():  # names for the dashboard; experimental in Optuna
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([objective.metric for objective in self.objectives])
            study.set_user_attr("nasbench", described)
        elif found != described:
            different = [key for key in described if found.get(key) != described[key]]
            raise RequestError(
                f"the store holds trials of another search (different {', '.join(different)}); "
                "trials of two searches are never mixed, so use another output folder"
            )
        return int(self._storage.get_study_id_from_name(name))

    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        with _readable_errors():
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._ids.update({trial.number: trial._trial_id for trial in found})
        return sorted((self._read(trial) for trial in found), key=lambda trial: trial.number)

    def propose(self, architectures: Sequence[Architecture]) -> list[Trial]:
        """Commit new trials, RUNNING, in the given order."""
        return [self._propose(architecture) for architecture in architectures]

    def _propose(self, architecture: Architecture) -> Trial:
        genome = self.space.to_genome(architecture)
        active = self.space.active(genome[None])[0]
        names = [d.name for d, is_active in zip(self.space, active, strict=True) if is_active]
        template = create_trial(
            state=OptunaState.RUNNING,
            params={name: architecture[name] for name in names},
            distributions={name: self._distributions[name] for name in names},
            user_attrs={"genome": genome.tolist(), "architecture_id": architecture.id},
        )
        with _readable_errors():
            trial_id = self._storage.create_new_trial(self._study_id, template_trial=template)
            number = self._storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        return Trial(number=number, architecture=architecture, state=TrialState.RUNNING)

    def finish(self, trial: Trial) -> None:
        """Commit a COMPLETE or FAILED trial that was proposed before.

        Raises:
            RequestError: if the trial is not finished, was finished before, or lacks an objective.
        """
        if not trial.state.is_finished:
            raise RequestError(f"trial {trial.number} is {trial.state} and cannot be finished")
        trial_id = self._ids[trial.number]
        values, attributes = self._written(trial)
        state = OptunaState.COMPLETE if trial.state is TrialState.COMPLETE else OptunaState.FAIL
        with _readable_errors():
            try:
                for key, value in attributes.items():
                    self._storage.set_trial_user_attr(trial_id, key, value)
                self._storage.set_trial_state_values(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                raise RequestError(f"trial {trial.number} was finished before") from None

    def _written(self, trial: Trial) -> tuple[list[float] | None, dict[str, Any]]:
        if trial.state is TrialState.FAILED:
            return None, {"error": trial.error}
        missing = [o.metric for o in self.objectives if o.metric not in trial.measurements]
        if missing:
            raise RequestError(f"trial {trial.number} has no value for {', '.join(missing)}")
        attributes: dict[str, Any] = {"measurements": dict(trial.measurements)}
        if trial.provenance:
            attributes["provenance"] = dict(trial.provenance)
        return [trial.measurements[o.metric] for o in self.objectives], attributes

    def _read(self, found: FrozenTrial) -> Trial:
        attributes: Mapping[str, Any] = found.user_attrs
        if "genome" not in attributes:
            raise RequestError(
                f"trial {found.number} was not written by nasbench; a store is for one search alone"
            )
        state = _STATES[found.state]
        is_complete = state is TrialState.COMPLETE
        return Trial(
            number=found.number,
            architecture=self.space.from_genome(attributes["genome"]),
            state=state,
            measurements=attributes["measurements"] if is_complete else {},
            error=attributes.get("error") if state is TrialState.FAILED else None,
            provenance=attributes.get("provenance", {}) if is_complete else {},
        )


@contextmanager
def _readable_errors(url: str | None = None) -> Iterator[None]:
    """Turn what a storage raises into one sentence (without the URL, which may hold a password)."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        if url is not None:
            raise RequestError(f"cannot open the trial store: {reason}") from error
        raise WorkError(
            f"the trial store refused to answer: {reason}; what it had confirmed is kept, and the "
            "same command carries on"
        ) from error
