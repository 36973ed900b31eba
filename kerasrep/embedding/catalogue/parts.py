"""Some files of a catalogue done elsewhere: one SQLite file that appears whole, and that is taken in once.

A part is made in a temporary folder of the node and comes into the folder of the work by a rename. Its name
holds the digest of its content, so that a damaged one is noticed. It says which files, of which size and
time, under which settings it holds, so that the work takes in what it still wants, whoever made the part
and however often.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.storage.run_directory import atomic_file

SUFFIX = ".part"
_SEGMENT_BITS = 32
_SCHEMA = (
    "CREATE TABLE about (settings TEXT NOT NULL)",
    "CREATE TABLE files (number INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER NOT NULL, "
    "modified INTEGER NOT NULL, seconds REAL, reason TEXT)",
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL)",
)


@dataclass(frozen=True)
class Listed:
    """A file as it was when the catalogue was listed.

    Attributes:
        path: The file.
        size: In bytes; -1 where it could not be looked at.
        modified_ns: Time of its last change.
    """

    path: Path
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Finished:
    """What a part says of one file.

    Attributes:
        file: Which, and as it was.
        seconds: How much audio it held; None where it cannot be used.
        reason: Why it cannot.
        rows: Number of the first segment, and float32 bytes; to be read before the next file.
    """

    file: Listed
    seconds: float | None
    reason: str | None
    rows: Iterable[tuple[int, bytes]]


class PartWriter:
    """A part in the making; a sink of `embed_into`, by the place of a file in `files`.

    Args:
        files: What it shall hold.
        settings: Text that says what was made.
    """

    def __init__(self, files: Sequence[Listed], settings: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kerasrep-part-"))
        self._path = self._folder / "part.sqlite"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        execute = self._connection.execute
        execute("PRAGMA journal_mode = OFF")  # it is thrown away when anything breaks
        execute("PRAGMA synchronous = OFF")
        execute("BEGIN")
        for statement in _SCHEMA:
            execute(statement)
        execute("INSERT INTO about VALUES (?)", (settings,))
        self._connection.executemany(
            "INSERT INTO files (number, path, size, modified) VALUES (?, ?, ?, ?)",
            ((n, os.fsencode(f.path), f.size, f.modified_ns) for n, f in enumerate(files)),
        )

    def __enter__(self) -> PartWriter:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary folder."""
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, key: int, first: int, values: NDArray[np.float32]) -> None:
        """Keep rows of a file: [rows, dimension], the first of which is that of segment `first`."""
        blob = np.ascontiguousarray(values, np.float32).tobytes()
        self._connection.execute("INSERT INTO vectors VALUES (?, ?)", ((key << _SEGMENT_BITS) | first, blob))

    def finish(self, key: int, seconds: float) -> None:
        """All rows of a file are there."""
        self._connection.execute("UPDATE files SET seconds = ? WHERE number = ?", (seconds, key))

    def fail(self, key: int, reason: str) -> None:
        """A file cannot be used; what was kept of it goes."""
        text = os.fsencode(reason).decode("utf-8", "backslashreplace")
        self._connection.execute("UPDATE files SET reason = ? WHERE number = ?", (text, key))
        self._connection.execute("DELETE FROM vectors WHERE id >> ? = ?", (_SEGMENT_BITS, key))

    def publish(self, folder: Path) -> str:
        """Put the part into the folder of the work.

        Raises:
            RunError, OSError: Where it cannot be written.

        Returns:
            Its name there.
        """
        self._connection.execute("COMMIT")
        self._connection.close()
        name = _digest(self._path) + SUFFIX
        with atomic_file(folder / name) as temporary:
            shutil.copyfile(self._path, temporary)
            handle = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return name


def parts_in(folder: Path) -> list[Path]:
    """Parts that wait to be taken in."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def is_whole(path: Path) -> bool:
    """Whether a part is there, and holds what its name says."""
    try:
        return path.name == _digest(path) + SUFFIX
    except OSError:
        return False


def read_part(path: Path, settings: str) -> Iterator[Finished]:
    """The files of a whole part, in order; nothing where it was made under other settings."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
        if connection.execute("SELECT settings FROM about").fetchone() != (settings,):
            return
        for number, name, size, modified, seconds, reason in connection.execute(
            "SELECT number, path, size, modified, seconds, reason FROM files ORDER BY number"
        ):
            if seconds is None and reason is None:
                continue
            rows = connection.execute(
                "SELECT id & ?, vectors FROM vectors WHERE id >= ? AND id < ? ORDER BY id",
                ((1 << _SEGMENT_BITS) - 1, number << _SEGMENT_BITS, (number + 1) << _SEGMENT_BITS),
            )
            yield Finished(Listed(Path(os.fsdecode(name)), size, modified), seconds, reason, rows)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
