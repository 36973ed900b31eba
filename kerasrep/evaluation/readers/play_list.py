"""Items and plays of a recommendation task from two tables, and what readers of play counts share."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.errors import DataError, prints
from kerasrep.evaluation.base import PlayData
from kerasrep.evaluation.readers.items import AudioFolder
from kerasrep.storage.tables import is_unknown, parse_number, read_table

DEFAULT_HELD_OUT_FRACTION = 0.05  # of the items, as in the paper
MOST_NAMED = 3  # unknown items that a notice names
_FOLDED_AT = 1 << 20  # entries after which equal ones are added up, so that memory follows distinct pairs


def read_play_list(
    plays: Path,
    items: Path,
    audio: Path | None = None,
    *,
    held_out_fraction: float = DEFAULT_HELD_OUT_FRACTION,
    allow_absolute: bool = False,
) -> PlayData:
    """Read a table of plays and the table of its items.

    Args:
        plays: CSV or TSV file with the columns `user`, `item` and, where plays are counted, `plays`.
            Rows of one user and item are added up.
        items: CSV or TSV file with the columns `item`, `path` and, for versions of one piece, `group`.
        audio: Folder that paths are relative to; the folder of `items` by default.
        held_out_fraction: Of the items, in each repeat.
        allow_absolute: Take absolute paths as they are; for tables that the program has written itself.

    Returns:
        Items in the order of their table, users in the order in which `plays` first names them.

    Raises:
        DataError: Where a table cannot be read or is malformed, an item is there twice, a path leads out
            of `audio`, or fewer than 2 items or users are left.
    """
    table = ItemTable.read(items, audio, allow_absolute)
    counter = PlayCounter(table)
    for place, (user, item, written) in read_table(plays, ("user", "item"), ("plays",)):
        if not user or not item:
            raise DataError(f"{place}: column '{'item' if user else 'user'}' is empty")
        count = 1.0 if is_unknown(written) else parse_number(written, place, "plays", 0)
        counter.add(user, item, count)
    return counter.finish(plays, held_out_fraction)


class ItemTable:
    """Items of a recommendation task and where their audio lies.

    Attributes:
        rows: Item -> position.
        paths: Audio of each item.
        groups: Group of each item; `None` where the table names none.
        notices: Lines the user must read.
    """

    def __init__(
        self, paths: dict[str, Path], groups: list[str] | None = None, notices: Sequence[str] = ()
    ) -> None:
        self.rows = {item: row for row, item in enumerate(paths)}
        self.paths = tuple(paths.values())
        self.groups = groups
        self.notices = notices

    @classmethod
    def read(cls, table: Path, audio: Path | None = None, allow_absolute: bool = False) -> ItemTable:
        """Read the columns `item`, `path` and `group`; see `read_play_list`."""
        folder = AudioFolder(table.parent if audio is None else audio, allow_absolute)
        paths: dict[str, Path] = {}
        groups: list[str] = []
        for place, (item, written, group) in read_table(table, ("item", "path"), ("group",)):
            if not item:
                raise DataError(f"{place}: column 'item' is empty")
            if not prints(f"{item}{group}"):
                raise DataError(f"{place}: item {item[:80]!r} has characters that cannot be printed")
            if item in paths:
                raise DataError(f"{place}: item {item[:80]!r} is there already; keep one of its rows")
            paths[item] = folder.find(written, place)
            groups.append(f"item {item}" if is_unknown(group) else group)
        notices = folder.notices(table)
        own = groups == [f"item {item}" for item in paths]
        return cls(paths, None if own else groups, notices)


class PlayCounter:
    """Adds up plays of known items; memory grows with distinct pairs of user and item, not with plays.

    Args:
        items: What may be played; plays of anything else are counted apart.
    """

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._users: dict[str, int] = {}
        self._rows, self._columns, self._values = array("i"), array("i"), array("d")
        self._folded: sparse.csr_matrix | None = None
        self._unknown: dict[str, None] = {}
        self.n_unknown = 0

    def add(self, user: str, item: str, plays: float = 1.0) -> None:
        """Add plays of one item by one user; none at all are not stored."""
        column = self._items.rows.get(item)
        if column is None:
            self.n_unknown += 1
            if len(self._unknown) < MOST_NAMED:
                self._unknown[item] = None
            return
        if not plays:
            return
        self._rows.append(self._users.setdefault(user, len(self._users)))
        self._columns.append(column)
        self._values.append(plays)
        if len(self._values) >= _FOLDED_AT:
            self._fold()

    def finish(
        self,
        source: Path,
        held_out_fraction: float = DEFAULT_HELD_OUT_FRACTION,
        notices: tuple[str, ...] = (),
    ) -> PlayData:
        """The plays as a matrix; items that nobody played stay (they may be ranked, but are never relevant).

        Raises:
            DataError: Where fewer than 2 items were played, or by fewer than 2 users.
        """
        plays = self._fold()
        n_played = int(np.count_nonzero(np.bincount(plays.indices, minlength=plays.shape[1])))
        for number, what in ((n_played, "items with audio were"), (len(self._users), "users have")):
            if number < 2:
                raise DataError(
                    f"{source}: {number} {what} played; a recommendation task needs at least 2 "
                    f"(plays of unknown items: {self.n_unknown})"
                )
        found = [*self._items.notices, *notices]
        if self.n_unknown:
            named = ", ".join(repr(item[:40]) for item in self._unknown)
            found.append(
                f"{source}: {self.n_unknown} plays of items without audio are left out, such as {named}"
            )
        if n_played < plays.shape[1]:
            found.append(f"{source}: {plays.shape[1] - n_played} of {plays.shape[1]} items were never played")
        groups: NDArray[np.str_] | None = None
        if self._items.groups is not None:
            groups = np.array(self._items.groups)
        return PlayData(
            tuple(self._items.rows),
            self._items.paths,
            tuple(self._users),
            plays,
            groups,
            held_out_fraction=held_out_fraction,
            notices=tuple(found),
        )

    def _fold(self) -> sparse.csr_matrix:
        """Everything so far as a float64 matrix [users, items]."""
        shape = (len(self._users), len(self._items.rows))
        entries = np.array(self._values), (np.array(self._rows), np.array(self._columns))
        matrix = sparse.coo_matrix(entries, shape).tocsr()
        if self._folded is not None:
            self._folded.resize(shape)
            matrix = matrix + self._folded
        matrix.sum_duplicates()
        self._folded = matrix
        self._rows, self._columns, self._values = array("i"), array("i"), array("d")
        return matrix
