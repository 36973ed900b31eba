"""Which pieces become tracks, and which tracks validate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kerasrep.corpora.demo.catalogue import Collection
from kerasrep.corpora.demo.draws import digest
from kerasrep.corpora.demo.pieces import Groups, Piece

EVALUATION, LEARNING = "evaluation", "learning"  # learning: train or validation, decided when opened


@dataclass(frozen=True)
class Take:
    """One performance to be recorded.

    Attributes:
        piece: What is played.
        number: 0 for the first performance of the piece, 1 for the second...
        group: Versions of one tune.
        split: `EVALUATION` or `LEARNING`.
    """

    piece: Piece
    number: int
    group: str
    split: str

    @property
    def track_id(self) -> str:
        """Unique; also the file's stem."""
        return self.piece.piece_id + (f"-take{self.number + 1}" if self.number else "")


def quotas(collections: Sequence[Collection], n_tracks: int) -> dict[str, int]:
    """Tracks of each collection in proportion to its share, by largest remainders."""
    total = sum(collection.share for collection in collections)
    exact = {collection.name: n_tracks * collection.share / total for collection in collections}
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: n_tracks - sum(counts.values())]:
        counts[name] += 1
    return counts


class Stratum:
    """Endless takes of one collection's pieces in one split; pieces that fail are struck off."""

    def __init__(self, pieces: Sequence[Piece], groups: Groups, split: str, seed: int) -> None:
        """Put the pieces in a seeded order."""
        self.split = split
        self._groups = groups
        self._pieces = sorted(pieces, key=lambda piece: digest(seed, "piece", piece.piece_id))
        self._failed: set[str] = set()
        self._takes = self._endless()

    def strike(self, piece: Piece) -> None:
        """Take nothing more of this piece."""
        self._failed.add(piece.piece_id)

    def take(self, count: int) -> list[Take]:
        """The next `count` takes; fewer where no piece is left."""
        taken: list[Take] = []
        while len(taken) < count and len(self._failed) < len(self._pieces):
            taken.append(next(self._takes))
        return taken

    def _endless(self) -> Iterator[Take]:
        number = 0
        while True:
            for piece in self._pieces:
                if piece.piece_id not in self._failed:
                    yield Take(piece, number, self._groups.of_piece[piece.piece_id], self.split)
            number += 1


def strata(
    pieces: Sequence[Piece], groups: Groups, counts: Mapping[str, int], seed: int
) -> list[tuple[Stratum, int]]:
    """Every collection's reserved third and its rest, with the number of tracks wanted of each."""
    result = []
    for name, count in counts.items():
        own = [piece for piece in pieces if piece.collection == name]
        reserved = [piece for piece in own if groups.of_piece[piece.piece_id] in groups.evaluation]
        rest = [piece for piece in own if groups.of_piece[piece.piece_id] not in groups.evaluation]
        n_reserved = round(count / 3) if reserved else 0
        n_reserved = count if not rest else n_reserved
        result.append((Stratum(reserved, groups, EVALUATION, seed), n_reserved))
        result.append((Stratum(rest, groups, LEARNING, seed), count - n_reserved))
    return result


def validation_groups(groups: Mapping[str, str], fraction: float) -> set[str]:
    """Groups that validate: every 1/`fraction`-th, collection by collection.

    At least one group validates and at least one trains.

    Args:
        groups: Group -> collection, for the groups that may be learnt from.
        fraction: Of the groups.
    """
    ordered = sorted(groups, key=lambda group: (groups[group], digest("validation", group)))
    wanted = min(max(round(fraction * len(ordered)), 1), len(ordered) - 1)
    return {ordered[int((place + 0.5) * len(ordered) / wanted)] for place in range(max(wanted, 0))}
