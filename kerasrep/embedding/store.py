"""Embeddings and hashes of files, kept in SQLite.

One file a fingerprint, because a folder of 25,000 small files is slow on every file system, and because
SQLite is safe where it matters: what was committed survives a kill, several processes may write at once, and
a reader never sees half a row. The rollback journal is used rather than WAL, which network file systems do
not support. A row carries a checksum; a row or a file that is damaged is computed again.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError

FORMAT = 1
LOCK_SECONDS = 120.0
#: Values that one SQL statement asks for; SQLite allows 999 at least.
_KEYS_A_QUERY = 500
#: Primary codes of sqlite3.DatabaseError: another table layout, a damaged file, no database at all.
_DAMAGED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SCHEMA = {
    "embeddings": "CREATE TABLE IF NOT EXISTS embeddings "
    "(content BLOB PRIMARY KEY, seconds REAL NOT NULL, checksum INTEGER NOT NULL, embedding BLOB NOT NULL)",
    "hashes": "CREATE TABLE IF NOT EXISTS hashes "
    "(path BLOB PRIMARY KEY, state TEXT NOT NULL, content BLOB NOT NULL)",
}

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class Database:
    """A SQLite file with one table; opened when first used, begun anew where it is damaged.

    Args:
        path: Of the file; its folder is made where it is missing.
        table: `embeddings` or `hashes`.
    """

    def __init__(self, path: Path, table: str) -> None:
        self.path = path
        self._table = table
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, query: str, keys: Sequence[bytes]) -> list[tuple[object, ...]]:
        """Rows of a query that ends with `IN` over any number of keys."""

        def work(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            rows: list[tuple[object, ...]] = []
            for start in range(0, len(keys), _KEYS_A_QUERY):
                part = keys[start : start + _KEYS_A_QUERY]
                places = ",".join("?" * len(part))
                rows += connection.execute(f"{query} IN ({places})", part).fetchall()
            return rows

        return self._attempt(work)

    def write(self, columns: int, rows: Iterable[tuple[object, ...]]) -> None:
        """Insert rows, or replace those of the same key, in one transaction."""
        kept, places = list(rows), ",".join("?" * columns)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES ({places})", kept)
            connection.execute("COMMIT")

        if kept:
            self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Do some work; where the file turns out to be damaged, once more on an empty one."""
        try:
            try:
                return self._begin(work)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_NOTADB) & 0xFF not in _DAMAGED:
                    raise
                _log.warning("%s: is damaged (%s); what it held is computed again", self.path, error)
                # The journal first: it must not be played back into the new file.
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
                return self._begin(work)
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            advice = "set KERASREP_HOME to a folder that can be written"
            raise DataError(f"{self.path}: embeddings cannot be kept there ({reason}); {advice}") from error

    def _begin(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return work(self._open())
        except BaseException:
            self.close()  # which rolls back, so that the next use does not find an open transaction
            raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Transactions are ours to begin; `sqlite3` would begin them without a lock.
        connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                connection.execute("PRAGMA page_size = 16384")  # an embedding is about that long
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA[self._table])
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute("COMMIT")
            elif found != FORMAT:
                raise sqlite3.DatabaseError(f"format {found}, not {FORMAT}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


class EmbeddingStore(Database):
    """Embeddings of one representation by the content of the audio file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "embeddings")

    def get(self, contents: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Those embeddings that are there and whole.

        Args:
            contents: SHA-256 of files.

        Returns:
            Content -> float32 [dimension].
        """
        query = "SELECT content, checksum, embedding FROM embeddings WHERE content"
        found = {}
        for content, checksum, blob in self.read(query, contents):
            whole = isinstance(content, bytes) and isinstance(blob, bytes) and blob and not len(blob) % 4
            if whole and checksum == _checksum(content, blob):  # type: ignore[arg-type]
                found[content] = np.frombuffer(blob, "<f4").astype(np.float32)  # type: ignore[call-overload]
        return found  # type: ignore[return-value]

    def put(self, embeddings: Mapping[bytes, tuple[NDArray[np.float32], float]]) -> None:
        """Keep embeddings, all or none.

        Args:
            embeddings: Content -> float32 [dimension], and seconds of audio.
        """
        rows = []
        for content, (embedding, seconds) in embeddings.items():
            blob = embedding.astype("<f4").tobytes()
            rows.append((content, seconds, _checksum(content, blob), blob))
        self.write(4, rows)


class HashStore(Database):
    """SHA-256 of files by path, valid while the state of the file is the same."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "hashes")

    def get(self, states: Mapping[bytes, str]) -> dict[bytes, bytes]:
        """Path -> SHA-256, for files whose state is as it was.

        Args:
            states: Path -> whatever changes when the file does.
        """
        rows = self.read("SELECT path, state, content FROM hashes WHERE path", list(states))
        return {path: content for path, state, content in rows if states[path] == state}  # type: ignore[misc,index]

    def put(self, hashes: Mapping[bytes, tuple[str, bytes]]) -> None:
        """Remember path -> state and SHA-256."""
        self.write(3, [(path, state, content) for path, (state, content) in hashes.items()])


def _checksum(content: bytes, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(content))
