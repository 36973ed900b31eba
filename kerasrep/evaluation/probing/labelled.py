"""Classification and regression: what the probes make of frozen embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from kerasrep.errors import DataError
from kerasrep.evaluation.base import METRICS, VALIDATION, FoldScore, Kind, LabelledData, ProbeResult
from kerasrep.evaluation.probing.folds import Fold, check_labels, folds, partitions
from kerasrep.evaluation.probing.probes import Probe, fit_probe, probes_of
from kerasrep.evaluation.significance import blocks_of, mean_interval

#: Fits of a stochastic probe where the data set's own split is the only fold.
N_REPEATS = 5

#: Folds within the training part on which C is chosen.
N_INNER_FOLDS = 3


def evaluate_labelled(
    data: LabelledData,
    embeddings: NDArray[np.float32],
    kind: Kind,
    *,
    probes: Sequence[str] | None = None,
    n_folds: int = 5,
    seed: int = 0,
    tune: bool = False,
    shuffle_labels: bool = False,
) -> tuple[ProbeResult, ...]:
    """Fit probes to the training part of each fold, and score them on its test part.

    Folds depend on the labels and on `seed` alone, so two representations of the same items are tested on
    the same units. Where the data set has its own split, a stochastic probe is fitted `N_REPEATS` times with
    other seeds, which count as folds.

    Args:
        data: Items with labels; item `i` belongs to row `i` of the embeddings.
        embeddings: float32 [items, dimension].
        kind: `classification` or `regression`.
        probes: Names of those wanted; `None` for all. `chance` is always added.
        n_folds: Of the cross-validation, where the data set has no split.
        seed: Of folds, solvers, weights and resampling.
        tune: Choose C on the training part: on the data set's validation part, or by `N_INNER_FOLDS` folds,
            grouped where there are groups. Otherwise C is 1 (see `probes` for its unit).
        shuffle_labels: A control: labels are permuted over all items before anything else, so that scores
            above chance would show a leak.

    Returns:
        One result a probe in the order of `PROBES`: the headline first, `chance` last. Intervals resample
        test items, or whole groups where there are groups.

    Raises:
        DataError: Where labels, folds or embeddings cannot be used.
        RecipeError: Where a probe is unknown.
    """
    if kind not in ("classification", "regression"):
        raise ValueError(f"'{kind}' tasks have no probes")
    chosen = probes_of(kind, probes)
    embeddings = _checked_embeddings(data, embeddings)
    check_labels(data, kind)
    labels = data.labels.astype(np.float64 if kind == "regression" else np.str_)
    if shuffle_labels:
        labels = np.random.default_rng(seed).permutation(labels)
    data = replace(data, labels=labels)
    parts = folds(data, kind, n_folds, seed)
    inner = tuple(_inner_folds(data, fold, kind, seed) if tune else () for fold in parts)
    return tuple(_evaluate(data, embeddings, kind, probe, parts, inner, seed) for probe in chosen)


def fold_scores(
    kind: Kind, truths: NDArray[Any], predictions: NDArray[Any], fold: int
) -> tuple[FoldScore, ...]:
    """Every metric of `METRICS` for one test part, as scikit-learn defines them.

    Balanced accuracy is over the classes that are tested, the macro F1 over those that are tested or
    predicted; a class that is never predicted has precision 0.
    """
    if kind == "regression":
        rmse = float(np.sqrt(np.square(truths - predictions).mean()))
        values = {"r2": float(metrics.r2_score(truths, predictions)), "rmse": rmse}
    else:
        tested = np.unique(truths)
        recall = metrics.recall_score(truths, predictions, labels=tested, average="macro", zero_division=0)
        values = {
            "accuracy": float(metrics.accuracy_score(truths, predictions)),
            "balanced_accuracy": float(recall),
            "macro_f1": float(metrics.f1_score(truths, predictions, average="macro", zero_division=0)),
        }
    return tuple(FoldScore(fold, metric, values[metric]) for metric in METRICS[kind])


def unit_scores(kind: Kind, truths: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.float64]:
    """What each item of one test part adds to its accuracy or R², float64 [items]; their mean is the score.

    For values: 1 - squared error / mean squared deviation of the part's values, so R² = 1 - SSE / SST. The
    interval of R² takes that deviation as known. In simulation it held the true R² in 90% to 94% of the cases
    with 30 to 100 items; an interval that estimates the deviation anew did so in 86% to 93%.
    """
    if kind == "classification":
        right: NDArray[np.float64] = (truths == predictions).astype(np.float64)
        return right
    scores: NDArray[np.float64] = 1 - np.square(truths - predictions) / np.var(truths)
    return scores


def per_class_scores(
    truths: NDArray[Any], predictions: NDArray[Any], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support (tests of that class) of each class; 0 where undefined."""
    columns = metrics.precision_recall_fscore_support(
        truths, predictions, labels=list(classes), zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return {
        name: {what: float(column[i]) for what, column in zip(names, columns, strict=True)}
        for i, name in enumerate(classes)
    }


def _checked_embeddings(data: LabelledData, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    embeddings = np.asarray(embeddings)
    n_items = len(data.item_ids)
    if embeddings.ndim != 2 or len(embeddings) != n_items or not embeddings.size:
        raise DataError(
            f"embeddings have the shape {list(embeddings.shape)}; {n_items} items need [{n_items}, dimension]"
        )
    with np.errstate(over="ignore"):
        embeddings = embeddings.astype(np.float32, copy=False)
    wrong = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(wrong):
        raise DataError(
            f"embeddings of {len(wrong)} items have NaN or infinite values, the first is that of "
            f"'{data.item_ids[wrong[0]]}'; check its audio and embed it again"
        )
    return embeddings


def _inner_folds(data: LabelledData, fold: Fold, kind: Kind, seed: int) -> tuple[Fold, ...]:
    """Parts of a training part, as positions in it; empty where it is too small to be divided."""
    labels = data.labels[fold.train]
    groups = None if data.groups is None else data.groups[fold.train]
    if data.splits is not None and (data.splits == VALIDATION).any():
        validation = data.splits[fold.train] == VALIDATION
        found: tuple[Fold, ...] = (Fold(np.flatnonzero(~validation), np.flatnonzero(validation)),)
    else:
        try:
            found = tuple(partitions(labels, groups, kind, N_INNER_FOLDS, seed))
        except ValueError:  # fewer groups than folds, or no class with so many items
            return ()
    return tuple(part for part in found if len(part.test) and len(np.unique(labels[part.train])) > 1)


def _evaluate(
    data: LabelledData,
    embeddings: NDArray[np.float32],
    kind: Kind,
    probe: Probe,
    parts: Sequence[Fold],
    inner: Sequence[Sequence[Fold]],
    seed: int,
) -> ProbeResult:
    n_repeats = N_REPEATS if len(parts) == 1 and probe.is_stochastic else 1
    dtype = np.float64 if kind == "regression" else np.str_
    predictions: list[NDArray[Any]] = []
    kept: list[dict[str, Any]] = []
    for repeat in range(n_repeats):
        for part, within in zip(parts, inner, strict=True):
            train = part.train
            groups = None if data.groups is None else data.groups[train]
            model, details = fit_probe(
                probe, kind, embeddings[train], data.labels[train], groups, inner=within, seed=seed + repeat
            )
            predictions.append(np.asarray(model.predict(embeddings[part.test])).astype(dtype))
            kept.append(details)
    return _result(data, kind, probe, list(parts) * n_repeats, predictions, kept, seed)


def _result(
    data: LabelledData,
    kind: Kind,
    probe: Probe,
    parts: Sequence[Fold],
    predictions: Sequence[NDArray[Any]],
    details: Sequence[Mapping[str, Any]],
    seed: int,
) -> ProbeResult:
    rows = np.concatenate([part.test for part in parts])
    truths, predicted = data.labels[rows], np.concatenate(list(predictions))
    pairs = [(data.labels[part.test], guess) for part, guess in zip(parts, predictions, strict=True)]
    scores = np.concatenate([unit_scores(kind, *pair) for pair in pairs])
    ids = np.asarray(data.item_ids, dtype=np.str_)[rows]
    groups = None if data.groups is None else np.asarray(data.groups, dtype=np.str_)[rows]
    low, high = mean_interval(scores, blocks_of(ids, groups), seed)
    is_classes = kind == "classification"
    classes = tuple(str(name) for name in np.unique(data.labels)) if is_classes else ()
    return ProbeResult(
        probe=probe.name,
        metric=METRICS[kind][0],
        mean=float(scores.mean()),
        low=low,
        high=high,
        scores=tuple(score for i, pair in enumerate(pairs) for score in fold_scores(kind, *pair, i)),
        unit_ids=ids,
        unit_folds=np.repeat(np.arange(len(parts)), [len(part.test) for part in parts]).astype(np.int64),
        unit_scores=scores,
        unit_groups=groups,
        truths=truths,
        predictions=predicted,
        classes=classes,
        confusion=metrics.confusion_matrix(truths, predicted, labels=list(classes)).astype(np.int64)
        if is_classes
        else None,
        per_class=per_class_scores(truths, predicted, classes) if is_classes else {},
        details=_by_fold(details),
    )


def _by_fold(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What fits left behind: lists, one entry a fold; warnings without repetition."""
    found: dict[str, Any] = {
        name: [fit[name] for fit in details] for name in ("C", "iterations") if name in details[0]
    }
    warned = sorted({line for fit in details for line in fit["warnings"]})
    return found | ({"warnings": warned} if warned else {})
