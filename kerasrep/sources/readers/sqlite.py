"""SQLite files from elsewhere, opened so that nothing in them can run or be written.

Read-only and immutable (no journal is looked for), the schema untrusted, and only plain tables with the
columns asked for: a view, virtual table or generated column in their place is refused. Texts come as
bytes; those of more than `limits.DATABASE_VALUE_BYTES` are refused, and so are more rows than the file has
room for.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kerasrep.errors import DataError
from kerasrep.runtime.console import Progress
from kerasrep.sources.readers.reading import shown
from kerasrep.storage import limits
from kerasrep.storage.regular_file import opened

BLOCK_ROWS = 50_000
MIN_ROW_BYTES = 5  # sizes of payload and header, row id, one column, and the pointer to the cell
_MAGIC = b"SQLite format 3\0"


class Database:
    """An open database with checked tables; see `opened_database`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._max_rows = path.stat().st_size // MIN_ROW_BYTES

    def blocks(
        self, table: str, columns: Sequence[str], progress: bool = False
    ) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
        """Yield the number of a block's first row, from 1, and its columns as tuples, in the file's order.

        Args:
            table: One of those named when opening.
            columns: Of `table`, or `rowid`.
            progress: Show a count of rows.

        Raises:
            DataError: Where the file is damaged.
        """
        number = 1
        bar = Progress(None, f"reading {self.path.name}: {table}", "row", progress, unit_scale=True)
        with bar, _told(self.path):
            names = ", ".join(f'"{column}"' if column != "rowid" else column for column in columns)
            cursor = self._connection.execute(f'SELECT {names} FROM "{table}" NOT INDEXED')
            while rows := cursor.fetchmany(BLOCK_ROWS):
                if number + len(rows) > self._max_rows + 1:
                    raise DataError(
                        f"{self.path}: table '{table}' gives more rows than the file has room for"
                    )
                yield number, list(zip(*rows, strict=True))
                number += len(rows)
                bar.update(len(rows))

    def place(self, table: str, number: int) -> str:
        """Where row `number` stands, for messages."""
        return f"{self.path}, table '{table}', row {number}"

    def check_types(self, table: str, number: int, column: str, values: Sequence[Any], *kinds: type) -> None:
        """Refuse a value that is none of `kinds`.

        Args:
            table: Where `values` come from.
            number: Row of the first.
            column: Their name.
            values: A column of a block.
            kinds: `bytes` for text, `int`, `float`.

        Raises:
            DataError: Naming the first row that is wrong.
        """
        if set(map(type, values)) <= set(kinds):
            return
        row, value = next((i, v) for i, v in enumerate(values) if type(v) not in kinds)
        words = {bytes: "text", int: "a whole number", float: "a number"}
        raise DataError(
            f"{self.place(table, number + row)}: column '{column}' has {shown(value)}, "
            f"{words[kinds[-1]]} was expected"
        )


@contextlib.contextmanager
def opened_database(path: Path, tables: Mapping[str, Sequence[str]]) -> Iterator[Database]:
    """Open a database for reading and check its schema.

    Args:
        path: The file.
        tables: Table -> columns it must have; both come from the program, never from the file.

    Raises:
        DataError: Where it is no SQLite file, is truncated, or lacks a table or column.
    """
    _check_file(path)
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    with _told(path):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        with _told(path):
            connection.text_factory = bytes
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.DATABASE_VALUE_BYTES.value)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            for table, columns in tables.items():
                _check_table(path, connection, table, columns)
        yield Database(path, connection)
    finally:
        connection.close()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's complaints as one line."""
    try:
        yield
    except UnicodeDecodeError as error:  # Python reads SQLite's own messages so, which quote the file
        raise DataError(f"{path}: cannot be read as a database (damaged names); fetch it again") from error
    except sqlite3.Error as error:
        reason = " ".join(str(error).split())[:100]
        advice = "fetch it again"
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG:
            advice = limits.DATABASE_VALUE_BYTES.advice
        raise DataError(f"{path}: cannot be read as a database ({reason}); {advice}") from error


def _check_file(path: Path) -> None:
    """Refuse what is no whole SQLite file, before SQLite opens it."""
    with opened(path, "an SQLite database") as file:
        header, size = file.read(100), path.stat().st_size
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise DataError(f"{path}: is not an SQLite database; fetch it again")
    page = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (65_536 if page == 1 else page)
    in_use = header[24:28] == header[92:96]  # else an old version wrote last and left the size as it was
    if in_use and size < expected:
        raise DataError(f"{path}: has {size:,} bytes instead of {expected:,}; fetch it again")


def _check_table(path: Path, connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
    query = "SELECT type, rootpage FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type <> 'index'"
    found = connection.execute(query, (table,)).fetchall()
    if not found:
        raise DataError(f"{path}: lacks the table '{table}' ({', '.join(columns)}); is it the right file?")
    kinds = {(kind, bool(root)) for kind, root in found}
    if kinds != {(b"table", True)}:
        kind = next(kind.decode("utf-8", "replace") for kind, _ in found)
        kind = "virtual table" if kind == "table" else kind
        raise DataError(f"{path}: '{table}' is a {kind}; a plain table was expected")
    present = {
        row[1].decode("utf-8", "replace").lower(): row[6]
        for row in connection.execute(f'PRAGMA table_xinfo("{table}")')
    }
    for column in columns:
        if column.lower() not in present:
            raise DataError(f"{path}: table '{table}' lacks the column '{column}'; is it the right file?")
        if present[column.lower()]:
            raise DataError(f"{path}: column '{column}' of table '{table}' is computed; not read")
