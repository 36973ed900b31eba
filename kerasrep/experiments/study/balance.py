"""What a design can tell: balance, D-efficiency beside random designs and the full one, aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasrep.experiments.study.cells import Cell, Factors, all_cells, presence_matrix
from kerasrep.experiments.study.design import Design
from kerasrep.experiments.study.exchange import log_determinant
from kerasrep.experiments.study.model_matrix import model_matrix

RANDOM_DESIGNS = 200


@dataclass(frozen=True)
class Balance:
    """Counts of runs.

    Attributes:
        by_source: int [sources, strategies], runs that have the source.
        by_number: int [sources + 1, strategies], runs of so many sources.
        pairs: int [sources, sources], runs that have both; runs with a source on the diagonal.
        by_strategy: int [strategies].
    """

    by_source: NDArray[np.int64]
    by_number: NDArray[np.int64]
    pairs: NDArray[np.int64]
    by_strategy: NDArray[np.int64]


def balance_of(cells: Sequence[Cell], factors: Factors) -> Balance:
    """Count how often sources, numbers of sources and strategies go together."""
    presence = presence_matrix(cells, factors.sources)
    levels = np.array([factors.strategies.index(cell.strategy) for cell in cells], np.intp)
    strategy = np.eye(len(factors.strategies), dtype=np.int64)[levels]
    number = np.eye(len(factors.sources) + 1, dtype=np.int64)[presence.sum(axis=1)]
    return Balance(presence.T @ strategy, number.T @ strategy, presence.T @ presence, strategy.sum(axis=0))


def d_efficiency(rows: NDArray[np.float64]) -> float:
    """|X'X / rows| to the power 1 / columns: 1 for an orthogonal design, 0 for one that tells too little."""
    value = log_determinant(rows)
    n_rows, n_columns = rows.shape
    return math.exp(value / n_columns) / n_rows if math.isfinite(value) else 0.0


@dataclass(frozen=True)
class Efficiency:
    """D-efficiencies, from 0 to 1.

    Attributes:
        design: Of the design.
        full: Of all possible runs together.
        random: float64 [draws], of random designs of the same size.
        n_terms: Columns of the model.
        interactions: Of the model.
    """

    design: float
    full: float
    random: NDArray[np.float64]
    n_terms: int
    interactions: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What the numbers say."""
        median, best = float(np.median(self.random)), float(self.random.max())
        above = int((self.random < self.design).sum())
        return (
            f"The design's D-efficiency is {self.design:.1%}; {len(self.random)} random designs of its size "
            f"have a median of {median:.1%} and {best:.1%} at best, so it is above {above} of them. A study "
            f"of all possible runs would have {self.full:.1%}."
        )


def efficiency_of(design: Design) -> Efficiency:
    """D-efficiency of a design, of random ones of its size, and of all possible runs.

    The model is that which the design was made for; interactions that it cannot estimate are left out.
    """
    possible = all_cells(design.factors)
    interactions = design.interactions
    n_terms = len(model_matrix(possible[:1], design.factors, interactions).names)
    if n_terms > len(design.cells):
        interactions = ()
    candidates = model_matrix(possible, design.factors, interactions).values
    own = model_matrix(design.cells, design.factors, interactions).values
    rng = np.random.default_rng(0)
    size = min(len(design.cells), len(possible))
    draws = (rng.choice(len(possible), size, replace=False) for _ in range(RANDOM_DESIGNS))
    random = [d_efficiency(candidates[rows]) for rows in draws]
    return Efficiency(
        d_efficiency(own), d_efficiency(candidates), np.array(random), candidates.shape[1], interactions
    )


@dataclass(frozen=True)
class Aliasing:
    """Correlations between what the analysis wants to tell apart.

    Attributes:
        names: Sources, contrasts of the strategy, `number of sources`.
        correlations: float64 [names, names].
    """

    names: tuple[str, ...]
    correlations: NDArray[np.float64]

    def largest(self, count: int = 5) -> list[tuple[str, str, float]]:
        """The pairs of the largest correlations, the number of sources left out (it is a sum)."""
        pairs = [
            (one, other, float(self.correlations[i, j]))
            for i, one in enumerate(self.names[:-1])
            for j, other in enumerate(self.names[:-1])
            if i < j
        ]
        return sorted(pairs, key=lambda pair: -abs(pair[2]))[:count]


def aliasing_of(cells: Sequence[Cell], factors: Factors) -> Aliasing:
    """Correlations of main effects over some cells; 0 where a column does not vary."""
    matrix = model_matrix(cells, factors)
    number = presence_matrix(cells, factors.sources).sum(axis=1, dtype=np.float64)
    columns = np.column_stack([matrix.values[:, 1:], number])
    centred = columns - columns.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    scaled = centred / np.where(scale > 1e-12, scale, 1.0)
    return Aliasing((*matrix.names[1:], "number of sources"), scaled.T @ scaled)
