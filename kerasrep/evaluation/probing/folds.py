"""Which items a probe learns from and which it is judged on.

A data set's own split is one fold. Otherwise items are cross-validated: classes in their proportions, and no
group (a song, an artist, versions of one tune) on both sides.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.evaluation.base import TEST, TRAIN, VALIDATION, Kind, LabelledData

Rows = NDArray[np.intp]

#: Seeded shuffles that are tried until every class is in every training part. Needed where classes have few
#: groups: scikit-learn balances sizes, and may put both groups of a class into one test part.
MAX_SHUFFLES = 50


@dataclass(frozen=True)
class Fold:
    """Rows of one training and one test part; ascending, disjoint.

    Attributes:
        train: intp [training items].
        test: intp [test items].
    """

    train: Rows
    test: Rows


def folds(data: LabelledData, kind: Kind, n_folds: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """The data set's own split as one fold, or `n_folds` folds whose test parts cover every item once.

    What is for validation counts as training. Without a split, classes are stratified, and groups, where
    there are any, stay on one side.

    Args:
        data: Items with labels.
        kind: `classification` or `regression`.
        n_folds: Two or more; not used where the data set has its own split.
        seed: Of the shuffle.

    Raises:
        DataError: Where nothing can be learnt or judged: labels that are missing or not finite, a single
            class or value, fewer items or groups than folds, a part without items, a group on both sides of
            the data set's split, a class of the test part that no training item has, or a test part of a
            regression with one single value (R² is not defined there).
    """
    check_labels(data, kind)
    if data.splits is not None:
        fold = _own_split(data)
        problem = _problem(data, kind, fold)
        if problem:
            raise DataError(f"the data set's own split cannot be used: {problem}")
        return (fold,)
    _check_counts(data, kind, n_folds)
    problem = ""
    for shuffle in range(MAX_SHUFFLES):
        found = tuple(partitions(data.labels, data.groups, kind, n_folds, (seed, shuffle)))
        problems = [text for text in (_problem(data, kind, fold) for fold in found) if text]
        if not problems:
            return found
        problem = problem or problems[0]
    raise DataError(f"{n_folds} folds cannot be made: {problem}")


def check_labels(data: LabelledData, kind: Kind) -> None:
    """Check that there are labels to learn.

    Raises:
        DataError: Where there is no item, labels are missing or not finite, or all are the same.
    """
    labels = np.asarray(data.labels)
    if not len(data.item_ids):
        raise DataError("the task has no items; check the data set's folder")
    if labels.shape != (len(data.item_ids),):
        raise DataError(f"{len(data.item_ids)} items have labels of the shape {list(labels.shape)}")
    if kind == "regression" or labels.dtype.kind == "f":
        try:
            wrong = np.flatnonzero(~np.isfinite(labels.astype(np.float64)))
        except (TypeError, ValueError) as error:
            raise DataError(f"labels of a regression must be numbers ({error}); correct them") from error
        what = "not finite (NaN or infinite)"
    else:
        wrong = np.flatnonzero([not str(label).strip() for label in labels])
        what = "empty"
    if len(wrong):
        first = data.item_ids[wrong[0]]
        raise DataError(
            f"labels of {len(wrong)} items are {what}, the first is that of '{first}'; correct or remove them"
        )
    distinct = np.unique(labels)
    if len(distinct) < 2:
        what = "class" if kind == "classification" else "value"
        raise DataError(f"all {len(labels)} items have the one {what} '{distinct[0]}'; two are needed")


def partitions(
    labels: NDArray[Any],
    groups: NDArray[np.str_] | None,
    kind: Kind,
    n_folds: int,
    seed: int | tuple[int, ...],
) -> Iterator[Fold]:
    """Shuffled folds by scikit-learn: stratified for classes, whole groups where there are groups.

    Nothing is promised about classes that are too small to be in every part.

    Raises:
        ValueError: Where there are fewer groups or items than folds.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    options: dict[str, Any] = {"n_splits": n_folds, "shuffle": True, "random_state": state}
    rows = np.arange(len(labels))
    if kind == "regression" and groups is not None:
        distinct, group_of = np.unique(groups, return_inverse=True)
        for _, chosen in KFold(**options).split(distinct):
            tested = np.isin(group_of, chosen)
            yield Fold(rows[~tested], rows[tested])
        return
    if kind == "regression":
        splits = KFold(**options).split(rows)
    elif groups is not None:
        if (n_groups := len(np.unique(groups))) < n_folds:  # which older releases take
            raise ValueError(f"{n_folds} folds of {n_groups} groups")
        splits = StratifiedGroupKFold(**options).split(rows, labels, groups)
    else:
        splits = StratifiedKFold(**options).split(rows, labels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # judged by the caller
        for train, test in splits:
            yield Fold(train, test)


def _own_split(data: LabelledData) -> Fold:
    splits = np.asarray(data.splits)
    unknown = sorted(set(splits.tolist()) - {TRAIN, VALIDATION, TEST})
    if unknown:
        raise DataError(f"split '{unknown[0]}' is none of {TRAIN}, {VALIDATION}, {TEST}; correct the list")
    test = splits == TEST
    return Fold(np.flatnonzero(~test), np.flatnonzero(test))


def _check_counts(data: LabelledData, kind: Kind, n_folds: int) -> None:
    if n_folds < 2:
        raise DataError(f"{n_folds} folds were asked for; cross-validation needs 2 or more")
    n_items = len(data.item_ids)
    if n_items < n_folds:
        raise DataError(f"{n_items} items are too few for {n_folds} folds; ask for fewer folds or add items")
    if data.groups is not None and len(np.unique(data.groups)) < n_folds:
        n_groups = len(np.unique(data.groups))
        raise DataError(
            f"{n_groups} groups are too few for {n_folds} folds; ask for fewer folds or add groups"
        )
    if kind == "classification":
        largest = int(np.unique(data.labels, return_counts=True)[1].max())
        if largest < n_folds:
            raise DataError(
                f"the largest class has {largest} items, too few for {n_folds} folds; ask for fewer folds"
            )
        names = np.asarray(data.item_ids if data.groups is None else data.groups)
        for label in np.unique(data.labels):
            if len(np.unique(names[data.labels == label])) == 1:
                raise DataError(f"{n_folds} folds cannot be made: {_unseen(data, str(label))}")


def _problem(data: LabelledData, kind: Kind, fold: Fold) -> str:
    """Why a fold cannot be used, and what to do; empty where it can."""
    for part, rows in (("training", fold.train), ("test", fold.test)):
        if not len(rows):
            return f"a {part} part has no items; give it some, or leave the split out"
    labels = data.labels
    if data.groups is not None:
        both = np.intersect1d(data.groups[fold.train], data.groups[fold.test])
        if len(both):
            return f"group '{both[0]}' is in training and in test; move it to one side"
    if kind == "classification":
        unseen = np.setdiff1d(labels[fold.test], labels[fold.train])
        return _unseen(data, str(unseen[0])) if len(unseen) else ""
    if len(np.unique(labels[fold.train])) < 2:
        return f"a training part has the one value {labels[fold.train[0]]}; add items"
    if len(np.unique(labels[fold.test])) < 2:
        return "a test part has one single value, for which R² is not defined; ask for fewer folds"
    return ""


def _unseen(data: LabelledData, name: str) -> str:
    """Why a class is tested but never learnt."""
    rows = np.flatnonzero(data.labels == name)
    problem = f"class '{name}' is tested but in no training part"
    if data.splits is not None:
        return f"{problem}; give it training items or leave its {len(rows)} items out"
    if data.groups is None:
        return f"{problem}, because it has {len(rows)} items; add items or leave it out"
    n_groups = len(np.unique(data.groups[rows]))
    if len(np.unique(data.groups)) == len(np.unique(data.labels)) and n_groups == 1:
        return f"{problem}, because the groups are the labels; give groups finer than classes, or none"
    return f"{problem}, because its {len(rows)} items are in {n_groups} groups; add groups or leave it out"
