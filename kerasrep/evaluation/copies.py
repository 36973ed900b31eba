"""The same recording under several names: no copy may be learnt from while another one is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kerasrep.evaluation.base import TEST, LabelledData


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


def with_copies_together(
    data: LabelledData, rows: NDArray[np.intp], matrix: NDArray[np.float32]
) -> tuple[LabelledData, str]:
    """Put items with equal embeddings, so with the same audio, into one group where no split is given.

    Args:
        data: A task.
        rows: Items that have an embedding.
        matrix: float32 [rows, dimension].

    Returns:
        The task, and what people must know; empty where there are no copies.
    """
    pairs = [(int(rows[n]), int(rows[first])) for n, first in enumerate(equal_rows(matrix)) if n != first]
    if not pairs:
        return data, ""
    what = f"{len(pairs)} items are copies of another one (the same audio under another name)"
    if data.splits is not None:
        sides = join_groups([str(n) for n in range(len(data.item_ids))], pairs)
        learnt = {side for side, split in zip(sides, data.splits, strict=True) if split != TEST}
        leaks = sum(side in learnt for side, split in zip(sides, data.splits, strict=True) if split == TEST)
        return (
            data,
            f"{what}; {leaks} test items are in training as well, so scores are too good" if leaks else what,
        )
    own = [f"item {item}" for item in data.item_ids] if data.groups is None else data.groups.tolist()
    groups = np.array(join_groups(own, pairs))
    if isinstance(data.labels[0], str):
        of_label = {label: len(set(groups[data.labels == label])) for label in set(data.labels.tolist())}
        if min(of_label.values()) < 2:
            return data, f"{what}; they stay apart, as a class would have one group: scores may be too good"
    return replace(data, groups=groups), f"{what}; copies are one group, never learnt and tested at once"
