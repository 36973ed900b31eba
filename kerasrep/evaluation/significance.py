"""Intervals of a mean, and: is one representation better than another on the same test units?

95% intervals are by bootstrap over what was tested. Units that are not independent of each other make one
block and are resampled together: the items of a group (a song, an artist, versions of one tune), or one item
that was tested several times. The interval says how much the score would vary with other test items, the
fitted probes given. It does not say how much it would vary with other training items.

The test is a paired sign-flip permutation test. If both were equally good, either score of a unit could have
come from either representation, so the sign of each difference could as well be the other one (Good 2005,
"Permutation, Parametric and Bootstrap Tests of Hypotheses"). Units that depend on each other are flipped
together.

The test takes the fitted probes as they are: it says what other test units would do, not what other training
items would, whose influence the folds of a cross-validation share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep.errors import DataError
from kerasrep.evaluation.base import Comparison, ProbeResult

N_RESAMPLES = 2000
CONFIDENCE = 0.95

#: Random numbers that are held in memory at once.
CHUNK_VALUES = 4_000_000
N_FLIPS = 10_000
#: Up to so many blocks that differ, all 2^blocks signs are tried instead of drawn.
MOST_ENUMERATED_BLOCKS = 16
#: Sums that differ by less than this part of the largest possible one are equal but for rounding.
ROUNDING = 1e-10


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


def compare(
    task: str,
    metric: str,
    first_name: str,
    first: ProbeResult,
    second_name: str,
    second: ProbeResult,
    seed: int = 0,
) -> Comparison:
    """Compare what one probe made of two representations.

    The difference is that of the mean unit scores. Its 95% interval resamples blocks of paired differences.

    Args:
        task: Name of the task.
        metric: The task's score, which both results must be about.
        first_name: Name of a representation.
        first: Its result.
        second_name: Name of the other one.
        second: Its result, by the same probe on the same units.
        seed: Of drawn signs and of the resampling.

    Raises:
        DataError: Where probe, metric or units are not the same.
    """
    between = f"{task}: {first_name} and {second_name} cannot be compared"
    for what, one, other in (
        ("metric", metric, first.metric),
        ("metric", metric, second.metric),
        ("probe", first.probe, second.probe),
    ):
        if one != other:
            raise DataError(f"{between}, their {what}s are {one} and {other}; evaluate both alike")
    rows, other_rows = _paired_rows(between, (first_name, second_name), first, second)
    differences = first.unit_scores[rows] - second.unit_scores[other_rows]
    groups = None if first.unit_groups is None else first.unit_groups[rows]
    blocks = blocks_of(first.unit_ids[rows], groups)
    low, high = mean_interval(differences, blocks, seed)
    sums = np.bincount(blocks, weights=differences).astype(np.float64)
    return Comparison(
        task=task,
        probe=first.probe,
        metric=metric,
        first=first_name,
        second=second_name,
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=sign_flip_p_value(sums, seed),
        n_units=len(differences),
        n_groups=len(sums),
    )


def sign_flip_p_value(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p-value of a sum of paired differences whose signs are exchangeable under the null.

    Exact where up to `MOST_ENUMERATED_BLOCKS` differences are not zero, otherwise from `N_FLIPS` drawn signs
    with (1 + as extreme) / (1 + drawn), which never is 0 (Phipson and Smyth 2010). For differences of -1, 0
    and 1 the exact value is that of McNemar's exact test.

    Args:
        differences: float64 [blocks].
        seed: Of drawn signs.
    """
    differences = differences[differences != 0]
    n_blocks = len(differences)
    if not n_blocks:
        return 1.0
    extreme = abs(differences.sum()) - ROUNDING * np.abs(differences).sum()
    if n_blocks <= MOST_ENUMERATED_BLOCKS:
        bits = (np.arange(2**n_blocks)[:, np.newaxis] >> np.arange(n_blocks)) & 1
        return float((np.abs(_flipped_sums(bits, differences)) >= extreme).mean())
    rng = np.random.default_rng(seed)
    n_extreme = 0
    for n_rows in chunks(N_FLIPS, n_blocks):
        drawn = np.frombuffer(rng.bytes(n_rows * -(-n_blocks // 8)), np.uint8).reshape(n_rows, -1)
        bits = np.unpackbits(drawn, axis=1, count=n_blocks)
        n_extreme += int((np.abs(_flipped_sums(bits, differences)) >= extreme).sum())
    return (1 + n_extreme) / (1 + N_FLIPS)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for how many there are, in the given order (Holm 1979).

    Rejecting where the corrected value is at most a level keeps the chance of any wrong rejection at that
    level, whatever the dependence between the tests.

    Args:
        p_values: [tests], each from 0 to 1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError("p-values are numbers from 0 to 1")
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    factors = np.arange(len(given), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(given[order] * factors)) if len(given) else given
    return corrected


def _flipped_sums(bits: NDArray[Any], differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the differences with the signs of 1 - 2 bits, float64 [draws]."""
    sums: NDArray[np.float64] = differences.sum() - 2 * (bits.astype(np.float64) @ differences)
    return sums


def _paired_rows(
    between: str, names: tuple[str, str], first: ProbeResult, second: ProbeResult
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of both results in one order, so that unit and fold agree."""
    rows, other_rows = _ordered_rows(first), _ordered_rows(second)
    keys, other_keys = _keys(first, rows), _keys(second, other_rows)
    if not keys:
        raise DataError(f"{between}, nothing was tested")
    for one, other, name in ((keys, other_keys, names[0]), (other_keys, keys, names[1])):
        missing = sorted(set(one) - set(other))
        if missing:
            unit, fold = missing[0]
            raise DataError(
                f"{between}, {len(missing)} units were tested with {name} alone (such as '{unit}' in fold "
                f"{fold}); evaluate both on the same items with the same seed"
            )
    if len(set(keys)) < len(keys) or len(keys) != len(other_keys):
        raise DataError(f"{between}, a unit stands twice in one fold; evaluate them again")
    if _groups(first, rows) != _groups(second, other_rows):
        raise DataError(f"{between}, their units are in other groups; evaluate both on the same data")
    return rows, other_rows


def _ordered_rows(result: ProbeResult) -> NDArray[np.intp]:
    rows: NDArray[np.intp] = np.lexsort((result.unit_folds, result.unit_ids))
    return rows


def _keys(result: ProbeResult, rows: NDArray[np.intp]) -> Sequence[tuple[str, int]]:
    return list(zip(result.unit_ids[rows].tolist(), result.unit_folds[rows].tolist(), strict=True))


def _groups(result: ProbeResult, rows: NDArray[np.intp]) -> list[str] | None:
    return None if result.unit_groups is None else result.unit_groups[rows].tolist()
