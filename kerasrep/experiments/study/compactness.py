"""What a good score costs: embedding dimension and parameters; who is not beaten in both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasrep.experiments.study.scores import RunFacts, ScoreTable


@dataclass(frozen=True)
class Compactness:
    """Mean standardised score of each run beside what it costs.

    Attributes:
        runs: Runs with scores on all tasks, baselines left out.
        scores: float64 [runs], means over tasks.
        front_dimension: Rows that no run beats with as many values or fewer, by dimension.
        front_parameters: The same for parameters.
    """

    runs: tuple[RunFacts, ...]
    scores: NDArray[np.float64]
    front_dimension: tuple[int, ...]
    front_parameters: tuple[int, ...]


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
    return Compactness(kept.runs, scores, pareto_front(dimension, scores), pareto_front(parameters, scores))
