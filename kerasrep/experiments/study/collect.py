"""What the runs left behind: scores, costs and learning curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.experiments.job import StudyFolder
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.scores import ScoreTable
from kerasrep.storage.run_directory import RunDirectory, read_json

#: Validation losses in units of that before training, at so many points from beginning to end.
CURVE_POINTS = 21
#: What a training took, beside seconds of each stage.
COSTS = ("steps", "updates_a_source", "segments", "training_seconds")


@dataclass(frozen=True)
class Outcome:
    """One run that is done.

    Attributes:
        run: As planned, with what it turned out to be.
        values: Its `scores.json`.
    """

    run: PlannedRun
    values: Mapping[str, Any]


def collect(folder: StudyFolder, runs: Sequence[PlannedRun]) -> list[Outcome]:
    """The runs that are done, in order.

    Raises:
        DataError: Where a file of scores is damaged.
    """
    found = []
    for run in runs:
        path = folder.run(run.name).scores
        if not path.is_file():
            continue
        values = read_json(path)
        if not isinstance(values, dict) or values.get("key") != run.job.key:
            continue
        try:
            found.append(_outcome(run, values))
        except KeyError as error:
            raise DataError(f"{path}: lacks {error}; delete it and start the study again") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is damaged ({error}); delete it and start the study again") from error
    return found


def _outcome(run: PlannedRun, values: Mapping[str, Any]) -> Outcome:
    """A run with what it turned out to be; everything that a report reads of it is looked at."""
    facts = replace(
        run.facts, dimension=int(values["dimension"]), parameters=int(values.get("parameters", 0))
    )
    for task in values["tasks"].values():
        str(task["metric"]), str(task["probe"])
        for name in ("score", "low", "high", "chance"):
            float(task[name])
    for name in COSTS:
        float(values.get(name, 0))
    sum(values.get("seconds", {}).values())
    return Outcome(replace(run, facts=facts), values)


def score_table(outcomes: Sequence[Outcome]) -> ScoreTable:
    """Headline scores, runs by tasks."""
    tasks: dict[str, str] = {}
    for outcome in outcomes:
        for name, task in outcome.values["tasks"].items():
            tasks.setdefault(name, str(task["metric"]))
    values = np.full((len(outcomes), len(tasks)), np.nan)
    for row, outcome in enumerate(outcomes):
        for column, name in enumerate(tasks):
            if name in outcome.values["tasks"]:
                values[row, column] = float(outcome.values["tasks"][name]["score"])
    return ScoreTable(
        tuple(outcome.run.facts for outcome in outcomes), tuple(tasks), tuple(tasks.values()), values
    )


@dataclass(frozen=True)
class Curve:
    """How the validation loss of one strategy fell.

    Attributes:
        strategy: Of sharing.
        progress: float64 [points], part of the training, 0 to 1.
        mean: float64 [points], loss in units of that before training, mean over runs.
        low: Lowest run.
        high: Highest run.
        n_runs: Runs.
    """

    strategy: str
    progress: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_runs: int


def learning_curves(
    folder: StudyFolder, outcomes: Sequence[Outcome], strategies: Sequence[str]
) -> list[Curve]:
    """Curves of the strategies that have trained runs; a concatenation has the mean of its parts."""
    grid = np.linspace(0, 1, CURVE_POINTS)
    own = {
        outcome.run.name: _curve(RunDirectory(folder.run(outcome.run.name).training).history, grid)
        for outcome in outcomes
        if outcome.run.recipe is not None
    }
    found = []
    for strategy in strategies:
        rows = []
        for outcome in outcomes:
            if outcome.run.facts.strategy != strategy:
                continue
            parts = [own.get(name) for name in (outcome.run.needs or (outcome.run.name,))]
            known = [part for part in parts if part is not None]
            if known and len(known) == len(parts):
                rows.append(np.mean(known, axis=0))
        if rows:
            runs = np.array(rows)
            found.append(
                Curve(strategy, grid, runs.mean(axis=0), runs.min(axis=0), runs.max(axis=0), len(rows))
            )
    return found


def _curve(path: Path, grid: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Mean over sources of the loss in units of that before training; `None` where there is no history."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("validation_loss/mean")]
    except OSError:
        return None
    names = [name for name in (rows[0] if rows else {}) if name.startswith("validation_loss/")]
    names = [name for name in names if not name.endswith("/mean")]
    if len(rows) < 2 or not names:
        return None
    steps = np.array([float(row["step"]) for row in rows])
    losses = np.array([[float(row[name]) for name in names] for row in rows])
    relative = (losses / losses[0]).mean(axis=1)
    return np.asarray(np.interp(grid, steps / steps[-1], relative), np.float64)
