"""What is done of a catalogue: Parquet files in a hidden folder beside the output, its parts.

A part is written under a temporary name, flushed and renamed, so that it is there whole or not at all. It
has the vectors that its writer got since the part before, file by file, and in its schema's metadata the
files that they are of, as these were when the catalogue was listed, and which of them end here. A file is
done when a part says that it ends, and all its rows are there. Pages and metadata have checksums, so that a
damaged part is found. Row groups are small, so that the rows of one file are read without the others: files
that were decoded side by side lie in the same parts, in any order.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from kerasrep.embedding.catalogue.writing import PARQUET, described, is_as_described
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import atomic_file

#: At most this much work, and the files then open, are done again after a kill.
PART_SECONDS = 5.0
#: Vectors of a part are in memory.
PART_BYTES = 1 << 24
#: Vectors of a row group.
GROUP_BYTES = 1 << 20
#: Parts that are open, and row groups that are in memory, while the table is written.
OPEN_PARTS, OPEN_GROUPS = 16, 64
#: Of the values of an `Entry`.
_TYPES = (
    (str,),
    (int,),
    (int,),
    (int,),
    (float, NoneType),
    (str, NoneType),
    (int, NoneType),
    (float, NoneType),
)


class Listed(NamedTuple):
    """A file as it was when the catalogue was listed; size -1 where it could not be looked at."""

    path: Path
    size: int
    modified_ns: int


class Entry(NamedTuple):
    """What a part says of a file: how it was listed, and how many of the part's rows are its own, in order.

    Where the file ends in this part, it has the seconds of its audio or the reason why it cannot be used, and
    how many rows there are in all: in this part and in earlier ones of the same writer.
    """

    path: str
    size: int
    modified_ns: int
    n_rows: int
    seconds: float | None = None
    reason: str | None = None
    all_rows: int | None = None
    typical_seconds: float | None = None


class Part(NamedTuple):
    """What a part holds: settings that it was made with, its files, and their rows, [rows, dimension]."""

    settings: str
    entries: list[Entry]
    values: NDArray[np.float32]


class DamagedPartError(DataError):
    """A part is not what was written."""


def parts_folder(output: Path) -> Path:
    """Where the work on `output` is kept until it is complete."""
    return output.with_name(f".{output.name}.parts")


def parts_in(folder: Path) -> list[Path]:
    """The parts that are there, those of each writer in order."""
    return sorted(folder.glob(f"[!.]*{PARQUET}"))


def writer_of(part: Path) -> str:
    """Who wrote a part."""
    return part.name.rpartition("-")[0]


class PartWriter:
    """Writes a part every few seconds, beside the work, and what is left when `publish` is called.

    Args:
        folder: Where parts go.
        settings: Text that says what is made.
        dimension: Values of a row.
        published: Called with the path of each part, in the thread that writes.
    """

    def __init__(
        self, folder: Path, settings: str, dimension: int, published: Callable[[Path], object]
    ) -> None:
        self._folder, self._settings, self._dimension = folder, settings, dimension
        self._published = published
        self._name, self._n_parts = secrets.token_hex(8), 0
        self._all_rows: Counter[Listed] = Counter()  # of files that have not ended
        self._thread = ThreadPoolExecutor(1, "parts")
        self._writing: Future[None] | None = None
        self._clear()

    def add(self, file: Listed, values: NDArray[np.float32]) -> None:
        """Keep the next rows of a file: [rows, dimension]."""
        self._rows.setdefault(file, []).append(values)
        self._n_bytes += values.nbytes
        self._all_rows[file] += len(values)
        self._publish_at_times()

    def end(
        self,
        file: Listed,
        seconds: float | None,
        reason: str | None = None,
        typical_seconds: float | None = None,
    ) -> None:
        """All rows of a file are there; or it cannot be used, and what was kept of it does not count."""
        text = None if reason is None else os.fsencode(reason).decode("utf-8", "backslashreplace")
        self._rows[file] = self._rows.get(file, []) if text is None else []
        self._ends[file] = seconds, text, self._all_rows.pop(file, 0), typical_seconds
        self._publish_at_times()

    def publish(self) -> None:
        """Write what was kept since the last part, and wait for it.

        Raises:
            RunError: Where it, or the part before, cannot be written.
        """
        self._begin()
        self._wait()

    def _begin(self) -> None:
        """Let the thread write what was kept, once the part before is there."""
        self._wait()
        if not self._rows:
            return
        files = [
            Entry(str(file.path), *file[1:], sum(map(len, rows)), *self._ends.get(file, ()))
            for file, rows in self._rows.items()
        ]
        kept = [some for rows in self._rows.values() for some in rows]
        path = self._folder / f"{self._name}-{self._n_parts:08d}{PARQUET}"
        self._n_parts += 1
        self._clear()
        self._writing = self._thread.submit(self._write, path, files, kept)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, path: Path, files: list[Entry], kept: list[NDArray[np.float32]]) -> None:
        values = np.concatenate([np.zeros((0, self._dimension), np.float32), *kept])
        rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), self._dimension)
        metadata = described(files=json.dumps(files), kerasrep=self._settings)
        table = pyarrow.table({"embedding": rows}).replace_schema_metadata(metadata)
        with atomic_file(path) as temporary:
            # Vectors are hardly smaller when they are compressed, and take three times as long.
            settings: dict[str, Any] = {"use_dictionary": False, "compression": "none"}
            group_rows = max(1, GROUP_BYTES // (4 * self._dimension))
            parquet.write_table(
                table, temporary, row_group_size=group_rows, write_page_checksum=True, **settings
            )
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        self._published(path)

    def _clear(self) -> None:
        self._rows: dict[Listed, list[NDArray[np.float32]]] = {}
        self._ends: dict[Listed, tuple[float | None, str | None, int, float | None]] = {}
        self._n_bytes, self._begun_seconds = 0, time.monotonic()

    def _publish_at_times(self) -> None:
        if self._n_bytes > PART_BYTES or time.monotonic() - self._begun_seconds > PART_SECONDS:
            self._begin()


def read_part(path: Path) -> Part:
    """Read a part.

    Raises:
        DamagedPartError: Where it is not what was written.
        DataError: Where it cannot be read.
    """
    with _told(path):
        table = _open(path).read()
        metadata = table.schema.metadata or {}
        if not is_as_described(metadata):
            raise ValueError("what it says of its files is damaged")
        entries = list(map(_entry, json.loads(metadata[b"files"])))
        values = _values(table)
        if len(values) != sum(entry.n_rows for entry in entries):
            raise ValueError("it has not the rows that it says")
        return Part(metadata[b"kerasrep"].decode(), entries, values)


def rows_reader(folder: Path) -> Callable[[str, int, int], Iterator[NDArray[np.float32]]]:
    """A function that reads some rows of a part of `folder`: its name, from, to.

    Returns:
        The function, which yields float32 [rows, dimension], and raises as `read_part` does. It keeps open
        what it read last.
    """
    opened = functools.lru_cache(OPEN_PARTS)(_open)

    @functools.lru_cache(OPEN_GROUPS)
    def group(path: Path, number: int) -> NDArray[np.float32]:
        return _values(opened(path).read_row_group(number, ["embedding"]))

    def read(name: str, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        path = folder / name
        with _told(path):
            size = opened(path).metadata.row_group(0).num_rows  # of all but the last
            for number in range(start // size, -(-stop // size)):
                first = number * size
                yield group(path, number)[max(0, start - first) : stop - first]

    return read


def _open(path: Path) -> parquet.ParquetFile:
    return parquet.ParquetFile(path, page_checksum_verification=True)


def _values(table: pyarrow.Table) -> NDArray[np.float32]:
    rows = table["embedding"].combine_chunks()
    values: NDArray[np.float32] = rows.flatten().to_numpy().reshape(-1, rows.type.list_size)
    return values


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading, as this module raises them."""
    try:
        yield
    except (pyarrow.ArrowException, AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in (None, errno.EIO):  # such as too many open files
            reason = f"cannot be read ({os.strerror(number)}); see to it, or begin anew with --restart"
            raise DataError(f"{path}: {reason}") from error
        reason = " ".join(str(error).split())[:100]
        raise DamagedPartError(f"{path}: is damaged ({reason})") from error


def _entry(values: list[Any]) -> Entry:
    for value, types in zip(values, _TYPES, strict=True):
        if type(value) not in types:
            raise TypeError("what it says of its files has other types")
    if values[3] < 0:
        raise ValueError("it has not the rows that it says")
    return Entry(*values)
