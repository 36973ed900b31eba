"""What makes a trial good: its validation losses, or downstream scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kerasrep.experiments.job import EvaluationSettings, Job
from kerasrep.experiments.tuning.directory import TrialFolder
from kerasrep.experiments.tuning.settings import Downstream, Objective
from kerasrep.recipe.schema import Recipe, fingerprint
from kerasrep.storage.run_directory import read_object

#: One a kind of task: classification, regression, recommendation.
HEADLINE_PROBES = ("linear_svm", "ridge", "wmf_features")


def job_of(trial: str, recipe: Recipe, objective: Objective) -> Job:
    """What is to be done in a trial."""
    if not isinstance(objective, Downstream):
        return Job(name=trial, kind="validate")
    probes = HEADLINE_PROBES if objective.probe is None else (objective.probe,)
    evaluation = EvaluationSettings(
        tasks=objective.tasks, data=objective.data, probes=probes, folds=objective.folds
    )
    key = fingerprint([recipe.fingerprint(), evaluation.model_dump(mode="json")])
    return Job(name=trial, kind="train", evaluation=evaluation, own_tasks=recipe.tasks, key=key)


def scores_of(folder: TrialFolder, objective: Objective) -> Mapping[str, float]:
    """Task -> mean score of its probe; or source -> validation loss over the mean-prediction baseline's.

    Raises:
        DataError: Where the trial's files cannot be read.
    """
    if isinstance(objective, Downstream):
        tasks = read_object(folder.scores, tasks=dict)["tasks"]
        return {name: float(found["score"]) for name, found in tasks.items()}
    sources = read_object(folder.run.card, scores=dict)["scores"]["sources"]
    return {name: found["per_cent"] / 100 for name, found in sources.items()}


def mean(scores: Mapping[str, float]) -> float:
    """One number of all sources or tasks."""
    return float(np.mean(list(scores.values())))
