"""Which dimensions are elastic, and with which choices."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nasbench.errors import RequestError
from nasbench.supernet.layers import round_channels

KINDS = ("width", "num_heads", "kernel_size", "depth")
"""What a dimension's name ends with."""

DEFAULT_RATIOS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The choices of the dimensions that a pattern names; of several rules the last one counts.

    Args:
        pattern: of a dimension's name, such as "layer1.*.width" or "*.kernel_size"; `*` stands
            for anything. A width is also found by the name of any other layer that writes it.
        ratios: choices as shares of the largest, in round numbers.
        choices: choices themselves; those that a dimension cannot have are left out of it.
        is_elastic: False leaves the dimension at its largest.
    """

    pattern: str
    ratios: tuple[float, ...] | None = None
    choices: tuple[int, ...] | None = None
    is_elastic: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise RequestError(
                f"a rule's pattern is a text such as '*.width', not {self.pattern!r}"
            )
        if self.ratios is not None and self.choices is not None:
            raise RequestError(f"the rule for '{self.pattern}' has ratios and choices; give one")
        for name in ("ratios", "choices"):
            values = getattr(self, name)
            if values is None:
                continue
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise RequestError(
                    f"{name} of the rule for '{self.pattern}' are numbers, not {values!r}"
                )
            object.__setattr__(self, name, tuple(values))
        if any(not isinstance(r, int | float) or not 0 < r <= 1 for r in self.ratios or ()):
            raise RequestError(
                f"ratios of the rule for '{self.pattern}' are above 0 and at most 1, "
                f"not {self.ratios}"
            )
        if any(type(choice) is not int or choice < 0 for choice in self.choices or ()):
            raise RequestError(
                f"choices of the rule for '{self.pattern}' are whole numbers, not {self.choices}"
            )

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the pattern names one of these."""
        return any(fnmatchcase(name, self.pattern) for name in names)


def read_rules(rules: Sequence[object]) -> tuple[Rule, ...]:
    """Rules as they stand in a YAML, or as they are.

    Raises:
        RequestError: for a setting that a rule does not have, or an impossible value.
    """
    read = []
    for rule in rules:
        if isinstance(rule, Rule):
            read.append(rule)
            continue
        try:
            read.append(Rule(**rule))  # type: ignore[arg-type]
        except TypeError:
            raise RequestError(
                f"a rule has a pattern, and ratios, choices or is_elastic; not {rule!r}"
            ) from None
    return tuple(read)


class Choices:
    """The choices of each dimension, by the rules; remembers which rules named one.

    Args:
        rules: the later ones before the earlier ones.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._used: set[Rule] = set()

    def of(
        self, names: Sequence[str], possible: Sequence[int], *, unit: int = 1
    ) -> tuple[int, ...]:
        """The choices of a dimension, rising, with the largest; only that where it is static.

        Args:
            names: its own, and others that it may be found by.
            possible: all it could be, rising.
            unit: widths are multiples of it.
        """
        matching = [rule for rule in self._rules if rule.matches(names)]
        self._used.update(matching)
        rule = matching[-1] if matching else Rule(pattern="*")
        largest, kind = possible[-1], names[0].rpartition(".")[2]
        if not rule.is_elastic:
            return (largest,)
        if rule.choices is not None:
            found = {choice for choice in rule.choices if choice in possible}
        elif rule.ratios is not None or kind in ("width", "num_heads"):
            ratios = rule.ratios or DEFAULT_RATIOS
            found = {_rounded(ratio, largest, unit) for ratio in ratios} & set(possible)
        else:
            found = set(possible)
            if kind == "kernel_size":
                found.discard(1)  # a point of a kernel is seldom worth it; a rule can ask for it
        return tuple(sorted(found | {largest}))

    def check_all_used(self, names: Sequence[str]) -> None:
        """RequestError for a rule that named nothing: most likely a pattern with a typing error."""
        for rule in self._rules:
            if rule not in self._used:
                some = ", ".join(names[:6])
                raise RequestError(
                    f"the rule for '{rule.pattern}' names no dimension; there are {some}"
                    + (", ..." if len(names) > 6 else "")
                )


def _rounded(ratio: float, largest: int, unit: int) -> int:
    """The share of the largest in round numbers: up to an eighth of it, of 8 at most."""
    if unit > 1:
        return max(unit, round(ratio * largest / unit) * unit)
    divisor = max(d for d in (1, 2, 4, 8) if d == 1 or 4 * d <= largest)
    return min(largest, round_channels(ratio * largest, divisor))
