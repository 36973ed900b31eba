"""Tracks that a catalogue has twice: the same recording under another name, in another format or bit rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasrep.embedding.listening.nearest import NearestRows
from kerasrep.embedding.listening.space import Space
from kerasrep.embedding.listening.tracks import Tracks

#: Similarity of centred track vectors from which on two tracks are called the same recording, where each is
#: the nearest to the other; and without that. Measured by `benchmarks/duplicates.py`.
THRESHOLD, CERTAIN = 0.8, 0.995
#: Lengths of the same recording: formats pad, and players cut silence.
SECONDS_APART, SHARE_APART = 1.0, 0.02
#: Tracks that each is compared with: those nearest to it.
_CANDIDATES = 20
_AT_ONCE = 4096


@dataclass(frozen=True)
class Pair:
    """Two tracks that sound like the same recording.

    Attributes:
        first: As the table names it; the one that comes earlier.
        second: The other.
        similarity: Of their centred vectors.
    """

    first: str
    second: str
    similarity: float


def duplicates(tracks: Tracks, threshold: float = THRESHOLD) -> list[Pair]:
    """Pairs of tracks of nearly equal length whose vectors point the same way, the most similar first.

    Args:
        tracks: Of a table; where rows are segments, their means are compared.
        threshold: Least similarity of two that are each nearest to the other; others need 0.995, or this where
            it is more. Of more copies than 20, not every pair is found.

    Raises:
        DataError: Where an embedding is zero.
    """
    unit = Space(tracks).unit(tracks.vectors)
    nearest = NearestRows(unit, len(unit))
    found: dict[tuple[int, int], float] = {}
    first_of: dict[int, int] = {}
    for start in range(0, len(unit), _AT_ONCE):
        rows, similarities = nearest.find(unit[start : start + _AT_ONCE], _CANDIDATES + 1)
        for one, (some, values) in enumerate(zip(rows.tolist(), similarities.tolist(), strict=True), start):
            others = [(row, value) for row, value in zip(some, values, strict=True) if row != one]
            if others:
                first_of[one] = others[0][0]
            near = (pair for pair in others if pair[1] >= threshold)
            found |= {(min(one, row), max(one, row)): value for row, value in near}
    pairs = [
        Pair(tracks.paths[one], tracks.paths[other], similarity)
        for (one, other), similarity in found.items()
        if (similarity >= CERTAIN or (first_of.get(one), first_of.get(other)) == (other, one))
        and _equally_long(tracks.seconds[one], tracks.seconds[other])
    ]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _equally_long(one: float, other: float) -> bool:
    """Whether lengths in seconds are those of one recording; where they are not known they may be."""
    apart = abs(one - other)
    return bool(np.isnan(apart) or apart <= max(SECONDS_APART, SHARE_APART * max(one, other)))
