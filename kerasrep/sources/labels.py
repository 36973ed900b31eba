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
