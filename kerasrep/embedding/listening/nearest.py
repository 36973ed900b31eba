"""The nearest rows of unit vectors: all compared, or by a graph of neighbours where there are many."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: From this many rows on, a graph (extra `search`) takes over where there are many queries.
GRAPH_ROWS = 200_000
#: For fewer queries, all are compared before a graph is made.
GRAPH_QUERIES = 50_000
#: Of the graph (Malkov and Yashunin 2018): links a row, and candidates while it is made and searched.
LINKS, CANDIDATES_MADE, CANDIDATES_SEARCHED = 32, 128, 128


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
