"""A run whose architectures were measured already: a table in place of a supernet.

The search sees validation data where the table has it, and the report test data; what a device
cannot run is a failed trial. Nothing is trained, and there is no network to export.

Shape legend: N architectures of the table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nasbench.config import RunConfig
from nasbench.errors import RequestError, WorkError, unknown_name
from nasbench.experiment.parts import digest, public_data
from nasbench.experiment.run import Run
from nasbench.objectives import METRICS, Constraint
from nasbench.search import SearchProblem
from nasbench.space import Architecture
from nasbench.tasks.tables import TABLES, MeasuredTable
from nasbench.trials import Trial

_VALIDATION = "validation_"
_MIN_MEASURED = 0.5  # share of a space below which a search would meet gaps most of the time


@dataclass(frozen=True)
class MeasuredArchitectures:
    """A table under some conditions: metrics as a run knows them.

    Args:
        table: what was measured.
        conditions: a data set and a device, say.
        columns: metric -> column of the table, as the search sees it.
        test_columns: those metrics that have another column for the report.
    """

    table: MeasuredTable
    conditions: tuple[str, ...]
    columns: Mapping[str, str]
    test_columns: Mapping[str, str]

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that a trial's measurements depend on."""
        values = {
            metric: self.table.metrics[column].tobytes().hex()
            for metric, column in self.columns.items()
        }
        return digest([self.table.name, self.conditions, self.table.genomes.tolist(), values])

    def problem(self, run: Run) -> SearchProblem:
        """What the search optimizes; counted metrics are looked up for any candidate."""

        def look_up(column: str) -> Callable[[Architecture], float]:
            return lambda architecture: self.table.look_up(architecture, column)

        return SearchProblem(
            self.table.space,
            run.objectives,
            constraints=run.constraints,
            counted={
                metric: look_up(column)
                for metric, column in self.columns.items()
                if METRICS[metric].is_counted and self._is_complete(column)
            },
        )

    def _is_complete(self, column: str) -> bool:
        return len(self.table.rows(column)) == self.table.space.size

    def evaluate(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield each trial finished; FAILED where the device cannot run it or nobody measured."""
        for trial in trials:
            try:
                found = {
                    metric: self.table.look_up(trial.architecture, column)
                    for metric, column in self.columns.items()
                }
            except (WorkError, RequestError) as error:
                yield trial.failed(str(error))
            else:
                conditions = ", ".join(self.conditions)
                yield trial.completed(found, {"table": self.table.name, "conditions": conditions})

    def test(self, architecture: Architecture) -> dict[str, float]:
        """What the report adds to a completed trial."""
        return {
            metric: self.table.look_up(architecture, column)
            for metric, column in self.test_columns.items()
        }


def build_measured(config: RunConfig) -> MeasuredArchitectures:
    """The table that a run searches, from `table.data_dir` or the environment's NASBENCH_DATA.

    Raises:
        RequestError: for an unknown table or condition, missing files, or two conditions that
            give the same metric.
    """
    asked = config.table
    assert asked is not None
    table = TABLES[asked.name](public_data(asked.data_dir))
    known = {name.partition(".")[0] for name in table.metrics if "." in name}
    columns = {name: name for name in table.metrics if "." not in name}
    for condition in asked.conditions:
        if condition not in known:
            raise unknown_name(f"condition of table '{asked.name}'", condition, known)
        for name in table.metrics:
            start, _, metric = name.partition(".")
            if start == condition:
                if metric in columns:
                    other = columns[metric].partition(".")[0]
                    raise RequestError(
                        f"table.conditions has '{other}' and '{condition}', which both give "
                        f"{metric}; name one of them"
                    )
                columns[metric] = name
    test_columns = {
        metric: column for metric, column in columns.items() if _VALIDATION + metric in columns
    }
    seen = {
        metric: columns.get(_VALIDATION + metric, column)
        for metric, column in columns.items()
        if not metric.startswith(_VALIDATION)
    }
    return MeasuredArchitectures(table, asked.conditions, seen, test_columns)


def check_measured(run: Run, measured: MeasuredArchitectures) -> None:
    """See that a table can be searched as asked.

    Raises:
        RequestError: for a metric that it lacks under these conditions, a constraint that is
            relative or that nothing in it meets, or a table of a few architectures of many.
    """
    table = measured.table
    for name in [o.metric for o in run.objectives] + [c.metric for c in run.constraints]:
        if name not in measured.columns:
            raise RequestError(
                f"table '{table.name}' has no '{name}' under the conditions "
                f"{', '.join(measured.conditions) or 'given, which are none'}; possible: "
                f"{', '.join(measured.columns)}"
            )
        num_measured = len(table.rows(measured.columns[name]))
        if num_measured < _MIN_MEASURED * table.space.size:
            raise RequestError(
                f"table '{table.name}' has {name} of {num_measured:,} of "
                f"{table.space.size:,} architectures, too few to search; it serves to judge "
                "predictors"
            )
    for constraint in run.constraints:
        _check_met(constraint, table.metrics[measured.columns[constraint.metric]])


def _check_met(constraint: Constraint, values: np.ndarray) -> None:
    """Refuse a constraint that no measured architecture meets; `values` is of shape (N,)."""
    if constraint.is_relative:
        raise RequestError(
            f"the constraint '{constraint}' is relative to the largest sub-network, which a table "
            "does not have; give an absolute bound"
        )
    best = np.nanmin(values) if constraint.operator == "<=" else np.nanmax(values)
    if constraint.violation(float(best)) > 0:
        raise RequestError(
            f"no architecture of the table has {constraint}; the best has {best:,.6g}"
        )
