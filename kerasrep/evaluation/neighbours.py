"""How often what lies nearest has the same label: nothing is learnt from the labels.

Vectors are standardised over all items of the task and compared by cosine, so that the scale of features
favours no model (`kerasrep-search` centres them alone). Items of the same group (versions of a piece,
stretches of a recording) are no neighbours of each other. An item whose label nobody outside its group has
cannot find it, and is not asked; it may be found by others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.evaluation.base import METRICS, FoldScore, LabelledData, ProbeResult
from kerasrep.evaluation.probing.probes import CHANCE, varying
from kerasrep.evaluation.significance import blocks_of, mean_interval

PROBE = "cosine"
#: Neighbours that the second metric is a share of.
N_NEIGHBOURS = 5
#: Items that are looked up at once, so that memory does not grow with their square.
CHUNK_ITEMS = 512


def evaluate_neighbours(
    data: LabelledData, embeddings: NDArray[np.float32], seed: int = 0, shuffle_labels: bool = False
) -> tuple[ProbeResult, ProbeResult]:
    """Ask each item for its nearest neighbours.

    Args:
        data: Items with labels; item `i` belongs to row `i` of the embeddings. A split counts for nothing.
        embeddings: float32 [items, dimension].
        seed: Of resampling and shuffling.
        shuffle_labels: A control: labels are permuted over all items before anything else.

    Returns:
        The shares by cosine, with one unit an item that is asked, and those of neighbours drawn at random.

    Raises:
        DataError: Where no item has its label in common with another one outside its group.
    """
    labels = data.labels.astype(np.str_)
    if shuffle_labels:
        labels = np.random.default_rng(seed).permutation(labels)
    ids = np.asarray(data.item_ids, np.str_)
    groups = np.unique(ids if data.groups is None else data.groups, return_inverse=True)[1]
    asked, nearest, first, five, by_chance = _look_up(labels, groups, _standardised(embeddings))
    if not asked.size:
        raise DataError(
            f"no item has its label in common with another one outside its group, such as {ids[0]}; choose "
            "other groups or labels"
        )
    asked_groups = None if data.groups is None else np.asarray(data.groups, np.str_)[asked]

    def result(probe: str, first: NDArray[np.float64], five: NDArray[np.float64]) -> ProbeResult:
        low, high = mean_interval(first, blocks_of(ids[asked], asked_groups), seed)
        values = zip(METRICS["neighbours"], (first, five), strict=True)
        return ProbeResult(
            probe=probe,
            metric=METRICS["neighbours"][0],
            mean=float(first.mean()),
            low=low,
            high=high,
            scores=tuple(FoldScore(0, metric, float(shares.mean())) for metric, shares in values),
            unit_ids=ids[asked],
            unit_folds=np.zeros(len(asked), np.int64),
            unit_scores=first,
            unit_groups=asked_groups,
            truths=labels[asked] if probe == PROBE else None,
            predictions=labels[nearest] if probe == PROBE else None,
            details={"asked": len(asked), "not_asked": len(ids) - len(asked)},
        )

    return result(PROBE, first, five), result(CHANCE, by_chance, by_chance)


def _look_up(
    labels: NDArray[np.str_], groups: NDArray[np.intp], unit_vectors: NDArray[np.float64]
) -> tuple[NDArray[Any], ...]:
    """Ask every item that can be.

    Returns:
        Rows of those that were asked; of each its nearest neighbour, whether that is right, the share of
        right ones among `N_NEIGHBOURS`, and among all candidates.
    """
    found: list[tuple[NDArray[Any], ...]] = []
    for start in range(0, len(labels), CHUNK_ITEMS):
        rows = np.arange(start, min(start + CHUNK_ITEMS, len(labels)))
        candidates = groups[rows, np.newaxis] != groups
        right = (labels[rows, np.newaxis] == labels) & candidates
        similarity = np.where(candidates, unit_vectors[rows] @ unit_vectors.T, -np.inf)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :N_NEIGHBOURS]
        # In a small task some have fewer candidates than that.
        there = np.take_along_axis(candidates, nearest, axis=1).sum(axis=1)
        hits = np.take_along_axis(right, nearest, axis=1)
        askable = right.any(axis=1)
        columns = (
            rows,
            nearest[:, 0],
            hits[:, 0].astype(np.float64),
            hits.sum(axis=1) / np.maximum(there, 1),
            right.sum(axis=1) / np.maximum(candidates.sum(axis=1), 1),
        )
        found.append(tuple(column[askable] for column in columns))
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))


def _standardised(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each feature to mean 0 and deviation 1, then each vector to length 1."""
    values = embeddings.astype(np.float64)
    deviation = values.std(axis=0)
    kept = varying(embeddings, deviation)
    values = (values[:, kept] - values[:, kept].mean(axis=0)) / deviation[kept]
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit_vectors: NDArray[np.float64] = values / np.where(length > 0, length, 1)
    return unit_vectors
