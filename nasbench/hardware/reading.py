"""What stands beside a latency: a number, or the reason why there is none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """A number, or why there is none.

    Args:
        value: in the unit of whoever read it.
        reason: empty where there is a value.
    """

    value: float | None
    reason: str = ""
