"""The graph of neighbours (extra `search`) against comparing all rows: recall at 10, seconds, memory.

    python benchmarks/nearest.py --rows 200000 --dimension 512
    python benchmarks/nearest.py --rows 1000000 --dimension 512
    python benchmarks/nearest.py --rows 10000000 --dimension 512 --axes 128 --dtype i8

Rows are made again, block by block, whenever they are needed: of 10 million only the graph is in memory.

Vectors are made: 2,000 directions of kinds of music, each with variation along 40 common
directions, so that neighbours are neither all alike nor at random. With `--vectors TABLE` they are those of a
table, repeated with noise until there are enough.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from kerasrep.embedding.listening.nearest import graph

AT_ONCE = 200_000


def made(n: int, dimension: int, seed: int) -> np.ndarray:
    """float32 [n, dimension], of length 1 each."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 1, (2_000, dimension)).astype(np.float32)
    axes = rng.normal(0, 1, (40, dimension)).astype(np.float32)
    rng = np.random.default_rng(seed)
    found = kinds[rng.integers(len(kinds), size=n)]
    found += rng.normal(0, 0.4, (n, 40)).astype(np.float32) @ axes / 2
    found += rng.normal(0, 0.3, found.shape).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def turned(rows: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    """Rows along other axes, of length 1 each; without axes as they are."""
    if axes is None:
        return rows
    rows = rows @ axes
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def repeated(table: Path, n: int, dimension: int, seed: int) -> np.ndarray:
    """Centred rows of a table, mixed in pairs with a little noise, of length 1 each."""
    from kerasrep.embedding.catalogue.reading import read_embeddings

    rows = read_embeddings(table).embeddings
    rows = rows[:, :dimension] - rows[:, :dimension].mean(axis=0)
    rng = np.random.default_rng(seed)
    one, other = rng.integers(len(rows), size=(2, n))
    share = rng.uniform(0.5, 1, (n, 1)).astype(np.float32)
    found = share * rows[one] + (1 - share) * rows[other]
    found += (rng.normal(0, 0.1, found.shape) * rows.std(axis=0)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def exact(blocks: Iterable[np.ndarray], queries: np.ndarray, n: int) -> np.ndarray:
    """The nearest rows of each query, all compared."""
    best = np.full((len(queries), n), -np.inf, np.float32)
    which = np.zeros((len(queries), n), np.int64)
    start = 0
    for rows in blocks:
        similarities = queries @ rows.T
        some = np.argpartition(-similarities, n, axis=1)[:, :n]
        both = np.concatenate([best, np.take_along_axis(similarities, some, 1)], axis=1)
        kept = np.argsort(-both, axis=1, kind="stable")[:, :n]
        which = np.take_along_axis(np.concatenate([which, some + start], axis=1), kept, 1)
        best = np.take_along_axis(both, kept, 1)
        start += len(rows)
    return which


def main_axes(rows: np.ndarray, n: int) -> np.ndarray:
    """float32 [dimension, n]: the directions along which rows differ most."""
    covariance = np.cov(rows, rowvar=False)
    return np.linalg.eigh(covariance)[1][:, : -n - 1 : -1].astype(np.float32)


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """Share of the true neighbours that are found."""
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)])
    )


def main() -> None:
    """Make vectors and graph, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--axes", type=int, default=0, help="bring the graph's vectors to so many main axes")
    parser.add_argument("--dtype", default="f32", choices=("f32", "f16", "i8"))
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    source = made if arguments.vectors is None else partial(repeated, arguments.vectors)
    width = arguments.dimension

    def blocks(axes: np.ndarray | None = None) -> Iterator[np.ndarray]:
        for start in range(0, arguments.rows, AT_ONCE):
            yield turned(source(min(AT_ONCE, arguments.rows - start), width, start), axes)

    queries = source(arguments.queries, width, arguments.rows)
    begin = time.monotonic()
    true = exact(blocks(), queries, 10)
    seconds = time.monotonic() - begin
    print(f"{arguments.rows:,} rows of {width}; all made and compared in {seconds:.1f} s")
    axes, same = None, true
    if arguments.axes:
        axes = main_axes(next(blocks())[:50_000], arguments.axes)
        queries = turned(queries, axes)
        same = exact(blocks(axes), queries, 10)
        print(f"{arguments.axes} main axes: recall of all compared {recall(same, true):.4f}", flush=True)
    index = graph(queries.shape[1], arguments.dtype)
    built = 0.0
    for rows in blocks(axes):
        begin = time.monotonic()
        index.add(np.arange(len(index), len(index) + len(rows)), rows)
        built += time.monotonic() - begin
    print(
        f"graph, {arguments.dtype}: {built:.0f} s to make, {index.memory_usage / 2**30:.2f} GiB", flush=True
    )
    begin = time.monotonic()
    found = index.search(queries, 10).keys
    print(
        f"{1000 * (time.monotonic() - begin) / len(queries):.2f} ms a query; recall at 10 against the same "
        f"vectors {recall(found, same):.4f}, against the full ones {recall(found, true):.4f}"
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
