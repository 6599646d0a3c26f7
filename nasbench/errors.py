"""What can go wrong, said in one sentence: what was given, what is possible, the likely intention.

Two kinds matter to whoever catches them: the request was wrong (nothing was written or changed,
exit code 2), or the work failed although the request was right (exit code 1).
"""

import difflib
import re
from collections.abc import Iterable


class NasbenchError(Exception):
    """Base of every error that nasbench raises on purpose; its text is for a person."""


class RequestError(NasbenchError, ValueError):
    """What was asked for cannot be done as asked; nothing was written or changed."""


class WorkError(NasbenchError, RuntimeError):
    """The request was right but the work failed; what was finished before is kept."""


class MissingExtraError(RequestError):
    """An optional package is needed that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(package, extra, purpose)  # what pickling rebuilds the error from

    def __str__(self) -> str:
        package, extra, purpose = self.args
        return (
            f"{purpose} needs the package '{package}', which is not installed; "
            f"install it with: pip install 'nasbench[{extra}]'"
        )


def closest(given: str, possible: Iterable[str]) -> str | None:
    """The possible name that a person who wrote `given` most likely meant, or None."""
    matches = difflib.get_close_matches(given, sorted(possible), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, given: object, possible: Iterable[str]) -> RequestError:
    """The error for a name that does not exist, with its closest neighbor and all that do exist."""
    names = sorted(possible)
    near = closest(str(given), names)
    hint = f"did you mean '{near}'? " if near else ""
    return RequestError(f"unknown {kind} '{given}'; {hint}possible: {', '.join(names) or 'none'}")


def without_passwords(text: str) -> str:
    """The text with three stars for each password of a URL in it."""
    text = re.sub(r"(://[^\s:/@'\"]*:)[^\s'\"]*@", r"\1***@", text)
    return re.sub(r"([?&]\w*password=)[^\s&'\"]*", r"\1***", text)
