"""Raw labels: what a corpus knows of its tracks, before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.sources.stretches import Stretches


@dataclass(frozen=True)
class ValueLabels:
    """One number a track, for a mixture: tempi, years.

    Attributes:
        track_ids: Tracks that have a value.
        values: float64 [tracks]; beats a minute, or calendar years.
    """

    track_ids: Sequence[str]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class CountLabels:
    """Documents and the weighted terms they hold, for the sources that pLSA factorises.

    A document is a track, except for `artist`, where it is an artist whose target all tracks share.

    Attributes:
        counts: [documents, terms], non-negative.
        terms: Name of each column.
        track_ids: Tracks that have a document.
        documents: int64 [tracks]: row of `counts` that belongs to each track.
    """

    counts: sparse.csr_matrix
    terms: Sequence[str]
    track_ids: Sequence[str]
    documents: NDArray[np.int64]


@dataclass(frozen=True)
class StretchLabels:
    """Classes, labels, numbers or vectors of tracks, or of stretches of them.

    Attributes:
        track_ids: Tracks that have any.
        stretches: Their rows; numbers as they are read.
        terms: Names of the classes or labels; none for numbers and vectors.
        left_out: What was left out -> how much of it, for the report.
        standardised: Whether targets are the values in standard deviations from their mean.
    """

    track_ids: Sequence[str]
    stretches: Stretches
    terms: Sequence[str] = ()
    left_out: Mapping[str, Any] = field(default_factory=dict)
    standardised: bool = False


RawLabels = ValueLabels | CountLabels | StretchLabels


def say_the_same(labels: RawLabels, tracks: NDArray[np.bool_] | None = None) -> bool:
    """Whether some tracks have labels that are all alike, so that there is nothing to learn.

    Args:
        labels: Of one source.
        tracks: bool [tracks of `labels`], at least one of them; by default all.
    """
    rows = np.arange(len(labels.track_ids)) if tracks is None else np.flatnonzero(tracks)
    if isinstance(labels, ValueLabels):
        return len(np.unique(labels.values[rows])) < 2
    if isinstance(labels, StretchLabels):
        stretches = labels.stretches.take(rows)
        if stretches.times is None:
            values, known = stretches.targets(np.arange(len(rows)))
            values = values[known]
        elif stretches.gaps_negative:
            return False
        else:
            values = stretches.values
        return bool((values == values[:1]).all())
    documents = np.unique(labels.documents[rows])
    n_terms = np.diff(labels.counts.indptr)[documents]
    if len(np.unique(n_terms[n_terms > 0])) > 1:  # as most are; nothing is copied
        return False
    counts = sparse.csr_matrix(labels.counts[documents[n_terms > 0]])
    counts.sort_indices()
    n_documents, terms = counts.shape[0], np.unique(counts.indices)
    if counts.nnz != n_documents * len(terms):
        return False
    weights = counts.data.reshape(n_documents, len(terms)).astype(np.float64)
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return bool(np.allclose(shares, shares[:1]))
