"""Settings of tasks: checked where they enter, refused in one sentence."""

from nasbench.errors import RequestError


def check_whole_number(name: str, value: object, least: int, most: int = 10**7) -> None:
    """RequestError unless a setting is a whole number from `least` up, and not absurd."""
    if type(value) is not int or not least <= value <= most:
        bound = f"to {most:,}" if type(value) is int and value > most else "up"
        raise RequestError(f"{name} is a whole number from {least} {bound}, not {value!r}")


def check_flag(name: str, value: object) -> None:
    """RequestError unless a setting is true or false."""
    if not isinstance(value, bool):
        raise RequestError(f"{name} is true or false, not {value!r}")


def check_share(name: str, value: object) -> None:
    """RequestError unless a setting is a number above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise RequestError(f"{name} is a number above 0 and up to 1, not {value!r}")
