"""The same recording under several names: no copy may be learnt from while another one is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.evaluation.base import TEST, LabelledData, TaskData
from kerasrep.report.wording import counted, listing

#: Items that must remain where those that a model has seen are left out.
LEAST_UNSEEN = 30


def equal_rows(matrix: NDArray[np.float32]) -> list[int]:
    """For each embedding, the first row with the same values."""
    first: dict[bytes, int] = {}
    return [first.setdefault(hashlib.sha256(row.tobytes()).digest(), n) for n, row in enumerate(matrix)]


def join_groups(groups: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Groups of which those of each pair of items are one.

    Args:
        groups: Of all items.
        pairs: Positions of two items each.
    """
    into: dict[str, str] = {}

    def root(group: str) -> str:
        while group in into:
            group = into[group]
        return group

    for one, other in pairs:
        first, second = sorted((root(groups[one]), root(groups[other])))
        if first != second:
            into[second] = first
    return [root(group) for group in groups]


def with_copies_together(data: TaskData, pairs: Sequence[tuple[int, int]]) -> tuple[TaskData, str]:
    """Put copies of a recording into one group where no split is given.

    Args:
        data: A task.
        pairs: Positions of an item and of an earlier one that is the same recording.

    Returns:
        The task, and what people must know; empty where there are no copies.
    """
    if not pairs:
        return data, ""
    n_copies = len({one for one, _ in pairs})
    what = f"{n_copies:,} items are copies of another one (the same recording under another name)"
    if isinstance(data, LabelledData) and data.splits is not None:
        sides = join_groups([str(n) for n in range(len(data.item_ids))], pairs)
        learnt = {side for side, split in zip(sides, data.splits, strict=True) if split != TEST}
        leaks = sum(side in learnt for side, split in zip(sides, data.splits, strict=True) if split == TEST)
        return (
            data,
            f"{what}; {leaks} test items are in training as well, so scores are too good" if leaks else what,
        )
    own = [f"item {item}" for item in data.item_ids] if data.groups is None else data.groups.tolist()
    groups = np.array(join_groups(own, pairs))
    if isinstance(data, LabelledData) and isinstance(data.labels[0], str):
        of_label = {label: len(set(groups[data.labels == label])) for label in set(data.labels.tolist())}
        if min(of_label.values()) < 2:
            return data, f"{what}; they stay apart, as a class would have one group: scores may be too good"
    return replace(data, groups=groups), f"{what}; copies are one group, never learnt and tested at once"


@dataclass(frozen=True)
class Seen:
    """Items of a task that compared models were trained on.

    Attributes:
        by_model: Model -> ids of the items that it has seen, for those that have seen any.
        n_items: Of the task.
        removed: Whether they are left out for all models; otherwise too few would remain.
    """

    by_model: Mapping[str, tuple[str, ...]]
    n_items: int
    removed: bool

    @property
    def reasons(self) -> dict[str, str]:
        """Item -> who has seen it."""
        who: dict[str, list[str]] = {}
        for model, items in self.by_model.items():
            for item in items:
                who.setdefault(item, []).append(model)
        return {item: f"trained on by {listing(models)}" for item, models in who.items()}

    def counts(self) -> dict[str, Any]:
        """For the results."""
        by_model = {model: len(items) for model, items in self.by_model.items()}
        return {"items": len(self.reasons), "removed": self.removed, "by_model": by_model}

    def sentence(self) -> str:
        """For people."""
        models = ", ".join(f"{model} on {len(items):,}" for model, items in self.by_model.items())
        seen = f"of {counted(self.n_items, 'item')}, models were trained on {len(self.reasons):,} ({models})"
        if self.removed:
            return f"{seen}; they are left out for all models"
        return (
            f"{seen}; too few others remain, so that all are scored: seen in training, these scores do not "
            "tell how good the representation is on other recordings"
        )
