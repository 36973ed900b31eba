"""Evaluations as probes leave them, from simulated predictions: three representations on six tasks.

`python tests/evaluation/made_evaluations.py FOLDER` writes a report of them, to look at.
"""

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn import metrics

from kerasrep.evaluation.base import Comparison, Evaluation, FoldScore, ProbeResult
from kerasrep.evaluation.significance import compare

REPRESENTATIONS = ("mss/1", "random", "mfcc")
DANCES = ("jig", "reel", "hornpipe", "waltz", "mazurka", "polka", "slip jig", "strathspey")
CLASSES = {
    "demo_dance": DANCES,
    "demo_metre": ("2/4", "3/4", "4/4", "6/8", "9/8"),
    "demo_composer_group": tuple(f"composer group {i:02d}" for i in range(16)),
    "demo_instrument": ("brass", "keyboard", "plucked strings", "strings", "woodwind"),
}
TASKS = (*CLASSES, "demo_tempo", "demo_recommendation")
N_ITEMS = 160
N_USERS = 90
PROBES = {
    "classification": ("linear_svm", "logistic", "mlp", "chance"),
    "regression": ("ridge", "svr", "mlp", "chance"),
    "recommendation": ("wmf_features", "chance"),
}
NOTES = ("The demo tasks are labelled by construction, so that every label can be heard in the audio.",)
PROVENANCE = {
    "command": "kerasrep-evaluate exported/mss/1 random mfcc --tasks demo -o scores",
    "kerasrep": "0.1.0",
    "versions": {"python": "3.11.9", "numpy": "1.26.4", "scikit-learn": "1.9.1"},
    "settings": {"seed": 0, "folds": 5, "grid": [0.01, 0.1, 1.0]},
}


def make_evaluation(
    representation: str = "mss/1",
    task: str = "demo_dance",
    skill: float = 0.6,
    seed: int = 0,
    n_folds: int = 5,
) -> Evaluation:
    """An evaluation whose headline probe is right about a `skill` of the time."""
    rng = np.random.default_rng(seed)
    chance_rng = np.random.default_rng(len(task))
    skills = (skill, max(skill - 0.04, 0.0), min(skill + 0.03, 1.0), 0.0)
    kind, metric = ("classification", "accuracy")
    if task == "demo_tempo":
        kind, metric = ("regression", "r2")
    elif task == "demo_recommendation":
        kind, metric = ("recommendation", "ap")
    make = {"classification": _classification, "regression": _regression, "recommendation": _recommendation}[
        kind
    ]
    probes = tuple(
        make(name, task, *((0.0, chance_rng) if name == "chance" else (skill, rng)), n_folds)
        for name, skill in zip(PROBES[kind], skills, strict=False)
    )
    counts = {"items": {"found": N_ITEMS, "published": None}}
    return Evaluation(representation, 512, task, kind, metric, N_ITEMS, {}, probes, counts)


def make_evaluations(
    representations=REPRESENTATIONS, tasks=TASKS, skills=(0.72, 0.45, 0.55, 0.5, 0.4)
) -> list[Evaluation]:
    """Every representation on every task; skills differ a little from task to task."""
    return [
        make_evaluation(name, task, skills[i] - 0.05 * ((i + j) % 3), seed=1000 * j)
        for j, task in enumerate(tasks)
        for i, name in enumerate(representations)
    ]


def make_comparisons(evaluations: list[Evaluation]) -> list[Comparison]:
    """All pairs on each task with the headline probe."""
    return [
        compare(task, one.metric, one.representation, one.probes[0], other.representation, other.probes[0])
        for task in dict.fromkeys(e.task for e in evaluations)
        for one, other in combinations([e for e in evaluations if e.task == task], 2)
    ]


def _probe(name, metric, unit_scores, folds, values, prefix, **rest) -> ProbeResult:
    rng = np.random.default_rng(0)
    draws = rng.choice(unit_scores, (200, len(unit_scores))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    scores = tuple(
        FoldScore(fold, which, float(function(np.flatnonzero(folds == fold))))
        for fold in range(folds.max() + 1)
        for which, function in values.items()
    )
    ids = np.array([f"{prefix}{i:04d}" for i in range(len(unit_scores))])
    groups = np.array([f"group {i // 2}" for i in range(len(unit_scores))])
    return ProbeResult(
        name, metric, float(unit_scores.mean()), low, high, scores, ids, folds, unit_scores, groups, **rest
    )


def _folds(n: int, n_folds: int) -> np.ndarray:
    return np.arange(n, dtype=np.int64) * n_folds // n


def _classification(name, task, skill, rng, n_folds) -> ProbeResult:
    classes = np.array(sorted(CLASSES[task]))
    frequency = np.linspace(2, 1, len(classes))
    truths = np.random.default_rng(len(task)).choice(len(classes), N_ITEMS, p=frequency / frequency.sum())
    near = (truths + rng.choice([1, 1, 2, 3], N_ITEMS)) % len(classes)
    guesses = np.where(rng.random(N_ITEMS) < skill, truths, near if skill else np.bincount(truths).argmax())
    truths, guesses = classes[truths], classes[guesses]
    folds = _folds(N_ITEMS, n_folds)
    values = {
        "accuracy": lambda r: metrics.accuracy_score(truths[r], guesses[r]),
        "balanced_accuracy": lambda r: metrics.recall_score(
            truths[r], guesses[r], average="macro", zero_division=0
        ),
        "macro_f1": lambda r: metrics.f1_score(truths[r], guesses[r], average="macro", zero_division=0),
    }
    scored = metrics.precision_recall_fscore_support(truths, guesses, labels=classes, zero_division=0)
    per_class = {
        str(c): dict(zip(("precision", "recall", "f1", "support"), map(float, row), strict=True))
        for c, row in zip(classes, zip(*scored, strict=True), strict=True)
    }
    return _probe(
        name,
        "accuracy",
        (truths == guesses).astype(np.float64),
        folds,
        values,
        "tune",
        truths=truths,
        predictions=guesses,
        classes=tuple(map(str, classes)),
        confusion=metrics.confusion_matrix(truths, guesses, labels=classes).astype(np.int64),
        per_class=per_class,
        details={"C": [1.0] * n_folds},
    )


def _regression(name, task, skill, rng, n_folds) -> ProbeResult:
    truths = np.random.default_rng(len(task)).normal(110, 20, N_ITEMS)
    guesses = truths.mean() + skill * (truths - truths.mean()) + rng.normal(0, 8 * (skill > 0), N_ITEMS)
    scores = 1 - (truths - guesses) ** 2 / truths.var()
    values = {
        "r2": lambda r: metrics.r2_score(truths[r], guesses[r]),
        "rmse": lambda r: metrics.mean_squared_error(truths[r], guesses[r]) ** 0.5,
    }
    folds = _folds(N_ITEMS, n_folds)
    return _probe(name, "r2", scores, folds, values, "tune", truths=truths, predictions=guesses)


def _recommendation(name, task, skill, rng, n_folds) -> ProbeResult:
    scores = rng.beta(0.4 + skill / 3, 12, N_USERS)
    values = {
        metric: lambda r, k=k: float(np.minimum(scores[r] * k, 1).mean())
        for k, metric in enumerate(("ap", "recall", "ndcg"), 1)
    }
    return _probe(name, "ap", scores, _folds(N_USERS, n_folds), values, "user")


def with_left_out(evaluation: Evaluation, **left_out: str) -> Evaluation:
    """The same evaluation with items that could not be used."""
    return replace(evaluation, left_out=left_out)


if __name__ == "__main__":
    from kerasrep.evaluation.report import terminal_report, write_report

    made = make_evaluations()
    compared = make_comparisons(made)
    print(terminal_report(made, compared))
    for path in write_report(Path(sys.argv[1]), made, compared, PROVENANCE, NOTES):
        print(path)
