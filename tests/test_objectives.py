import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasbench.errors import RequestError
from nasbench.objectives import (
    METRICS,
    Constraint,
    Metric,
    Objective,
    losses_of,
    metric,
    parse_constraints,
    violations_of,
)

finite = st.floats(allow_nan=False, allow_infinity=False)


class TestMetric:
    @pytest.mark.parametrize(
        ("name", "header"),
        [
            ("latency_ms", "latency_ms"),
            ("latency_p90_ms", "latency_p90_ms"),
            ("top1_accuracy", "top1_accuracy [fraction]"),
            ("num_macs", "num_macs [count]"),
            ("cross_entropy", "cross_entropy [nats]"),
        ],
    )
    def test_header_always_shows_the_unit_once(self, name, header):
        assert metric(name).header == header

    def test_what_is_counted_is_known(self):
        counted = {metric.name for metric in METRICS.values() if metric.is_counted}
        assert counted == {"num_parameters", "num_macs", "predicted_latency_ms"}

    def test_each_is_found_by_its_name(self):
        assert all(metric(name).name == name for name in METRICS)

    def test_unknown_name_gets_the_closest_one(self):
        with pytest.raises(RequestError, match="unknown metric 'latency_s'; did you mean 'latenc"):
            metric("latency_s")


class TestObjective:
    @pytest.mark.parametrize(
        ("written", "direction"),
        [
            ("minimize", "minimize"),
            ("min", "minimize"),
            ("maximize", "maximize"),
            ("max", "maximize"),
        ],
    )
    def test_direction_may_be_short(self, written, direction):
        assert Objective("reward", written).direction == direction
        assert Objective("reward", written) == Objective("reward", direction)

    @pytest.mark.parametrize("direction", ["up", "Minimize", "", None])
    def test_another_direction_is_refused(self, direction):
        with pytest.raises(RequestError) as error:
            Objective("reward", direction)
        assert str(error.value) == (
            f"objective 'reward' has direction '{direction}'; possible: minimize, maximize"
        )

    @pytest.mark.parametrize("name", sorted(METRICS))
    def test_of_takes_the_better_direction(self, name):
        assert Objective.of(name) == Objective(name, METRICS[name].direction)

    def test_of_refuses_an_unknown_metric(self):
        with pytest.raises(RequestError, match="unknown metric 'reward'"):
            Objective.of("reward")

    @given(finite, st.sampled_from(["minimize", "maximize"]))
    def test_loss_and_value_round_trip(self, value, direction):
        objective = Objective("reward", direction)
        assert objective.from_loss(objective.to_loss(value)) == value

    @given(finite, finite)
    def test_the_better_value_has_the_smaller_loss(self, a, b):
        minimized, maximized = Objective("reward", "minimize"), Objective("reward", "maximize")
        assert (minimized.to_loss(a) < minimized.to_loss(b)) == (a < b)
        assert (maximized.to_loss(a) < maximized.to_loss(b)) == (a > b)

    def test_losses_keep_the_order_of_objectives_and_trials(self):
        objectives = [Objective.of("top1_accuracy"), Objective.of("latency_ms")]
        measured = [
            {"latency_ms": 3.0, "top1_accuracy": 0.9, "num_macs": 1e6},
            {"latency_ms": 2.0, "top1_accuracy": 0.8},
        ]
        np.testing.assert_array_equal(losses_of(objectives, measured), [[-0.9, 3.0], [-0.8, 2.0]])

    def test_losses_of_no_trial_have_a_column_per_objective(self):
        losses = losses_of([Objective.of("top1_error"), Objective.of("latency_ms")], [])
        assert losses.shape == (0, 2)
        assert losses.dtype == np.float64


READABLE = [
    ("latency <= 3 ms", Constraint("latency_ms", "<=", 3.0)),
    ("latency_ms<=3", Constraint("latency_ms", "<=", 3.0)),
    ("  latency  <=  3ms  ", Constraint("latency_ms", "<=", 3.0)),
    ("latency <= 0.5 s", Constraint("latency_ms", "<=", 500.0)),
    ("latency <= 250us", Constraint("latency_ms", "<=", 0.25)),
    ("latency <= 3 MS", Constraint("latency_ms", "<=", 3.0)),
    ("latency >= .5 ms", Constraint("latency_ms", ">=", 0.5)),
    ("latency <= 1e1 ms", Constraint("latency_ms", "<=", 10.0)),
    ("latency <= 60%", Constraint("latency_ms", "<=", 0.6, is_relative=True)),
    ("latency_p90_ms <= 5 ms", Constraint("latency_p90_ms", "<=", 5.0)),
    ("num_parameters <= 200k", Constraint("num_parameters", "<=", 200e3)),
    ("parameters <= 200 K", Constraint("num_parameters", "<=", 200e3)),
    ("params <= 1.5M", Constraint("num_parameters", "<=", 1.5e6)),
    ("num_parameters <= 1_000_000", Constraint("num_parameters", "<=", 1e6)),
    ("macs <= 2G", Constraint("num_macs", "<=", 2e9)),
    ("macs <= 2 B", Constraint("num_macs", "<=", 2e9)),
    ("num_macs <= 60%", Constraint("num_macs", "<=", 0.6, is_relative=True)),
    ("num_macs >= 12.5 %", Constraint("num_macs", ">=", 0.125, is_relative=True)),
    ("accuracy >= 97%", Constraint("top1_accuracy", ">=", 0.97)),
    ("accuracy >= 0.97", Constraint("top1_accuracy", ">=", 0.97)),
    ("error <= 5%", Constraint("top1_error", "<=", 0.05)),
    ("cross_entropy <= 1.5", Constraint("cross_entropy", "<=", 1.5)),
]

UNREADABLE = [
    ("", "cannot read the constraint ''; write a metric, <= or >=, and a number with its unit"),
    ("latency", "cannot read the constraint 'latency'; write a metric"),
    ("latency < 3 ms", "cannot read the constraint 'latency < 3 ms'; write a metric, <= or >=,"),
    ("latency <= fast", "cannot read the constraint 'latency <= fast'"),
    ("latency <= 3 ms 4", "cannot read the constraint"),
    ("latency <= 3ms, macs <= 1M", "cannot read the constraint"),
    ("latency <= 1__0 ms", "cannot read the constraint 'latency <= 1__0 ms'"),
    ("latency <= 1_ ms", "cannot read the constraint 'latency <= 1_ ms'"),
    ("latency <= nan", "cannot read the constraint"),
    ("latency <= 1e999 ms", "the constraint on 'latency_ms' needs a finite bound, not inf"),
    ("latencies <= 3 ms", "unknown metric 'latencies'; did you mean 'latency_ms'?"),
    ("latency <= 3 kg", "'latency_ms' has no unit 'kg'; possible: ms, s, us"),
    ("latency <= 3 m", "'latency_ms' has no unit 'm'; possible: ms, s, us"),
    ("num_parameters <= 3 ms", "'num_parameters' has no unit 'ms'; possible: k, m, g, b"),
    ("cross_entropy <= 3 bits", "'cross_entropy' has no unit 'bits'; possible: none"),
    ("accuracy >= 97", "'top1_accuracy' is a fraction between 0 and 1; did you mean 97%?"),
    ("accuracy >= 130%", "'top1_accuracy' is a fraction between 0 and 1"),
    ("error <= -0.1", "'top1_error' is a fraction between 0 and 1"),
]


class TestConstraint:
    @pytest.mark.parametrize(("text", "constraint"), READABLE, ids=[text for text, _ in READABLE])
    def test_parse_reads(self, text, constraint):
        parsed = Constraint.parse(text)
        assert parsed.bound == pytest.approx(constraint.bound, rel=1e-15)
        assert (parsed.metric, parsed.operator, parsed.is_relative) == (
            constraint.metric,
            constraint.operator,
            constraint.is_relative,
        )

    @pytest.mark.parametrize(("text", "said"), UNREADABLE, ids=[text for text, _ in UNREADABLE])
    def test_parse_refuses_with_a_sentence(self, text, said):
        with pytest.raises(RequestError) as error:
            Constraint.parse(text)
        assert said in str(error.value)

    @given(st.text(max_size=20) | st.from_regex(r"latency <= [\d_.eE+-]{1,8} ?[a-z%]*"))
    def test_no_text_makes_parse_stumble(self, text):
        with contextlib.suppress(RequestError):
            assert math.isfinite(Constraint.parse(text).bound)

    def test_a_users_metric_is_bounded_in_its_own_unit(self, monkeypatch):
        memory = Metric("peak_memory_bytes", "bytes", "minimize", "peak memory")
        monkeypatch.setitem(METRICS, memory.name, memory)
        bound = Constraint("peak_memory_bytes", "<=", 2048.0)
        assert Constraint.parse("peak_memory_bytes <= 2048") == bound
        assert Constraint.parse("peak_memory_bytes <= 2048 bytes") == bound

    def test_several_are_joined_by_and(self):
        assert parse_constraints(" latency_ms <= 3 and top1_accuracy >= 0.9 ") == [
            Constraint("latency_ms", "<=", 3.0),
            Constraint("top1_accuracy", ">=", 0.9),
        ]

    @pytest.mark.parametrize("text", ["", "latency <= 3 and", "latency <= 3 and and macs <= 1"])
    def test_an_empty_part_is_refused(self, text):
        with pytest.raises(RequestError, match="cannot read the constraint"):
            parse_constraints(text)

    @pytest.mark.parametrize("text", [text for text, _ in READABLE])
    def test_its_own_text_reads_back(self, text):
        constraint = Constraint.parse(text)
        again = Constraint.parse(str(constraint))
        assert again.bound == pytest.approx(constraint.bound, rel=1e-11)
        assert again.is_relative == constraint.is_relative

    @pytest.mark.parametrize(
        ("constraint", "text"),
        [
            (Constraint("num_macs", "<=", 0.125, is_relative=True), "num_macs <= 12.5%"),
            (Constraint("num_macs", "<=", 1_234_567.0), "num_macs <= 1234567"),
            (Constraint("latency_ms", ">=", 0.1 + 0.2), "latency_ms >= 0.3"),
        ],
    )
    def test_its_text_is_what_a_person_would_write(self, constraint, text):
        assert str(constraint) == text

    @pytest.mark.parametrize("operator", ["<", ">", "==", "", "≤"])
    def test_another_operator_is_refused(self, operator):
        with pytest.raises(RequestError) as error:
            Constraint("latency_ms", operator, 3.0)
        assert str(error.value) == (
            f"the constraint on 'latency_ms' has operator '{operator}'; possible: <=, >="
        )

    @pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
    def test_a_bound_is_finite(self, bound):
        with pytest.raises(RequestError, match="needs a finite bound"):
            Constraint("latency_ms", "<=", bound)


class TestViolation:
    @given(finite, finite, st.sampled_from(["<=", ">="]))
    def test_zero_exactly_where_satisfied(self, value, bound, operator):
        satisfied = value <= bound if operator == "<=" else value >= bound
        violation = Constraint("reward", operator, bound).violation(value)
        assert violation >= 0
        assert (violation == 0) == satisfied

    @pytest.mark.parametrize(
        ("operator", "bound", "value", "violation"),
        [
            ("<=", 4.0, 5.0, 0.25),
            ("<=", 4.0, 4.0, 0.0),
            (">=", 4.0, 3.0, 0.25),
            (">=", -4.0, -5.0, 0.25),
            ("<=", 0.0, 3.0, 3.0),
            ("<=", 4.0, math.inf, math.inf),
            ("<=", 4.0, -math.inf, 0.0),
        ],
    )
    def test_relative_to_the_bound(self, operator, bound, value, violation):
        assert Constraint("reward", operator, bound).violation(value) == violation

    @pytest.mark.parametrize("operator", ["<=", ">="])
    def test_what_was_not_measured_is_never_feasible(self, operator):
        assert Constraint("reward", operator, 1.0).violation(math.nan) == math.inf

    def test_a_relative_bound_needs_the_largest_first(self):
        relative = Constraint.parse("num_macs <= 60%")
        with pytest.raises(RequestError, match="'num_macs <= 60%' is relative; resolve it"):
            relative.violation(1.0)
        resolved = relative.resolve({"num_macs": 1000.0, "num_parameters": 5.0})
        assert resolved == Constraint("num_macs", "<=", 600.0)
        assert resolved.violation(600.0) == 0

    def test_an_absolute_bound_resolves_to_itself(self):
        absolute = Constraint.parse("latency <= 3 ms")
        assert absolute.resolve({}) is absolute

    def test_violations_add_up_per_trial(self):
        constraints = [Constraint("latency_ms", "<=", 4.0), Constraint("num_macs", "<=", 10.0)]
        measured = [
            {"latency_ms": 5.0, "num_macs": 15.0},
            {"latency_ms": 1.0, "num_macs": 15.0},
            {"latency_ms": 4.0, "num_macs": 10.0},
            {"latency_ms": math.nan, "num_macs": 10.0},
        ]
        violations = violations_of(constraints, measured)
        np.testing.assert_array_equal(violations, [0.75, 0.5, 0.0, math.inf])
        assert violations.dtype == np.float64

    def test_without_constraints_all_is_feasible(self):
        np.testing.assert_array_equal(violations_of([], [{}, {"latency_ms": 1.0}]), [0.0, 0.0])
        assert violations_of([], []).shape == (0,)
