"""The inner loop of pLSA: EM updates of the rows of a factor, compiled with numba.

With R(d,w) = n(d,w) / P(w|d), a document's update is P(z|d) times the sum over its terms of R(d,w) P(w|z),
and a term's update is P(w|z) times the sum over its documents of R(d,w) P(z|d). The two are one loop: over
the nonzeros of the counts by rows for documents, by columns for terms. P(w|d) is computed anew in each,
which is cheaper than to keep it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Update = Callable[..., float]

#: Smaller weights become 0: products of two of them would be subnormal numbers, which are slow.
NEGLIGIBLE = 1e-150

# Dot products may be summed in any order that suits the processor, the same one at each call.
FAST_MATH = {"reassoc", "contract"}


@cache
def compiled_update(counts_dtype: str) -> Update:
    """`update_rows` as machine code for counts of a dtype; it lets go of Python's lock.

    The code is kept beside this file, or in the user's cache folder. Where neither can be written or
    read, it is compiled anew in each process, which takes one to three seconds.
    """

    def given(element: Any, dimensions: int) -> Any:
        return numba.types.Array(element, dimensions, "C", readonly=True)

    factor, counts = given(numba.float64, 2), given(getattr(numba, counts_dtype), 1)
    nonzeros = numba.int64, numba.int64, given(numba.int64, 1), given(numba.int32, 1), counts
    rest = factor, factor, numba.float64[:, ::1], numba.int64, numba.float64, numba.boolean
    signature = numba.float64(*nonzeros, *rest)
    try:
        compiled: Callable[..., float] = numba.njit(signature, cache=True, nogil=True, fastmath=FAST_MATH)(
            update_rows
        )
    except Exception:  # a folder that is full or not ours, a damaged file: many kinds
        compiled = numba.njit(signature, nogil=True, fastmath=FAST_MATH)(update_rows)
    return compiled


def update_rows(
    first: int,
    last: int,
    starts: NDArray[np.int64],
    indices: NDArray[np.int32],
    counts: NDArray[Any],
    rows: FloatArray,
    columns: FloatArray,
    new_rows: FloatArray,
    n_updates: int,
    tolerance: float,
    of_documents: bool,
) -> float:
    """Update the rows from `first` to before `last`.

    Args:
        first: Row of the counts and of the factor.
        last: The same.
        starts: int64 [all rows + 1], where the nonzeros of each row begin.
        indices: int32 [nonzeros], column of each.
        counts: float32 or float64 [nonzeros], positive.
        rows: [all rows, topics], the factor to update.
        columns: [columns, topics], the other factor.
        new_rows: Where the updated rows go; may be `rows`.
        n_updates: Of each row; with 0 only the likelihood is computed.
        tolerance: A row is left early where an update gains at most this part of its own
            log-likelihood; 0 never.
        of_documents: Rows are documents: normalised, and as they were where they have no counts. Rows
            of terms are not normalised, and their likelihood is not computed.

    Returns:
        Log-likelihood of the factors given, in nats; -inf where a count has probability 0.
    """
    row, gathered = np.empty(rows.shape[1]), np.empty(rows.shape[1])
    likelihood = 0.0
    for number in range(first, last):
        begin, end = starts[number], starts[number + 1]
        row[:] = rows[number]
        before = 0.0
        for update in range(max(n_updates, 1)):
            own = _gather(begin, end, indices, counts, row, columns, gathered, of_documents)
            if update == 0:
                likelihood += own
            elif tolerance > 0 and own - before <= tolerance * abs(before):
                break
            before = own
            if n_updates > 0:
                _multiply(row, gathered, of_documents)
        if n_updates > 0:
            new_rows[number] = row
    return likelihood


@register_jitable(fastmath=FAST_MATH)  # type: ignore[untyped-decorator]
def _gather(
    begin: int,
    end: int,
    indices: NDArray[np.int32],
    counts: NDArray[Any],
    row: FloatArray,
    columns: FloatArray,
    gathered: FloatArray,
    with_likelihood: bool,
) -> float:
    """Sum of R(d,w) times the other factor into `gathered`; the log-likelihood of the row."""
    likelihood = 0.0
    gathered[:] = 0.0
    for place in range(begin, end):
        column = columns[indices[place]]
        predicted = 0.0
        for topic in range(len(row)):
            predicted += row[topic] * column[topic]
        if predicted <= 0:
            likelihood = -np.inf
            continue
        if with_likelihood:
            likelihood += counts[place] * math.log(predicted)
        ratio = counts[place] / predicted
        for topic in range(len(row)):
            gathered[topic] += ratio * column[topic]
    return likelihood


@register_jitable(fastmath=FAST_MATH)  # type: ignore[untyped-decorator]
def _multiply(row: FloatArray, gathered: FloatArray, normalised: bool) -> None:
    """Multiply `row` by `gathered`; where nothing was gathered, a normalised row stays as it is."""
    total = 0.0
    for topic in range(len(row)):
        gathered[topic] *= row[topic]
        if gathered[topic] < NEGLIGIBLE:
            gathered[topic] = 0.0
        total += gathered[topic]
    if not normalised:
        row[:] = gathered
    elif total > 0:
        for topic in range(len(row)):
            row[topic] = gathered[topic] / total
