"""What became of the rows of a table about a folder's tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.storage.tables import is_unknown
from kerasrep.storage.track_names import Keys, Unnamed

#: Names of columns, required and optional -> where each row stands, and its fields: `read_table` of a file.
Read = Callable[[Sequence[str], Sequence[str]], Iterator[tuple[str, list[str]]]]
_UNKNOWN = "say nothing (unknown)"


@dataclass
class Tally:
    """What became of the rows of one table."""

    path: Path
    used: int = 0
    silent: int = 0
    odd: Counter[str] = field(default_factory=Counter)
    unnamed: Unnamed = field(default_factory=Unnamed)

    def row_of(self, key: str, place: str, keys: Keys, column: str = "track") -> int | None:
        """Position of the track that `key` names; otherwise None, counted."""
        if not key:
            raise DataError(f"{place}: column '{column}' is empty")
        row = self.unnamed.look(keys, key)
        if row is None:
            self.odd["name several tracks" if keys.is_ambiguous(key) else "name no track"] += 1
        else:
            self.used += 1
        return row

    def is_unknown(self, text: str) -> bool:
        """Whether the row of a known track says nothing of it; counted."""
        if not is_unknown(text):
            return False
        self.says_nothing(_UNKNOWN)
        return True

    def says_nothing(self, why: str, count: int = 1) -> None:
        """Count rows of known tracks that say nothing of them."""
        self.odd[why] += count
        self.silent += count

    def close(self, keys: Keys, notices: list[str]) -> None:
        """Add a notice where rows were odd.

        Raises:
            DataError: Where no row was used.
        """
        if not self.used:
            sides = self.unnamed.compared(keys) if self.unnamed.names else f"files such as {keys.examples()}"
            raise DataError(f"{self.path}: no row names a track of the folder ({sides})")
        if self.used == self.silent:
            raise DataError(f"{self.path}: no row says anything of a track: all values are unknown")
        for overlooked, count in self.unnamed.guessed.items():
            self.odd[f"name a track only without {overlooked}"] = count
        if any(self.odd.values()):
            parts = ", ".join(f"{count} {what}" for what, count in sorted(self.odd.items()) if count)
            sides = f" ({self.unnamed.compared(keys)})" if self.unnamed.names else ""
            notices.append(f"{self.path}: of {self.used + self._unused} rows {parts}{sides}")

    @property
    def _unused(self) -> int:
        return self.odd["name several tracks"] + self.odd["name no track"]
