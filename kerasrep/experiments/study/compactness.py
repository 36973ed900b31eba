"""What a good score costs: embedding dimension and parameters; who is not beaten in both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kerasrep.experiments.study.scores import RunFacts, ScoreTable, cell_means


@dataclass(frozen=True)
class Compactness:
    """Mean standardised score of each run beside what it costs.

    Attributes:
        runs: Runs with scores on all tasks, baselines left out.
        scores: float64 [runs], means over tasks.
        front_dimension: Rows that no run beats with as many values or fewer, by dimension.
        front_parameters: The same for parameters.
        rank_correlation: Spearman's, of score and dimension, over multi-source runs; those that
            differ in the seed alone count once.
        p_value: Of it.
    """

    runs: tuple[RunFacts, ...]
    scores: NDArray[np.float64]
    front_dimension: tuple[int, ...]
    front_parameters: tuple[int, ...]
    rank_correlation: float
    p_value: float


def pareto_front(costs: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[int, ...]:
    """Rows that no other beats: higher score at the same cost or less; ascending in cost."""
    order = np.lexsort((-scores, costs))
    front, best = [], -np.inf
    for row in order:
        if scores[row] > best:
            front.append(int(row))
            best = float(scores[row])
    return tuple(front)


def compactness_of(table: ScoreTable) -> Compactness:
    """Compare scores with dimensions and parameters.

    Args:
        table: Standardised.
    """
    rows = [
        row
        for row, run in enumerate(table.runs)
        if run.kind != "baseline" and np.isfinite(table.values[row]).all()
    ]
    kept = table.keep(rows)
    scores = kept.values.mean(axis=1)
    dimension = np.array([run.dimension for run in kept.runs], np.float64)
    parameters = np.array([run.parameters for run in kept.runs], np.float64)
    cells = cell_means(kept.keep(kept.rows("multi")))
    of_cells = cells.values.mean(axis=1)
    sizes = [run.dimension for run in cells.runs]
    correlation, p_value = 0.0, 1.0
    if len(set(sizes)) > 1 and len(set(of_cells)) > 1:
        found = stats.spearmanr(sizes, of_cells)
        correlation, p_value = float(found.statistic), float(found.pvalue)
    return Compactness(
        kept.runs,
        scores,
        pareto_front(dimension, scores),
        pareto_front(parameters, scores),
        correlation,
        p_value,
    )
