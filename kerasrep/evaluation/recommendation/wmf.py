"""Weighted matrix factorisation of plays, with item factors drawn to a linear map of features.

What is minimised, over users u and those items i that anyone played, with r the plays, p = 1 where r > 0 and
0 elsewhere, and confidence c = 1 + alpha r:

    sum_ui c_ui (p_ui - w_u.h_i)^2 + lambda_wh (|W|^2 + sum_i |h_i - Phi f_i|^2) + lambda_phi |Phi|^2

Without features it is the factorisation of implicit feedback of Hu, Koren and Volinsky (2008); the map makes
it rank items that nobody has played yet, as Kim et al. (2018, arXiv 1802.04051) do. Given the other two, each
of W, H and Phi has a closed form, so a sweep over the three never raises the objective. For a user,

    w_u = (H'H + alpha sum_i r_ui h_i h_i' + lambda_wh 1)^-1 sum_i c_ui p_ui h_i

where both sums run over the user's items; for an item, W takes the place of H and lambda_wh Phi f_i joins the
right side; Phi is a ridge regression of H on the features.

Features are standardised with mean and deviation of the items that are fitted, then scaled to a mean square
norm of 512 whatever their number (see `feature_map`), and there is no intercept: it
would add the same amount to all items of a user, which changes no ranking, and with centred features the
regression of given H has the same Phi. A feature that is constant over the fitted items is ignored. Items
without plays say nothing about users, and are no zeros either: they enter no sum (H'H neither), and have the
factors Phi f_i.

Everything is computed in float64, in blocks, so that memory holds the factors, one matrix [features,
features] (or [items, items] where there are fewer items than features) and little else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from kerasrep.errors import DataError
from kerasrep.evaluation.recommendation.feature_map import Ridge, Standardiser, row_blocks

FloatArray = NDArray[np.float64]

BLOCK_VALUES = 1 << 18  # of the largest array in the loops: 2 MiB stay in the processor's cache


@dataclass(frozen=True)
class FactorisationSettings:
    """Settings of the factorisation; the defaults are those of Kim et al. (2018).

    Attributes:
        n_factors: Values a user and an item.
        alpha: Confidence that one play adds.
        lambda_phi: Weight of |Phi|^2, above 0.
        lambda_wh: Weight of the factors' penalties, above 0.
        n_sweeps: Updates of users, items and map.
        initial_deviation: Standard deviation of the random item factors at the start.
    """

    n_factors: int = 50
    alpha: float = 0.1
    lambda_phi: float = 0.1
    lambda_wh: float = 1e-5
    n_sweeps: int = 15
    initial_deviation: float = 0.01

    def __post_init__(self) -> None:
        positive = (self.lambda_phi, self.lambda_wh, self.initial_deviation)
        if min(self.n_factors, self.n_sweeps) < 1 or self.alpha < 0 or not all(v > 0 for v in positive):
            raise ValueError(f"settings of the factorisation are impossible: {self}")


@dataclass(frozen=True)
class Factorisation:
    """A fitted factorisation.

    Attributes:
        user_factors: W, float64 [users, n_factors].
        item_factors: H, float64 [items, n_factors].
        feature_map: Phi, float64 [dimension, n_factors]; one factor a column.
        standardiser: Of the features.
        objectives: The objective after each sweep.
        n_unplayed_items: Items that nobody played; they took no part.
    """

    user_factors: FloatArray
    item_factors: FloatArray
    feature_map: FloatArray
    standardiser: Standardiser
    objectives: tuple[float, ...]
    n_unplayed_items: int

    def map_features(self, features: NDArray[np.floating[Any]]) -> FloatArray:
        """Factors of items from their features alone, float64 [items, n_factors].

        Args:
            features: float [items, dimension], as they were given to `factorise`.
        """
        mapped = np.empty((len(features), self.feature_map.shape[1]))
        for rows in row_blocks(features):
            mapped[rows] = self.standardiser(features[rows]) @ self.feature_map
        return mapped


def factorise(
    plays: sparse.spmatrix,
    features: NDArray[np.floating[Any]],
    settings: FactorisationSettings = FactorisationSettings(),
    seed: int | Sequence[int] = 0,
) -> Factorisation:
    """Fit by alternating least squares, every update exact.

    Args:
        plays: [users, items], 0 or more; r above.
        features: float [items, dimension], finite.
        settings: Sizes and weights.
        seed: Of the random start.

    Returns:
        The fit; same arguments, same result.

    Raises:
        DataError: Where nobody played anything, or the numbers do not stay finite.
        ValueError: Where shapes do not fit each other.
    """
    if features.ndim != 2 or plays.shape[1] != len(features) or 0 in features.shape:
        raise ValueError(f"plays {plays.shape} and features {features.shape} must have the same items")
    matrix = sparse.csr_matrix(plays, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    played = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
    if not played.any():
        raise DataError("plays of the items to learn from are all zero: there is nothing to factorise")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # ends as an error of one line, not as warnings
            known = features if played.all() else features[played]  # a copy only where it must be
            fitted = _fit(sparse.csr_matrix(matrix[:, played]), known, settings, seed)
    except np.linalg.LinAlgError as error:
        raise DataError(f"plays or embeddings are too extreme to be factorised ({error})") from error
    item_factors = fitted.map_features(features)
    item_factors[played] = fitted.item_factors
    return Factorisation(
        fitted.user_factors,
        item_factors,
        fitted.feature_map,
        fitted.standardiser,
        fitted.objectives,
        int((~played).sum()),
    )


def _fit(
    plays: sparse.csr_matrix,
    features: NDArray[np.floating[Any]],
    settings: FactorisationSettings,
    seed: int | Sequence[int],
) -> Factorisation:
    by_item = sparse.csr_matrix(plays.T)
    standardiser = Standardiser.of(features)
    ridge = Ridge(features, standardiser, settings.lambda_phi / settings.lambda_wh)
    rng = np.random.default_rng(seed)
    items = rng.normal(scale=settings.initial_deviation, size=(plays.shape[1], settings.n_factors))
    mapped = np.zeros_like(items)
    objectives = []
    for _ in range(settings.n_sweeps):
        users = update_factors(plays, items, None, settings)
        items = update_factors(by_item, users, mapped, settings)
        if not np.isfinite(items).all():
            raise DataError(
                "the factorisation does not stay finite; check plays and embeddings for huge values"
            )
        feature_map = ridge.solve(items)
        mapped = ridge.predict(feature_map)
        misfit = _misfit(plays, users, items, settings.alpha)
        penalty = (users**2).sum() + ((items - mapped) ** 2).sum()
        penalty = settings.lambda_wh * penalty + settings.lambda_phi * (feature_map**2).sum()
        objectives.append(float(misfit + penalty))
    return Factorisation(users, items, feature_map, standardiser, tuple(objectives), 0)


def update_factors(
    plays: sparse.csr_matrix,
    others: FloatArray,
    prior: FloatArray | None,
    settings: FactorisationSettings,
) -> FloatArray:
    """The factors of all rows that minimise the objective, given those of the columns.

    Normal equations of rows with about the same number of plays are built together, as one stack.

    Args:
        plays: [rows, columns]: users and items, or the reverse; no stored zeros.
        others: Factors of the columns, float64 [columns, n_factors].
        prior: What the rows' factors are drawn to, float64 [rows, n_factors]; 0 if `None`.
        settings: Gives `alpha` and `lambda_wh`.

    Returns:
        float64 [rows, n_factors].
    """
    n_factors = others.shape[1]
    shared = others.T @ others + settings.lambda_wh * np.eye(n_factors)
    lengths = np.diff(plays.indptr)
    order = np.argsort(lengths, kind="stable")
    updated = np.empty((plays.shape[0], n_factors))
    for block in _even_blocks(lengths[order], n_factors):
        rows = order[block]
        steps = np.arange(lengths[rows].max())
        stored = steps < lengths[rows, np.newaxis]
        places = np.where(stored, plays.indptr[rows, np.newaxis] + steps, 0)
        extra = settings.alpha * plays.data[places] * stored
        gathered = others[plays.indices[places]]  # [rows, plays, n_factors]
        left = shared + (gathered * extra[:, :, np.newaxis]).transpose(0, 2, 1) @ gathered
        right = ((stored + extra)[:, np.newaxis] @ gathered).transpose(0, 2, 1)
        if prior is not None:
            right += settings.lambda_wh * prior[rows, :, np.newaxis]
        updated[rows] = _solved(left, right[:, :, 0])
    return updated


def _solved(left: FloatArray, right: FloatArray) -> FloatArray:
    """Solutions [rows, n_factors] of symmetric positive definite systems; `left` is overwritten.

    One call a system: NumPy's stacked `solve` takes more than twice as long where BLAS has several threads.
    """
    solutions = np.empty_like(right)
    for row in range(len(left)):
        _, solutions[row], info = lapack.dposv(left[row].T, right[row], overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError("normal equations are singular")
    return solutions


def _even_blocks(lengths: NDArray[Any], n_factors: int) -> Iterator[slice]:
    """Consecutive rows, given by their ascending numbers of plays, that fit into memory together."""
    cost = np.maximum(lengths, n_factors) * n_factors
    start = 0
    most = max(1, BLOCK_VALUES // n_factors**2)  # rows that fit at the lowest cost
    while start < len(lengths):
        # With ascending costs the last row of a block decides how much each of its rows takes.
        window = cost[start : start + most]
        taken = window * np.arange(1, len(window) + 1)
        stop = start + max(1, int(np.searchsorted(taken, BLOCK_VALUES, side="right")))
        yield slice(start, stop)
        start = stop


def _misfit(plays: sparse.csr_matrix, users: FloatArray, items: FloatArray, alpha: float) -> float:
    """Sum of c (p - w.h)^2: all pairs as if p were 0 and c 1, then corrected where there are plays."""
    total = float(np.sum((users.T @ users) * (items.T @ items)))
    row_of = np.repeat(np.arange(plays.shape[0]), np.diff(plays.indptr))
    step = max(1, BLOCK_VALUES // users.shape[1])
    for start in range(0, plays.nnz, step):
        block = slice(start, start + step)
        predicted = np.einsum("nk,nk->n", users[row_of[block]], items[plays.indices[block]])
        confidence = 1 + alpha * plays.data[block]
        total += float(np.sum(confidence * (1 - predicted) ** 2 - predicted**2))
    return total
