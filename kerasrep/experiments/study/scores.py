"""Scores of all runs on all tasks, how they are put on one scale, and what a good one costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError

#: The strategy whose runs are embeddings of single-source networks side by side.
CONCATENATED = "mss-cr"

RunKind = Literal["multi", "single", "baseline"]


@dataclass(frozen=True)
class RunFacts:
    """What the analysis knows of a run.

    Attributes:
        run_id: Its folder.
        kind: Multi-source, single-source or baseline.
        strategy: Of sharing; the name of a baseline.
        sources: None for a baseline.
        seed: Of training.
        dimension: Values of a track's embedding.
        parameters: Values that the training fits, heads included; of a concatenation the sum over its
            single-source networks. 0 for a baseline, and for a run that is not done.
        in_design: Whether the design names it; all-source runs may be there beside it.
    """

    run_id: str
    kind: RunKind
    strategy: str
    sources: tuple[str, ...]
    seed: int = 0
    dimension: int = 0
    parameters: int = 0
    in_design: bool = True


@dataclass(frozen=True)
class ScoreTable:
    """Scores as they were measured.

    Attributes:
        runs: Rows.
        tasks: Columns.
        metrics: Of the tasks.
        values: float64 [runs, tasks]; NaN where a run has no score.
    """

    runs: tuple[RunFacts, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    values: NDArray[np.float64]

    def rows(self, kind: RunKind) -> list[int]:
        """Rows of one kind."""
        return [row for row, run in enumerate(self.runs) if run.kind == kind]

    def keep(self, rows: Sequence[int]) -> ScoreTable:
        """The table of some rows."""
        kept = list(rows)
        return ScoreTable(tuple(self.runs[row] for row in kept), self.tasks, self.metrics, self.values[kept])


@dataclass(frozen=True)
class Standardised:
    """Scores in deviations of their task.

    Attributes:
        table: All runs, `values` standardised.
        mean: float64 [tasks], of the complete multi-source runs.
        sd: float64 [tasks], of the same, with one degree of freedom less.
        left_out: Multi-source runs that lack a score: they are in no model.
        constant: Tasks that all multi-source runs have the same score on: left out everywhere.
    """

    table: ScoreTable
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    left_out: tuple[str, ...]
    constant: tuple[str, ...]

    @property
    def multi(self) -> ScoreTable:
        """The complete multi-source runs."""
        rows = [row for row in self.table.rows("multi") if np.isfinite(self.table.values[row]).all()]
        return self.table.keep(rows)

    @property
    def cells(self) -> ScoreTable:
        """The same, one row per combination of sources and strategy: what the models are fitted to."""
        return cell_means(self.multi)


def cell_means(table: ScoreTable) -> ScoreTable:
    """Runs that differ in the seed alone as one row, the mean of their scores.

    They are repeats: what a combination has of its own is the same in all of them, so that they are no
    independent evidence on sources and strategies.
    """
    cells: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row, run in enumerate(table.runs):
        cells.setdefault((run.strategy, run.sources), []).append(row)
    means = np.array([table.values[rows].mean(axis=0) for rows in cells.values()])
    runs = tuple(table.runs[rows[0]] for rows in cells.values())
    return ScoreTable(runs, table.tasks, table.metrics, means.reshape(len(cells), len(table.tasks)))


def standardise(table: ScoreTable) -> Standardised:
    """Put the scores of each task on the scale of the multi-source runs: mean 0, deviation 1.

    Single-source runs and baselines are put on the same scale, so that they can stand beside the others.

    Raises:
        DataError: Where fewer than three multi-source runs have scores on all tasks, or no task varies.
    """
    multi = table.rows("multi")
    complete = [row for row in multi if np.isfinite(table.values[row]).all()]
    if len(complete) < 3:
        raise DataError(
            f"{len(complete)} multi-source runs have scores on all tasks; the analysis needs three or more"
        )
    mean, sd = table.values[complete].mean(axis=0), table.values[complete].std(axis=0, ddof=1)
    varies = sd > 1e-12
    if not varies.any():
        raise DataError("all multi-source runs have equal scores on every task; there is nothing to analyse")
    columns = np.flatnonzero(varies)
    values = (table.values[:, columns] - mean[columns]) / sd[columns]
    kept = ScoreTable(
        table.runs,
        tuple(table.tasks[column] for column in columns),
        tuple(table.metrics[column] for column in columns),
        values,
    )
    left_out = tuple(table.runs[row].run_id for row in multi if row not in set(complete))
    constant = tuple(task for task, there in zip(table.tasks, varies, strict=True) if not there)
    return Standardised(kept, mean[columns], sd[columns], left_out, constant)


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
