"""Tracks that a catalogue has twice: the same recording under another name, in another format or bit rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasrep.embedding.listening.nearest import NearestRows
from kerasrep.embedding.listening.space import Space
from kerasrep.embedding.listening.tracks import Tracks

#: Similarity of centred track vectors from which on a pair is called the same recording.
THRESHOLD = 0.95
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

    Each track is compared with the 20 nearest to it.

    Args:
        tracks: Of a table; where rows are segments, their means are compared.
        threshold: Least similarity.

    Raises:
        DataError: Where an embedding is zero.
    """
    space = Space(tracks)
    unit = space.unit(tracks.vectors)
    nearest = NearestRows(unit, len(unit))
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(unit), _AT_ONCE):
        rows, similarities = nearest.find(unit[start : start + _AT_ONCE], _CANDIDATES + 1)
        firsts, places = np.nonzero(similarities >= threshold)
        for first, place in zip(firsts.tolist(), places.tolist(), strict=True):
            one, other = start + first, int(rows[first, place])
            if one != other and _equally_long(tracks.seconds[one], tracks.seconds[other]):
                pair = (min(one, other), max(one, other))
                found[pair] = float(unit[one] @ unit[other])
    pairs = [Pair(tracks.paths[a], tracks.paths[b], similarity) for (a, b), similarity in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _equally_long(one: float, other: float) -> bool:
    """Whether lengths in seconds are those of one recording; where they are not known they may be."""
    apart = abs(one - other)
    return bool(np.isnan(apart) or apart <= max(SECONDS_APART, SHARE_APART * max(one, other)))
