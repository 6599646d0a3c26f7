"""Settings of tasks: checked where they enter, refused in one sentence."""

from nasbench.errors import RequestError


def check_whole_number(name: str, value: object, least: int) -> None:
    """RequestError unless a setting is a whole number from `least` up."""
    if type(value) is not int or value < least:
        raise RequestError(f"{name} is a whole number from {least} up, not {value!r}")


def check_share(name: str, value: object) -> None:
    """RequestError unless a setting is a number above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise RequestError(f"{name} is a number above 0 and up to 1, not {value!r}")
