"""What is done of a catalogue, kept so that a kill at any moment loses a second of work and nothing else.

A SQLite file in a hidden folder beside the output. It holds the list of files as well, so that memory does
not grow with their number; rows come back in the order of that list, whatever order they were made in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.journal_tables import FILE_TYPES, SCHEMA, drop_tables, has_its_tables
from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.parts import Finished, Listed, parts_in
from kerasrep.embedding.files import BadFile
from kerasrep.errors import DataError, RecipeError

#: At most this much work is lost by a kill, and the files then open.
COMMIT_SECONDS = 1.0
#: Uncommitted rows are in memory.
COMMIT_BYTES = 1 << 25
WAITING, DONE, BAD = 0, 1, 2
_FORMAT = 1
#: Codes of a file that is damaged, or something else.
_NO_DATABASE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PAGE_FILES = 1000
#: A row's number is that of its file, and below these bits that of its first segment.
_SEGMENT_BITS = 32
_LIST = (
    "INSERT INTO files (path, position, size, modified, state, reason) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (path) DO UPDATE SET position = COALESCE(position, excluded.position), state = CASE WHEN "
    f"state = {DONE} AND size = excluded.size AND modified = excluded.modified THEN {DONE} "
    "ELSE excluded.state END, size = excluded.size, modified = excluded.modified, reason = excluded.reason"
)


@dataclass(frozen=True)
class Stored:
    """Rows of one file.

    Attributes:
        path: The file.
        seconds: How much audio it held.
        first: Number of the first segment; 0 where rows are pooled.
        values: float32 [rows, dimension].
    """

    path: Path
    seconds: float
    first: int
    values: NDArray[np.float32]


def journal_folder(output: Path) -> Path:
    """Where the work on `output` is kept until it is complete."""
    return output.with_name(f".{output.name}.parts")


class Journal:
    """The work on one output; one process at a time.

    Args:
        output: The table that shall be written.
        about: What it shall hold.
        restart: Forget what was done before, whatever its settings.

    Raises:
        RecipeError: Where work of other settings was begun there.
        DataError: Where the folder cannot be used, or another process uses it.
    """

    def __init__(self, output: Path, about: About, restart: bool = False) -> None:
        self.folder, self._about = journal_folder(output), about
        self._uncommitted_bytes, self._committed_seconds = 0, time.monotonic()
        self._connect()
        try:
            with self._errors():
                try:
                    self._open(restart)
                except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                    if not (restart and _code(error) in _NO_DATABASE):
                        raise
                    # No process works on what is no database.
                    self._connection.close()
                    shutil.rmtree(self.folder, ignore_errors=True)
                    self._connect()
                    self._open(restart)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Journal:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what was finished, whatever ended the work."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        self._connection.close()

    def list_files(self, found: Iterable[Path | BadFile]) -> None:
        """Take the list of files; those that are done and unchanged stay done.

        Others lose what was kept of them, and bad ones are tried again: what was wrong may be mended.
        """
        with self._errors():
            self._connection.execute("UPDATE files SET position = NULL")
            self._connection.executemany(_LIST, map(_listed, range(2**62), found))
            begun = self._connection.execute(
                f"SELECT DISTINCT vectors.id >> {_SEGMENT_BITS} AS file FROM vectors "
                f"LEFT JOIN files ON files.id = file WHERE files.state IS NOT {DONE}"
            ).fetchall()
            for (file,) in begun:
                self._connection.execute(
                    "DELETE FROM vectors WHERE id >= ? AND id < ?",
                    (file << _SEGMENT_BITS, (file + 1) << _SEGMENT_BITS),
                )
            self._commit()

    def count(self, state: int) -> int:
        """Files of the list in this state."""
        with self._errors():
            query = "SELECT COUNT(*) FROM files WHERE position IS NOT NULL AND state = ?"
            return int(self._connection.execute(query, (state,)).fetchone()[0])

    def todo(self) -> Iterator[tuple[int, Path]]:
        """Keys and paths of the files that are not done, in the order of the list."""
        for key, file, _, _ in self._files(WAITING):
            yield key, file.path

    def waiting(self) -> Iterator[Listed]:
        """The files that are not done, in the order of the list, as they were listed."""
        for _, file, _, _ in self._files(WAITING):
            yield file

    def take(self, finished: Finished) -> bool:
        """Keep what was done elsewhere; False where the file is done, has changed or is not of the list."""
        file = finished.file
        with self._errors():
            found = self._connection.execute(
                "SELECT id FROM files WHERE path = ? AND size = ? AND modified = ? AND state = ? "
                "AND position IS NOT NULL",
                (_bytes(file.path), file.size, file.modified_ns, WAITING),
            ).fetchone()
            if found is None:
                return False
            rows = (((found[0] << _SEGMENT_BITS) | first, blob) for first, blob in finished.rows)
            self._connection.executemany("INSERT INTO vectors VALUES (?, ?)", rows)
        if finished.seconds is None:
            self.fail(found[0], finished.reason or "")
        else:
            self.finish(found[0], finished.seconds)
        return True

    def commit(self) -> None:
        """Keep everything so far, whatever comes."""
        self._commit()

    def add(self, key: int, first: int, values: NDArray[np.float32]) -> None:
        """Keep rows of a file: [rows, dimension], the first of which is that of segment `first`."""
        with self._errors():
            blob = np.ascontiguousarray(values, np.float32).tobytes()
            row = (key << _SEGMENT_BITS) | first
            self._connection.execute("INSERT INTO vectors VALUES (?, ?)", (row, blob))
        self._uncommitted_bytes += len(blob)
        if self._uncommitted_bytes > COMMIT_BYTES:
            self._commit()

    def finish(self, key: int, seconds: float) -> None:
        """All rows of a file are there."""
        with self._errors():
            self._connection.execute(
                f"UPDATE files SET state = {DONE}, seconds = ? WHERE id = ?", (seconds, key)
            )
        self._commit_at_times()

    def fail(self, key: int, reason: str) -> None:
        """A file cannot be used; what was kept of it goes."""
        with self._errors():
            self._connection.execute(
                f"UPDATE files SET state = {BAD}, reason = ? WHERE id = ?", (_text(reason), key)
            )
            self._connection.execute(
                "DELETE FROM vectors WHERE id >= ? AND id < ?",
                (key << _SEGMENT_BITS, (key + 1) << _SEGMENT_BITS),
            )
        self._commit_at_times()

    def bad(self) -> Iterator[BadFile]:
        """What could not be used, in the order of the list."""
        for _, file, _, reason in self._files(BAD):
            yield BadFile(file.path, reason)

    def paths(self) -> Iterator[tuple[Path, int]]:
        """Files that are done, in the order of the list, and how many bytes of rows each has."""
        for key, file, _, _ in self._files(DONE):
            with self._errors():
                query = "SELECT COALESCE(SUM(LENGTH(vectors)), 0) FROM vectors WHERE id >= ? AND id < ?"
                bounds = (key << _SEGMENT_BITS, (key + 1) << _SEGMENT_BITS)
                yield file.path, int(self._connection.execute(query, bounds).fetchone()[0])

    def rows(self, dimension: int) -> Iterator[Stored]:
        """All rows, in the order of the list."""
        for key, file, seconds, _ in self._files(DONE):
            bounds = (key << _SEGMENT_BITS, (key + 1) << _SEGMENT_BITS)
            query = "SELECT id, vectors FROM vectors WHERE id >= ? AND id < ? ORDER BY id"
            with self._errors():
                for row, blob in self._connection.execute(query, bounds):
                    if type(blob) is not bytes or not blob or len(blob) % (4 * dimension):
                        raise self._damaged(f"rows of {file.path}")
                    values = np.frombuffer(blob, np.float32).reshape(-1, dimension)
                    yield Stored(file.path, seconds, row & ((1 << _SEGMENT_BITS) - 1), values)

    def remove(self) -> None:
        """The output is complete."""
        self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _connect(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.folder / "journal.sqlite", timeout=0, isolation_level=None
            )
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{self.folder}: cannot be written ({_reason(error)})") from error

    def _open(self, restart: bool) -> None:
        execute = self._connection.execute
        execute("PRAGMA trusted_schema = OFF")
        execute("PRAGMA locking_mode = EXCLUSIVE")
        if execute("PRAGMA user_version").fetchone()[0] == 0:
            execute("PRAGMA page_size = 16384")
        execute("BEGIN EXCLUSIVE")  # before anything is dropped: another process may work on it
        if restart:
            self._drop()
        found = execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            for statement in SCHEMA:
                execute(statement)
            execute("INSERT INTO about VALUES (?)", (self._about.to_json(),))
            execute(f"PRAGMA user_version = {_FORMAT}")
        elif found != _FORMAT:
            raise sqlite3.DatabaseError(f"format {found}, not {_FORMAT}")
        else:
            if not has_its_tables(self._connection):
                raise self._damaged("its tables are others")
            self._check(execute("SELECT settings FROM about").fetchone())
        self._commit()

    def _drop(self) -> None:
        for path in parts_in(self.folder):
            path.unlink(missing_ok=True)
        drop_tables(self._connection)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.folder}: is damaged ({what}); begin anew with --restart")

    def _check(self, settings: tuple[Any, ...] | None) -> None:
        try:
            begun = About.from_json(settings[0] if settings else "")
        except DataError as error:
            raise DataError(f"{self.folder}: {error}, with --restart") from error
        before, now = begun.settings(), self._about.settings()
        other = [key for key in now if before[key] != now[key]]
        if other:
            raise RecipeError(
                f"{self.folder}: holds work that was begun with another {other[0]} ({before[other[0]]}, now "
                f"{now[other[0]]}); give the same settings, another -o, or --restart to begin anew"
            )

    def _files(self, state: int) -> Iterator[tuple[int, Listed, float, str]]:
        """Files of the list, page by page, as other statements run in between."""
        query = (
            "SELECT position, id, path, size, modified, seconds, reason FROM files "
            f"WHERE position > ? AND state = ? ORDER BY position LIMIT {_PAGE_FILES}"
        )
        last = -1
        while True:
            with self._errors():
                page = self._connection.execute(query, (last, state)).fetchall()
            if not page:
                return
            for row in page:
                if tuple(map(type, row[:5])) != FILE_TYPES or type(row[5]) not in (float, NoneType):
                    raise self._damaged(f"file {row[1]} of its list")
                position, key, path, size, modified_ns, seconds, reason = row
                last = position
                yield key, Listed(Path(os.fsdecode(path)), size, modified_ns), seconds or 0.0, reason or ""

    def _commit_at_times(self) -> None:
        if time.monotonic() - self._committed_seconds > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        with self._errors():
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            self._connection.execute("BEGIN")
        self._uncommitted_bytes, self._committed_seconds = 0, time.monotonic()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # Python reads names of tables so, and SQLite's messages
            raise self._damaged("names are not UTF-8") from error
        except OverflowError as error:
            raise self._damaged("a file has too large a number") from error
        except sqlite3.Error as error:
            if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise DataError(f"{self.folder}: another process works on this output") from error
            raise DataError(
                f"{self.folder}: cannot be used ({error}); free space, or delete it to begin anew"
            ) from error


def _listed(position: int, found: Path | BadFile) -> tuple[bytes, int, int, int, int, str | None]:
    if isinstance(found, BadFile):
        return _bytes(found.path), position, -1, 0, BAD, _text(found.reason)
    try:
        status = found.stat()
    except (OSError, ValueError):  # decoding says what is wrong
        return _bytes(found), position, -1, 0, WAITING, None
    return _bytes(found), position, status.st_size, status.st_mtime_ns, WAITING, None


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)


def _text(reason: str) -> str:
    """SQLite takes no lone surrogates, which bytes of a name that are not UTF-8 become."""
    return os.fsencode(reason).decode("utf-8", "backslashreplace")


def _code(error: sqlite3.Error | UnicodeDecodeError) -> int:
    """SQLite's primary code; 0 where the error is Python's own."""
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _reason(error: OSError | sqlite3.Error) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)
