"""Encodings of a cell: a graph whose edges carry operations, as in NAS-Bench-201.

A space is a cell's where its dimensions are named "edge0_1", "edge0_2", "edge1_2", ...: one for
every pair of nodes, the first of which is the input and the last the output. An edge with the
operation "none" carries nothing, and "skip_connect" passes its input on. An edge is *live* when
something flows through it from the input to the output; the others do not change accuracy. It is
*used* when something flows from its end to the output; the others do not change latency where a
compiler removes what nobody reads (it does not know that a live edge's input may be all zeros).

Two cells that compute the same function after relabelling nodes or contracting skips have the
same paths, so features of paths are one for all of an isomorphism class.

Shape legend: N cells, E edges, P paths from input to output, O operations, F features.
"""

import re
from itertools import chain, combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from nasbench.encoding import Floats, one_hot
from nasbench.errors import RequestError
from nasbench.predictors.encoding import Encoding
from nasbench.space import Genomes, SearchSpace

_NOTHING, _PASS = "none", "skip_connect"


def edges_of(space: SearchSpace) -> list[tuple[int, int]] | None:
    """The nodes that each dimension connects; None where the space is no cell's."""
    matches = [re.fullmatch(r"edge(\d+)_(\d+)", dimension.name) for dimension in space]
    edges = [(int(m[1]), int(m[2])) for m in matches if m]
    num_nodes = 1 + max(chain.from_iterable(edges), default=0)
    is_complete = sorted(edges) == list(combinations(range(num_nodes), 2))
    one_vocabulary = len({dimension.choices for dimension in space}) == 1
    return edges if is_complete and one_vocabulary and len(edges) == len(space) else None


class _CellEncoding(Encoding):
    """What they share: the graph of the space."""

    def __init__(self, space: SearchSpace) -> None:
        edges = edges_of(space)
        if edges is None:
            raise RequestError(
                "a cell's encoding is for spaces with one dimension per pair of nodes, named "
                "edge0_1, edge0_2, edge1_2 and so on, that share their operations"
            )
        self._space = space
        self._edges = edges
        self._operations = [str(choice) for choice in space.dimensions[0].choices]
        self._working = [name for name in self._operations if name not in (_NOTHING, _PASS)]
        self._counted = [name for name in self._operations if name != _NOTHING]
        inner = range(1, max(end for _, end in edges))
        routes = chain.from_iterable(combinations(inner, r) for r in range(len(inner) + 1))
        nodes = [(0, *route, len(inner) + 1) for route in routes]
        self._paths = [[edges.index(edge) for edge in pairwise(n)] for n in nodes]

    @classmethod
    def belongs_to(cls, space: SearchSpace) -> bool:
        """Where each dimension is an edge of one complete graph."""
        return edges_of(space) is not None

    def _are(self, genomes: Genomes, *names: str) -> NDArray[np.bool_]:
        """Which edges carry one of these operations, of shape (N, E)."""
        are: NDArray[np.bool_] = np.array([name in names for name in self._operations])[genomes]
        return are

    def _live_paths(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which paths carry something, of shape (N, P)."""
        carries = ~self._are(genomes, _NOTHING)
        return np.column_stack([carries[:, path].all(axis=1) for path in self._paths])

    def _used(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which edges end at the output or at a node from which something reaches it, (N, E)."""
        carries = ~self._are(genomes, _NOTHING)
        output = max(end for _, end in self._edges)
        reaches = {output: np.ones(len(genomes), dtype=bool)}
        for node in reversed(range(output)):
            onward = [
                carries[:, column] & reaches[end]
                for column, (start, end) in enumerate(self._edges)
                if start == node
            ]
            reaches[node] = np.any(onward, axis=0)
        return np.column_stack([reaches[end] for _, end in self._edges])

    def _counts(self, genomes: Genomes, among: NDArray[np.bool_]) -> Floats:
        """How many edges, of those in `among` (N, E), carry each operation but "none"."""
        carried = [(self._are(genomes, name) & among).sum(axis=1) for name in self._counted]
        return np.column_stack(carried).astype(np.float64)


class CellCounts(_CellEncoding):
    """How often each operation stands in the cell: cells of equal counts are equal here.

    It is all that latency depends on where a device runs operation after operation.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.groups = np.arange(len(self._counted))

    def _encode(self, genomes: Genomes) -> Floats:
        return self._counts(genomes, np.ones(genomes.shape, dtype=bool))


class CellUsedCounts(CellCounts):
    """How often each operation stands on used edges, as a compiler leaves them."""

    def _encode(self, genomes: Genomes) -> Floats:
        return self._counts(genomes, self._used(genomes))


class CellUsed(_CellEncoding):
    """The operations of used edges, by edge and by number."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        by_edge = np.repeat(np.arange(len(space)), space.num_choices)
        by_number = len(space) + np.arange(len(self._counted))
        self.groups = np.concatenate([by_edge, by_number])

    def _encode(self, genomes: Genomes) -> Floats:
        used = self._used(genomes)
        of_edges = one_hot(self._space, genomes) * np.repeat(used, self._space.num_choices, axis=1)
        return np.concatenate([of_edges, self._counts(genomes, used)], axis=1)


class Cell(_CellEncoding):
    """What accuracy depends on: operations by edge, by number, on live edges, along live paths.

    Of the paths: how many are live, and for each working operation (and all convolutions
    together) the most, the fewest and the sum of it on one path; then the path encoding of White
    et al., BANANAS (AAAI 2021), with skips left out and equal paths counted.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        convolutions = tuple(name for name in self._working if "conv" in name)
        self._kinds = [convolutions, *((name,) for name in self._working)]
        longest = max(map(len, self._paths))
        sequences = chain.from_iterable(
            product(self._working, repeat=length) for length in range(longest + 1)
        )
        self._column_of_code = {self._code(sequence): i for i, sequence in enumerate(sequences)}
        by_edge = np.repeat(np.arange(len(space)), space.num_choices)
        single = len(space) + np.arange(2 * len(self._counted) + 1 + 3 * len(self._kinds))
        by_path = np.full(len(self._column_of_code), single[-1] + 1)
        self.groups = np.concatenate([by_edge, single, by_path])

    def _code(self, sequence: tuple[str, ...]) -> int:
        """A number for a sequence of working operations."""
        code = 0
        for name in sequence:
            code = code * (len(self._working) + 1) + self._working.index(name) + 1
        return code

    def _encode(self, genomes: Genomes) -> Floats:
        live = self._live_paths(genomes)
        live_edges = np.zeros(genomes.shape, dtype=bool)
        for path, is_live in zip(self._paths, live.T, strict=True):
            live_edges[:, path] |= is_live[:, None]
        return np.column_stack(
            [
                one_hot(self._space, genomes),
                self._counts(genomes, np.ones_like(live_edges)),
                self._counts(genomes, live_edges),
                live.sum(axis=1),
                *(self._along_paths(genomes, live, kind) for kind in self._kinds),
                self._path_encoding(genomes, live),
            ]
        )

    def _along_paths(
        self, genomes: Genomes, live: NDArray[np.bool_], kind: tuple[str, ...]
    ) -> Floats:
        """Most, fewest and sum of these operations on a live path; -1, -1, 0 without one."""
        are = self._are(genomes, *kind)
        lengths_NP = np.column_stack([are[:, path].sum(axis=1) for path in self._paths])
        most = np.where(live, lengths_NP, -1).max(axis=1)
        fewest = np.where(live, lengths_NP, len(self._space)).min(axis=1)
        total = np.where(live, lengths_NP, 0).sum(axis=1)
        return np.column_stack([most, np.where(live.any(axis=1), fewest, -1), total]).astype(float)

    def _path_encoding(self, genomes: Genomes, live: NDArray[np.bool_]) -> Floats:
        """How many live paths read as each sequence of working operations."""
        found = np.zeros((len(genomes), len(self._column_of_code)))
        digit = np.array([self._code((n,)) if n in self._working else 0 for n in self._operations])
        for path, is_live in zip(self._paths, live.T, strict=True):
            codes = np.zeros(len(genomes), dtype=np.int64)
            for edge in path:
                digits = digit[genomes[:, edge]]
                codes = np.where(digits > 0, codes * (len(self._working) + 1) + digits, codes)
            columns = np.array([self._column_of_code[code] for code in codes.tolist()], dtype=int)
            rows = np.flatnonzero(is_live)
            np.add.at(found, (rows, columns[rows]), 1.0)
        return found
