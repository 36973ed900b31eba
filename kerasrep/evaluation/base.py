"""What a downstream task is, its data once read, and what a probe found.

Tasks are read from published folder layouts or from split lists (`kerasrep.evaluation.readers.split_list`).
Items carry the path of their audio; whoever evaluates brings one embedding an item, as rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Kind = Literal["classification", "regression", "recommendation", "neighbours"]

TRAIN, VALIDATION, TEST = "train", "validation", "test"

#: Metrics of each kind; the first one is a task's score, and larger is better for it.
METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1"),
    "regression": ("r2", "rmse"),
    "recommendation": ("ap", "recall", "ndcg"),
    "neighbours": ("first_neighbour", "first_five"),
}


@dataclass(frozen=True)
class LabelledData:
    """Items of a classification or regression task.

    Attributes:
        item_ids: Unique, in a fixed order.
        paths: Audio file of each item; may be missing on disk.
        labels: [items] class names (str) or values (float64).
        splits: [items] `train`, `validation` or `test`, as the data set gives them; `None` where the task is
            cross-validated. What is for validation counts as training where nothing is tuned.
        groups: [items] name of what must not stand on both sides, such as the artist or the song; `None`
            where items are independent.
        notices: Lines the user must read.
    """

    item_ids: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[Any]
    splits: NDArray[np.str_] | None = None
    groups: NDArray[np.str_] | None = None
    notices: Sequence[str] = ()

    def keep(self, rows: NDArray[np.intp]) -> LabelledData:
        """The items of some rows, in the order of `rows`."""
        return LabelledData(
            tuple(self.item_ids[row] for row in rows),
            tuple(self.paths[row] for row in rows),
            self.labels[rows],
            None if self.splits is None else self.splits[rows],
            None if self.groups is None else self.groups[rows],
            self.notices,
        )


@dataclass(frozen=True)
class PlayData:
    """Items and plays of a recommendation task.

    Attributes:
        item_ids: Unique, in a fixed order.
        paths: Audio file of each item; may be missing on disk.
        user_ids: Rows of `plays`.
        plays: float64 [users, items], how often each user played each item; zeros are not stored.
        groups: [items] versions of one piece, held out together; `None` where items are independent.
        held_out_fraction: Of the items, in each repeat.
        k: Items of a ranking that count.
        notices: Lines the user must read.
    """

    item_ids: tuple[str, ...]
    paths: tuple[Path, ...]
    user_ids: tuple[str, ...]
    plays: sparse.csr_matrix
    groups: NDArray[np.str_] | None = None
    held_out_fraction: float = 0.05
    k: int = 80
    notices: Sequence[str] = ()

    def keep(self, rows: NDArray[np.intp]) -> PlayData:
        """The items of some rows, in the order of `rows`; users without any play left are dropped."""
        plays = sparse.csr_matrix(self.plays[:, rows])
        users = np.flatnonzero(np.diff(plays.indptr))
        return PlayData(
            tuple(self.item_ids[row] for row in rows),
            tuple(self.paths[row] for row in rows),
            tuple(self.user_ids[user] for user in users),
            plays[users],
            None if self.groups is None else self.groups[rows],
            self.held_out_fraction,
            self.k,
            self.notices,
        )


TaskData = LabelledData | PlayData


@dataclass(frozen=True)
class Task:
    """One downstream task.

    Attributes:
        name: On the command line and in tables.
        kind: `classification`, `regression`, `recommendation` or `neighbours`.
        folder: Where its data is looked for, under the data root.
        described_at: Address of the page that describes the data set and how to get it.
        read: Folder -> data. Raises `DataError` where something is missing or malformed.
        split: How items are split, in words.
        n_items: Items of the published data set; `None` where none is published.
        n_classes: Classes of the published data set.
        n_users: Users of the published data set.
        citation: Where the data set was published.
        licence: Of the data set, in words.
    """

    name: str
    kind: Kind
    folder: str
    described_at: str
    read: Callable[[Path], TaskData]
    split: str
    n_items: int | None = None
    n_classes: int | None = None
    n_users: int | None = None
    citation: str = ""
    licence: str = ""

    @property
    def metric(self) -> str:
        """The metric that is the task's score."""
        return METRICS[self.kind][0]


@dataclass(frozen=True)
class FoldScore:
    """One metric of one fold (or repeat)."""

    fold: int
    metric: str
    value: float


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found on one task with one representation.

    Attributes:
        probe: Its name.
        metric: The task's metric.
        mean: Of `metric`: the mean of `unit_scores`.
        low: Lower end of the 95% interval of `mean`, by bootstrap over test units.
        high: Upper end.
        scores: Every metric of every fold.
        unit_ids: [units] what was tested, fold by fold: items, or users for recommendation. A unit that was
            tested in several folds stands several times.
        unit_folds: [units] int.
        unit_scores: [units] float64, contributions whose mean is `mean`: 1 for a right class and 0 for a
            wrong one; 1 - squared error / mean squared deviation of the fold's test values; a user's
            average precision.
        unit_groups: [units] names of the groups that units belong to; `None` where there are none.
        truths: [units] classes or values; `None` for recommendation.
        predictions: As `truths`.
        classes: Names, sorted; empty unless it is a classification.
        confusion: int64 [true class, predicted class], all folds together; `None` unless a classification.
        per_class: Class -> `precision`, `recall`, `f1`, `support`.
        details: Whatever else is worth keeping (chosen C, iterations, warnings), ready for JSON.
    """

    probe: str
    metric: str
    mean: float
    low: float
    high: float
    scores: tuple[FoldScore, ...]
    unit_ids: NDArray[np.str_]
    unit_folds: NDArray[np.int64]
    unit_scores: NDArray[np.float64]
    unit_groups: NDArray[np.str_] | None = None
    truths: NDArray[Any] | None = None
    predictions: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    confusion: NDArray[np.int64] | None = None
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What all probes found for one representation on one task.

    Attributes:
        representation: Its name, as in tables.
        dimension: Values of one of its embeddings.
        task: Name of the task.
        kind: `classification`, `regression`, `recommendation` or `neighbours`.
        metric: The task's score.
        n_items: Items that were used.
        left_out: Item -> reason, for items whose audio cannot be used.
        probes: In a fixed order: the first is the one that headlines show, the last one is `chance`.
        counts: What was found and what the data set's authors state, such as
            `{"items": {"found": 930, "published": 930}}`; ready for JSON.
    """

    representation: str
    dimension: int
    task: str
    kind: Kind
    metric: str
    n_items: int
    left_out: Mapping[str, str]
    probes: tuple[ProbeResult, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Two representations on the same test units of one task, with one probe.

    Attributes:
        task: Name of the task.
        probe: Name of the probe.
        metric: The task's score.
        first: Name of a representation.
        second: Name of the other one.
        difference: Score of `first` minus that of `second`.
        low: Lower end of the 95% interval of `difference`.
        high: Upper end.
        p_value: Two-sided, of the paired test.
        n_units: Units that were compared.
        n_groups: What was exchanged together: groups, or the units themselves.
    """

    task: str
    probe: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    n_units: int
    n_groups: int
