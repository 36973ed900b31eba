"""The names under which tables speak of a folder's tracks, and what became of a table's rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasrep.errors import DataError


@dataclass(frozen=True)
class Keys:
    """The names under which tables may speak of tracks.

    Attributes:
        tracks: All track ids, in order.
        rows: Track id, or stem where only one track has it -> position in `tracks`.
        ambiguous: Stems of several tracks.
        root: The folder, absolute, as tables may name files by it.
    """

    tracks: Sequence[str]
    rows: Mapping[str, int]
    ambiguous: frozenset[str]
    root: str

    @classmethod
    def of(cls, tracks: Sequence[str], root: Path) -> Keys:
        """Find out which stems name a track."""
        stems = Counter(Path(track).stem for track in tracks)
        rows = {Path(track).stem: row for row, track in enumerate(tracks)}
        ambiguous = frozenset(stem for stem, count in stems.items() if count > 1)
        for stem in ambiguous:
            del rows[stem]
        rows.update({track: row for row, track in enumerate(tracks)})
        return cls(tracks, rows, ambiguous - rows.keys(), f"{root.absolute().as_posix()}/")

    def row(self, key: str) -> int | None:
        """Position of the track that `key` names, if any."""
        for name in (key, key.replace("\\", "/").removeprefix("./")):
            if name in self.rows:
                return self.rows[name]
        return self.rows.get(os.path.abspath(key).removeprefix(self.root)) if "/" in key else None  # noqa: PTH100 (as text)


@dataclass
class Tally:
    """What became of the rows of one table."""

    path: Path
    used: int = 0
    odd: Counter[str] = field(default_factory=Counter)

    def row_of(self, key: str, place: str, keys: Keys, column: str = "track") -> int | None:
        """Position of the track that `key` names; otherwise None, counted."""
        if not key:
            raise DataError(f"{place}: column '{column}' is empty")
        row = keys.row(key)
        if row is None:
            self.odd["name a stem of several tracks" if key in keys.ambiguous else "name no track"] += 1
        else:
            self.used += 1
        return row

    def close(self, keys: Keys, notices: list[str]) -> None:
        """Add a notice where rows were odd.

        Raises:
            DataError: Where no row was used.
        """
        if not self.used:
            raise DataError(
                f"{self.path}: no row names a track of the folder; expected paths such as {keys.tracks[0]!r}"
            )
        if self.odd:
            parts = ", ".join(f"{count} {what}" for what, count in sorted(self.odd.items()))
            notices.append(f"{self.path}: of {self.used + self._unused} rows {parts}")

    @property
    def _unused(self) -> int:
        return sum(count for what, count in self.odd.items() if what.startswith("name "))
