"""D-optimal designs by coordinate exchange (Meyer and Nachtsheim 1995), each possible row at most once.

The determinant of X'X after one row makes way for another follows from the inverse by two updates of rank
one, so a trial costs a product with the inverse and no decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import RecipeError

Matrix = NDArray[np.float64]

MAX_PASSES = 200
#: A smaller relative gain of the determinant is rounding.
LEAST_GAIN = 1e-9
_FIRST_DRAWS = 200


@dataclass(frozen=True)
class Chosen:
    """A design.

    Attributes:
        rows: Places of the chosen candidates, in no particular order.
        log_determinant: Of X'X.
    """

    rows: NDArray[np.intp]
    log_determinant: float


def log_determinant(rows: Matrix) -> float:
    """Logarithm of the determinant of X'X; minus infinity where it is singular."""
    sign, value = np.linalg.slogdet(rows.T @ rows)
    return float(value) if sign > 0 else -np.inf


def exchange_ratios(inverse: Matrix, leaving: Matrix, entering: Matrix) -> Matrix:
    """What the determinant of X'X is multiplied by when a row leaves and another enters.

    Args:
        inverse: Of X'X, [columns, columns].
        leaving: A row of X, [columns].
        entering: Rows to try instead, [rows, columns].

    Returns:
        float64 [rows].
    """
    half = entering @ inverse
    entering_variance = np.einsum("ij,ij->i", half, entering)
    leaving_variance = float(leaving @ inverse @ leaving)
    covariance = half @ leaving
    ratios: Matrix = (1.0 + entering_variance) * (1.0 - leaving_variance) + covariance**2
    return ratios


def exchanged_inverse(inverse: Matrix, leaving: Matrix, entering: Matrix) -> Matrix:
    """The inverse of X'X after the exchange of one row, by Sherman and Morrison's formula twice."""
    added = inverse @ entering
    inverse = inverse - np.outer(added, added) / (1.0 + entering @ added)
    removed = inverse @ leaving
    exchanged: Matrix = inverse + np.outer(removed, removed) / (1.0 - leaving @ removed)
    return exchanged


def d_optimal(
    candidates: Matrix, neighbours: Sequence[NDArray[np.intp]], n_rows: int, n_starts: int, seed: int
) -> Chosen:
    """Choose rows whose X'X has a large determinant.

    Args:
        candidates: Every possible row, [candidates, columns].
        neighbours: Candidate -> candidates that differ from it in one coordinate.
        n_rows: Rows to choose.
        n_starts: Random designs to start from.
        seed: Of the starts.

    Raises:
        RecipeError: Where so few rows cannot estimate the columns.
    """
    n_columns = candidates.shape[1]
    if n_rows < n_columns:
        raise RecipeError(
            f"design.runs: {n_rows}, but the model has {n_columns} terms; give that many runs or more, or "
            "fewer design.interactions"
        )
    rng = np.random.default_rng(seed)
    ends: list[Chosen] = []
    for _ in range(n_starts):
        first = _first_rows(candidates, n_rows, rng)
        search = _Search(candidates, neighbours, first)
        while search.one_pass(rng.permutation(n_rows)) and search.passes < MAX_PASSES:
            pass
        ends.append(Chosen(search.rows, log_determinant(candidates[search.rows])))
    return max(ends, key=lambda end: end.log_determinant)


def _first_rows(candidates: Matrix, n_rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    for _ in range(_FIRST_DRAWS):
        rows = rng.choice(len(candidates), n_rows, replace=False)
        if np.linalg.matrix_rank(candidates[rows]) == candidates.shape[1]:
            return rows.astype(np.intp)
    raise RecipeError(
        f"design.interactions: {n_rows} of {len(candidates)} possible runs cannot tell the "
        f"{candidates.shape[1]} terms of the model apart; name fewer interactions or more runs"
    )


class _Search:
    """One start: its rows, and the inverse of X'X."""

    def __init__(
        self, candidates: Matrix, neighbours: Sequence[NDArray[np.intp]], rows: NDArray[np.intp]
    ) -> None:
        self._candidates, self._neighbours = candidates, neighbours
        self.rows, self.passes = rows.copy(), 0
        self._taken = np.zeros(len(candidates), bool)
        self._taken[rows] = True

    def one_pass(self, order: NDArray[np.intp]) -> bool:
        """Try to exchange every row once; says whether anything was exchanged."""
        chosen = self._candidates[self.rows]
        inverse = np.linalg.inv(chosen.T @ chosen)  # anew each pass: updates add up rounding
        self.passes += 1
        improved = False
        for place in order:
            row = self.rows[place]
            others = self._neighbours[row]
            others = others[~self._taken[others]]
            if not len(others):
                continue
            leaving, entering = self._candidates[row], self._candidates[others]
            ratios = exchange_ratios(inverse, leaving, entering)
            best = int(ratios.argmax())
            if ratios[best] > 1.0 + LEAST_GAIN:
                inverse = exchanged_inverse(inverse, leaving, entering[best])
                self._taken[row], self._taken[others[best]] = False, True
                self.rows[place] = others[best]
                improved = True
        return improved
