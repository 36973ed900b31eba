"""95% intervals of a mean by bootstrap over what was tested.

Units that are not independent of each other make one block and are resampled together: the items of a group
(a song, an artist, versions of one tune), or one item that was tested several times. The interval says how
much the score would vary with other test items, the fitted probes given. It does not say how much it would
vary with other training items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
CONFIDENCE = 0.95

#: Random numbers that are held in memory at once.
CHUNK_VALUES = 4_000_000


def blocks_of(unit_ids: NDArray[np.str_], unit_groups: NDArray[np.str_] | None) -> NDArray[np.intp]:
    """Number of the block of each unit: its group, or itself where there are no groups; intp [units]."""
    names = unit_ids if unit_groups is None else unit_groups
    numbers: NDArray[np.intp] = np.unique(names, return_inverse=True)[1]
    return numbers


def chunks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Numbers of rows that sum to `n_rows`, each so small that its matrix fits in `CHUNK_VALUES`."""
    step = max(1, CHUNK_VALUES // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield min(step, n_rows - start)


def mean_interval(
    values: NDArray[np.float64],
    blocks: NDArray[np.intp],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    weights: NDArray[np.float64] | None = None,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (Efron and Tibshirani 1993, chapters 8 and 13).

    Blocks are drawn with replacement, as many as there are; a resample's mean is over its units, so that
    large blocks weigh more. With fewer than about 20 blocks the interval is too narrow, and where all values
    are the same it has no width.

    Args:
        values: float64 [units], at least one.
        blocks: intp [units] of `blocks_of`.
        seed: Of the resampling.
        n_resamples: How often is drawn.
        weights: float64 [units], above 0; of all units the same by default.

    Returns:
        Lower and upper end.
    """
    sums = np.bincount(blocks, weights=values if weights is None else values * weights)
    sizes = np.bincount(blocks, weights).astype(np.float64)
    equal = bool((sizes == sizes[0]).all())
    rng = np.random.default_rng(seed)
    means = []
    for n_rows in chunks(n_resamples, len(sums)):
        drawn = rng.integers(len(sums), size=(n_rows, len(sums)), dtype=np.int32)
        total = sizes[0] * len(sums) if equal else sizes[drawn].sum(axis=1)
        means.append(sums[drawn].sum(axis=1) / total)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
