"""How well scores rank the items that a user played: average precision, recall and NDCG at K.

Relevance is binary. With N candidates, R of them relevant, cutoff k = min(K, N), rel_j = 1 where the item at
rank j is relevant, and P_j the part of ranks 1 to j that is relevant:

    AP@K     = sum_{j<=k} rel_j P_j / min(k, R)
    recall@K = sum_{j<=k} rel_j / R
    NDCG@K   = sum_{j<=k} rel_j / log2(j + 1) / sum_{j<=min(k, R)} 1 / log2(j + 1)

so each is 1 for a perfect ranking. A user without a relevant item has no score (NaN).

Items of equal score have no order, and none is made up for them: a value is the mean over all orders of the
tied items, in closed form (McSherry and Najork 2008, "Computing information retrieval performance measures
efficiently in the presence of tied scores"). A scorer that gives every item the same score thus stands
exactly where random rankings stand on average.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from kerasrep.errors import DataError

FloatArray = NDArray[np.float64]

BLOCK_VALUES = 1 << 20  # scores ranked at once; a dozen arrays of that size are held


@dataclass(frozen=True)
class RankingScores:
    """Scores of each user; NaN for users without a relevant item.

    Attributes:
        ap: float64 [users], average precision at K.
        recall: float64 [users], recall at K.
        ndcg: float64 [users], normalised discounted cumulative gain at K.
    """

    ap: FloatArray
    recall: FloatArray
    ndcg: FloatArray


def user_blocks(n_users: int, n_items: int) -> Iterator[slice]:
    """Consecutive users whose scores fill at most `BLOCK_VALUES`, one user at least."""
    step = max(1, BLOCK_VALUES // max(1, n_items))
    for start in range(0, n_users, step):
        yield slice(start, min(start + step, n_users))


def ranking_scores(
    scores: ArrayLike, relevant: sparse.spmatrix | NDArray[np.generic], k: int
) -> RankingScores:
    """Average precision, recall and NDCG at K of every user.

    Time grows as users x items x log(items); beside `scores`, memory holds one block of users.

    Args:
        scores: [users, items], finite; the larger, the better the rank.
        relevant: [users, items], sparse or dense; what is not 0 is relevant.
        k: 1 or more; one beyond the number of items means all of them.

    Returns:
        One value a user and metric, means over all orders of tied items.

    Raises:
        DataError: Where a score is not finite.
        ValueError: Where shapes differ, there is no item, or `k` is below 1.
    """
    values = np.asarray(scores)
    if values.ndim != 2 or values.shape != relevant.shape or values.shape[1] == 0 or k < 1:
        shapes = f"scores {values.shape}, relevant {relevant.shape}, k {k}"
        raise ValueError(f"scores and relevant must be [users, items] alike, k at least 1: {shapes}")
    wanted = sparse.csr_matrix(relevant)
    n_users, n_items = values.shape
    table = np.full((3, n_users), np.nan)
    for users in user_blocks(n_users, n_items):
        if not np.isfinite(values[users]).all():
            raise DataError("scores of a ranking hold NaN or infinite values; check the embeddings")
        table[:, users] = _block_scores(values[users], wanted[users].toarray() != 0, min(k, n_items))
    return RankingScores(*table)


def _block_scores(scores: NDArray[np.generic], relevant: NDArray[np.bool_], k: int) -> FloatArray:
    """AP, recall and NDCG [3, users] of a block."""
    gain, precision = _expected(scores, relevant)
    n_relevant = relevant.sum(axis=1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    scored = n_relevant > 0
    table = np.full((3, len(scores)), np.nan)
    within = np.minimum(n_relevant[scored], k)
    table[0, scored] = precision[scored, :k].sum(axis=1) / within
    table[1, scored] = gain[scored, :k].sum(axis=1) / n_relevant[scored]
    table[2, scored] = (gain[scored, :k] * discount).sum(axis=1) / ideal[within]
    return table


def _expected(scores: NDArray[np.generic], relevant: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Means over orders of ties of rel_j and of rel_j P_j, both [users, ranks].

    A tie of n items, r of them relevant, stands behind s items with b relevant ones. At each of its ranks an
    item is relevant with r / n. Given that, each of the j - s - 1 tied items before rank j is relevant with
    (r - 1) / (n - 1), so that b + 1 + (j - s - 1)(r - 1) / (n - 1) of the first j are.
    """
    n_items = scores.shape[1]
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    ranked = np.take_along_axis(scores, order, axis=1)
    seen = np.cumsum(np.take_along_axis(relevant, order, axis=1), axis=1)
    edge = np.ones((len(scores), n_items + 1), dtype=bool)
    edge[:, 1:-1] = ranked[:, 1:] != ranked[:, :-1]
    ranks = np.arange(n_items)
    start = np.maximum.accumulate(np.where(edge[:, :-1], ranks, 0), axis=1)
    last = np.where(edge[:, 1:], ranks, n_items - 1)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    size = last - start + 1
    before = np.where(start > 0, np.take_along_axis(seen, np.maximum(start - 1, 0), axis=1), 0)
    hits = np.take_along_axis(seen, last, axis=1) - before
    gain = hits / size
    others = (ranks - start) * ((hits - 1) / np.maximum(size - 1, 1))
    return gain, gain * (before + 1 + others) / (ranks + 1)
