"""What makes a trial good: its validation loss, or a downstream score."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasrep.errors import RunError
from kerasrep.experiments.tuning.settings import Downstream
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import RunDirectory
from kerasrep.training.summary import Summary

#: One a kind of task: classification, regression, recommendation.
HEADLINE_PROBES = ("linear_svm", "ridge", "wmf_features")
_EVALUATE = "import sys; from kerasrep.cli.evaluate import entry; sys.exit(entry())"


def relative_losses(summary: Summary) -> dict[str, float]:
    """Source -> validation loss of the state that is kept, as a share of that of guessing the mean target."""
    return {row.source: row.per_cent / 100 for row in summary.rows}


def downstream_scores(
    run: RunDirectory, recipe: Recipe, objective: Downstream, output: Path
) -> Mapping[str, float]:
    """Score a trained run with `kerasrep-evaluate`, in a process of its own; what it has done is not redone.

    Args:
        run: Trained.
        recipe: Names tasks of one's own.
        objective: Tasks and probe.
        output: Where `kerasrep-evaluate` writes.

    Returns:
        Task -> mean score of its probe.

    Raises:
        RunError: Where the command fails; with its last line.
    """
    probes = HEADLINE_PROBES if objective.probe is None else (objective.probe,)
    arguments = [str(run.root), "--tasks", *objective.tasks, "--probes", *probes]
    arguments += ["--folds", str(objective.folds), "-o", str(output)]
    if objective.data is not None:
        arguments += ["--data", objective.data]
    if recipe.tasks:
        arguments += ["--recipe", str(run.recipe)]
    done = subprocess.run(
        [sys.executable, "-c", _EVALUATE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise RunError(f"kerasrep-evaluate: {lines[-1].removeprefix('kerasrep-evaluate: ')}")
    return read_scores(output / "summary.csv", objective)


def read_scores(path: Path, objective: Downstream) -> dict[str, float]:
    """Read the table that `kerasrep-evaluate` writes.

    Raises:
        RunError: Where it lacks a task.
    """
    found: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            wanted = HEADLINE_PROBES if objective.probe is None else (objective.probe,)
            if row["probe"] in wanted:
                found.setdefault(row["task"], float(row["mean"]))  # the task's own metric comes first
    missing = [task for task in objective.tasks if task not in found]
    if missing:
        raise RunError(f"{path}: holds no score of '{missing[0]}'; does the probe fit the task?")
    return {task: found[task] for task in objective.tasks}


def mean(scores: Mapping[str, float]) -> float:
    """One number of all sources or tasks."""
    return float(np.mean(list(scores.values())))
