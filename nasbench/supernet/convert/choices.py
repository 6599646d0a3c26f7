"""Which dimensions of a converted transformer are elastic, chosen by patterns of their names.

    depth                           how many blocks run
    hidden_size                     features of a token
    layer1.num_heads                heads of block 1, of a fixed size
    layer1.feed_forward_width       inner features of its feed-forward block

A pattern has the wildcards of a shell (`layer[1-3].*`), the last one that meets a name decides, and
what no pattern meets is static: it keeps its size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from nasbench.errors import RequestError, closest

Elastic = Mapping[str, Sequence[int]]
"""Pattern of names -> choices, among which is the size that the network has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """The sizes of a transformer whose blocks are all alike."""

    depth: int
    hidden_size: int
    num_heads: int
    feed_forward_width: int

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise RequestError(
                f"{self.num_heads} heads cannot share a hidden size of {self.hidden_size} equally"
            )

    @property
    def head_size(self) -> int:
        """Features of a head."""
        return self.hidden_size // self.num_heads

    def dimensions(self) -> dict[str, int]:
        """Each name of a dimension, with its size."""
        found = {"depth": self.depth, "hidden_size": self.hidden_size}
        for layer in range(1, self.depth + 1):
            found[f"layer{layer}.num_heads"] = self.num_heads
            found[f"layer{layer}.feed_forward_width"] = self.feed_forward_width
        return found


def default_choices(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The proportions of InstaTune's BERT-base (Sridhar et al., 2023).

    Depth from a half up, 6, 8, 10 or 12 twelfths of the heads, and a third, two thirds or all of
    the feed-forward width, per block; the hidden size is static.
    """

    def parts(size: int, shares: Sequence[float]) -> tuple[int, ...]:
        return tuple(sorted({max(1, round(size * share)) for share in shares}))

    return {
        "depth": tuple(range(math.ceil(sizes.depth / 2), sizes.depth + 1)),
        "layer*.num_heads": parts(sizes.num_heads, (1 / 2, 2 / 3, 5 / 6, 1)),
        "layer*.feed_forward_width": parts(sizes.feed_forward_width, (1 / 3, 2 / 3, 1)),
    }


def stack_choices(sizes: Sizes, elastic: Elastic) -> dict[str, Any]:
    """The fields of a `StackSpec` that say what is elastic.

    Raises:
        RequestError: for a pattern that meets nothing, or choices that are none, or lack the size
            that the network has.
    """
    choices: dict[str, tuple[int, ...]] = {
        name: (size,) for name, size in sizes.dimensions().items()
    }
    for pattern, given in elastic.items():
        met = [name for name in choices if fnmatchcase(name, pattern)]
        if not met:
            near = closest(pattern, choices)
            hint = f"; did you mean '{near}'?" if near else ""
            raise RequestError(f"no dimension is named like '{pattern}'{hint}")
        for name in met:
            choices[name] = _checked(name, given, sizes.dimensions()[name])
    if all(len(of) == 1 for of in choices.values()):
        raise RequestError(
            "nothing is elastic: no pattern gives a dimension more than its own size"
        )
    fields: dict[str, Any] = {
        "depths": choices.pop("depth"),
        "hidden_sizes": choices.pop("hidden_size"),
    }
    exceptions = []
    for kind, field in (("num_heads", "num_heads"), ("feed_forward_width", "feed_forward_widths")):
        of_kind = {name: of for name, of in choices.items() if name.endswith(f".{kind}")}
        fields[field] = tuple(sorted({size for of in of_kind.values() for size in of}))
        exceptions += [(name, of) for name, of in of_kind.items() if of != fields[field]]
    return {**fields, "exceptions": tuple(exceptions), "head_size": sizes.head_size}


def _checked(name: str, given: Sequence[int], size: int) -> tuple[int, ...]:
    choices = tuple(sorted(set(given)))
    if not choices or any(type(c) is not int or c < 1 for c in choices) or choices[-1] != size:
        raise RequestError(
            f"the choices of {name} are whole numbers from 1 to the network's own {size}, and that "
            f"is one of them; not {list(given)}"
        )
    return choices
