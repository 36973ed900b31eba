"""The nearest rows of unit vectors, and tracks that a catalogue has twice.

All rows are compared, or by a graph of neighbours where there are many. Twice is a recording that is there
under another name, in another format or bit rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.listening.space import Space
from kerasrep.embedding.listening.tracks import Tracks

#: From this many rows on, a graph (extra `search`) takes over where there are many queries.
GRAPH_ROWS = 200_000
#: For fewer queries, all are compared before a graph is made.
GRAPH_QUERIES = 50_000
#: Of the graph (Malkov and Yashunin 2018): links per row, and candidates while it is made and searched; with
#: 128 a search found .976 of the ten nearest of 200,000 rows (`benchmarks/nearest.py`).
LINKS, CANDIDATES_MADE, CANDIDATES_SEARCHED = 32, 128, 256
#: Similarity of centred track vectors from which on two tracks are called the same recording, where each is
#: the nearest to the other; and without that. Measured by `benchmarks/duplicates.py`.
THRESHOLD, CERTAIN = 0.7, 0.995
#: Lengths of the same recording: formats pad, and players cut silence.
SECONDS_APART, SHARE_APART = 1.0, 0.02
#: Tracks that each is compared with: those nearest to it.
_CANDIDATES = 20
_AT_ONCE = 4096


class NearestRows:
    """Finds rows by cosine.

    Attributes:
        is_exact: Whether all rows are compared.
    """

    def __init__(self, unit: NDArray[np.float32], n_queries: int) -> None:
        """Begin.

        Args:
            unit: float32 [rows, dimension], of length 1 each.
            n_queries: How many there will be, about.
        """
        self._unit = unit
        many = len(unit) >= GRAPH_ROWS and n_queries >= GRAPH_QUERIES
        self.is_exact = not (many and find_spec("usearch"))
        self._finder: Any
        if self.is_exact:
            self._finder = _exact(unit)
        else:
            self._finder = graph(unit.shape[1])
            self._finder.add(np.arange(len(unit)), unit)

    def find(self, queries: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest rows of each query.

        Args:
            queries: float32 [queries, dimension], of length 1 each.
            n: How many.

        Returns:
            Rows [queries, n], the nearest first, and their similarities.
        """
        n = min(n, len(self._unit))
        if self.is_exact:
            distances, rows = self._finder.kneighbors(queries, n)
            return rows, (1 - np.square(distances) / 2).astype(np.float32)
        found = self._finder.search(queries, n)
        return found.keys.astype(np.int64), 1 - found.distances


def _exact(unit: NDArray[np.float32]) -> Any:
    from sklearn.neighbors import NearestNeighbors

    # Of unit vectors the nearest in a straight line are those of the largest cosine.
    return NearestNeighbors(algorithm="brute").fit(unit)


def graph(dimension: int, dtype: str = "f32") -> Any:
    """A graph of neighbours without rows yet, as usearch makes it.

    Args:
        dimension: Values of a row.
        dtype: What it keeps: `f32`, `f16`, or `i8`, a quarter of the memory.
    """
    from usearch.index import Index

    return Index(
        ndim=dimension,
        metric="cos",
        dtype=dtype,
        connectivity=LINKS,
        expansion_add=CANDIDATES_MADE,
        expansion_search=CANDIDATES_SEARCHED,
    )


@dataclass(frozen=True)
class Pair:
    """Two tracks that sound like the same recording.

    Attributes:
        first: As the table names it; the one that comes earlier.
        second: The other.
        similarity: Of their centred vectors.
    """

    first: str
    second: str
    similarity: float


def duplicates(tracks: Tracks, threshold: float = THRESHOLD) -> list[Pair]:
    """Pairs of tracks of nearly equal length whose vectors point the same way, the most similar first.

    Args:
        tracks: Of a table; where rows are segments, their means are compared.
        threshold: Least similarity of two that are each nearest to the other; others need 0.995, or
            this where it is more. Of more copies than 20, not every pair is found.

    Raises:
        DataError: Where an embedding is zero.
    """
    unit = Space(tracks).unit(tracks.vectors)
    nearest = NearestRows(unit, len(unit))
    found: dict[tuple[int, int], float] = {}
    first_of: dict[int, int] = {}
    for start in range(0, len(unit), _AT_ONCE):
        rows, similarities = nearest.find(unit[start : start + _AT_ONCE], _CANDIDATES + 1)
        for one, (some, values) in enumerate(zip(rows.tolist(), similarities.tolist(), strict=True), start):
            others = [(row, value) for row, value in zip(some, values, strict=True) if row != one]
            if others:
                first_of[one] = others[0][0]
            near = (pair for pair in others if pair[1] >= threshold)
            found |= {(min(one, row), max(one, row)): value for row, value in near}
    pairs = [
        Pair(tracks.paths[one], tracks.paths[other], similarity)
        for (one, other), similarity in found.items()
        if (similarity >= CERTAIN or (first_of.get(one), first_of.get(other)) == (other, one))
        and _equally_long(tracks.seconds[one], tracks.seconds[other])
    ]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _equally_long(one: float, other: float) -> bool:
    """Whether lengths in seconds are those of one recording; where they are not known they may be."""
    apart = abs(one - other)
    return bool(np.isnan(apart) or apart <= max(SECONDS_APART, SHARE_APART * max(one, other)))
