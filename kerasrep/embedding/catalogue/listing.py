"""The files of a catalogue in order, and what is done of each, as its parts say.

Where files are added to a table, also which of its rows stay.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.parts import (
    DamagedPartError,
    Entry,
    Listed,
    parts_in,
    read_part,
    rows_reader,
    writer_of,
)
from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.catalogue.writing import Block, path_text
from kerasrep.embedding.files import BadFile
from kerasrep.errors import DataError, RecipeError
from kerasrep.runtime import console
from kerasrep.runtime.run_log import event

#: How often is looked whether what is waited for still comes.
POLL_SECONDS = 1.0
#: Name of a part, and which of its rows: from, to.
_Rows = tuple[str, int, int]


class Earlier:
    """What a table has already; it is in memory.

    A file is known by its path as it is written. It is embedded again where it was changed after the table.

    Args:
        table: The table; None where there is none yet.
        written_ns: When it was written.
    """

    def __init__(self, table: Table | None = None, written_ns: int = 0) -> None:
        self._table, self._written_ns = table, written_ns
        self._known = frozenset(table.paths) if table else frozenset()
        self._replaced: set[str] = set()
        self.unchanged = 0

    @classmethod
    def read(cls, output: Path, about: About) -> Earlier:
        """Read what is added to.

        Raises:
            DataError: Where it cannot be read.
            RecipeError: Where it was made with another model or other settings, or has relative paths and was
                made in another folder.
        """
        if not output.exists():
            return cls()
        table = read_embeddings(output)
        if table.about is None:
            raise RecipeError(f"-o {output}: does not say what made it, so nothing is added; give another -o")
        now, before = about.settings(), table.about.settings()
        for key, value in now.items():
            if before.get(key) != value:
                raise RecipeError(
                    f"-o {output}: was made with another {key} ({before.get(key)}, now {value}); give the "
                    "same model and settings, or another -o"
                )
        _check_folder(output, table)
        return cls(table, output.stat().st_mtime_ns)

    def left(self, found: Iterable[Path | BadFile]) -> Iterator[Path | BadFile]:
        """What is not in the table as it is now."""
        for one in found:
            path = one.path if isinstance(one, BadFile) else one
            text = path_text(path)
            if text in self._known and isinstance(one, Path) and not self._is_newer(one):
                self.unchanged += 1
                continue
            self._replaced.add(text)
            yield one

    @property
    def n_replaced(self) -> int:
        """Files of the table whose rows do not hold any more."""
        return len(self._known & self._replaced)

    @property
    def n_files(self) -> int:
        """Files whose rows stay."""
        return len(self._known) - self.n_replaced

    @property
    def n_rows(self) -> int:
        """Rows that stay."""
        return 0 if self._table is None else int(self._stays(self._table).sum())

    def _stays(self, table: Table) -> NDArray[np.bool_]:
        return np.array([path not in self._replaced for path in table.paths], np.bool_)

    def rows(self) -> Iterator[Block]:
        """The rows that stay, in their order."""
        if self._table is None:
            return
        kept = self._stays(self._table)
        starts, typical, n = self._table.start_seconds, self._table.typical_seconds, int(kept.sum())
        yield Block(
            [path for path, stays in zip(self._table.paths, kept, strict=True) if stays],
            self._table.seconds[kept],
            np.zeros(n) if starts is None else starts[kept],
            self._table.embeddings[kept],
            np.full(n, np.nan) if typical is None else typical[kept],
        )

    def _is_newer(self, path: Path) -> bool:
        try:
            status = path.stat()
        except (OSError, ValueError):
            return True  # decoding says what is wrong
        return max(status.st_mtime_ns, status.st_ctime_ns) >= self._written_ns


def _check_folder(output: Path, table: Table) -> None:
    """Refuse rows whose relative paths would be taken for those of files in another folder."""
    folder = Path(table.about.folder if table.about else "")
    if not folder.parts or all(os.path.isabs(path) for path in set(table.paths)):  # noqa: PTH117 (text)
        return
    with contextlib.suppress(OSError, ValueError):  # it has moved: the current folder takes its place
        if not os.path.samefile(folder, Path.cwd()):  # noqa: PTH121
            raise RecipeError(
                f"-o {output}: its relative paths begin in {folder}; work there, or give another -o"
            )


@dataclass(slots=True)
class _File:
    """Size and time of change as listed; seconds and rows of one that is done, or why it cannot be used."""

    size: int
    modified_ns: int
    seconds: float | None = None
    rows: tuple[_Rows, ...] = ()
    reason: str | None = None
    typical_seconds: float | None = None

    @property
    def waits(self) -> bool:
        return self.seconds is None and self.reason is None


class Listing:
    """The files of a catalogue, some 0.6 KB of memory each, and what is done of them.

    Args:
        found: Files and what cannot be used; a file that comes twice counts once.
        folder: Of the parts.
        about: What shall be made.
    """

    def __init__(self, found: Iterable[Path | BadFile], folder: Path, about: About) -> None:
        self.folder, self._about = folder, about
        self._files: dict[str, _File] = {}
        self._begun: dict[tuple[str, str], tuple[_Rows, ...]] = {}  # writer and path -> rows so far
        self._changed = threading.Condition()  # of the files, for which `rows` may wait in another thread
        for one in found:
            path = one.path if isinstance(one, BadFile) else one
            if str(path) not in self._files:
                self._files[str(path)] = file = _look_at(path)
                file.reason = one.reason if isinstance(one, BadFile) else None

    @property
    def n_waiting(self) -> int:
        """Files that are not done."""
        return sum(file.waits for file in self._files.values())

    def waiting(self) -> Iterator[Listed]:
        """The files that are not done when their turn comes, in order."""
        for path, file in self._files.items():
            if file.waits:
                yield Listed(Path(path), file.size, file.modified_ns)

    def done(self) -> list[Path]:
        """The files that are done, in order."""
        return [Path(path) for path, file in self._files.items() if file.seconds is not None]

    def bad(self) -> list[BadFile]:
        """What cannot be used, in order."""
        return [
            BadFile(Path(path), file.reason) for path, file in self._files.items() if file.reason is not None
        ]

    def fail(self, file: Listed, reason: str) -> None:
        """A file cannot be used."""
        with self._changed:
            self._files[str(file.path)].reason = reason
            self._changed.notify_all()

    def take_leftovers(self, restart: bool = False) -> None:
        """Take in the parts that an earlier call has finished; with `restart` remove them.

        Files that have changed since, or could not be used, wait again: what was wrong may be repaired.

        Raises:
            RecipeError: Where they were made with other settings.
        """
        for path in parts_in(self.folder):
            if restart:
                path.unlink()
            else:
                self.take(path, bad_ones=False)

    def take(self, path: Path, bad_ones: bool = True) -> list[float | None]:
        """Take in a part; those of one writer in their order. A damaged one is told and removed.

        Args:
            path: The part.
            bad_ones: Take in what could not be used as well.

        Returns:
            Seconds of audio of each file that waited and does not any more; None for one that cannot be used.

        Raises:
            RecipeError: Where it was made with other settings.
        """
        try:
            settings, entries, _ = read_part(path)
        except DamagedPartError as error:
            console.say(f"{error}; its files are done again")
            event("damaged", logging.WARNING, path=path, reason=str(error))
            path.unlink(missing_ok=True)
            return []
        self._check(settings)
        with self._changed:
            taken = list(self._take(path, entries, bad_ones))
            self._changed.notify_all()
        return taken

    def _take(self, path: Path, entries: Iterable[Entry], bad_ones: bool) -> Iterator[float | None]:
        first = 0
        for entry in entries:
            key = writer_of(path), entry.path
            rows = self._begun.pop(key, ())
            if entry.n_rows:
                rows += ((path.name, first, first + entry.n_rows),)
                first += entry.n_rows
            if entry.all_rows is None:
                self._begun[key] = rows
                continue
            file = self._files.get(entry.path)
            if file != _File(entry.size, entry.modified_ns):  # it waits, and is as it was
                continue
            if entry.seconds is not None and _count(rows) == entry.all_rows:
                file.seconds, file.rows = entry.seconds, rows
                file.typical_seconds = entry.typical_seconds
                yield entry.seconds
            elif entry.reason is not None and bad_ones:
                file.reason = entry.reason
                yield None

    def n_rows(self) -> int:
        """Rows of all files that are done."""
        return sum(_count(file.rows) for file in self._files.values())

    def rows(self, hop_seconds: float, ended: Callable[[], bool] = lambda: True) -> Iterator[Block]:
        """All rows, in the order of the files.

        Args:
            hop_seconds: From a row of a file to the next one.
            ended: Whether files that wait are passed over; otherwise they are waited for. Asked again after
                each change, after `look_again`, and from time to time.

        Raises:
            DataError: Where a part was damaged meanwhile.
        """
        read = rows_reader(self.folder)
        for path, file in self._files.items():
            with self._changed:
                while file.waits and not ended():
                    self._changed.wait(POLL_SECONDS)
            text, first = path_text(Path(path)), 0
            for values in (some for rows in file.rows for some in read(*rows)):
                n = len(values)
                starts = (first + np.arange(n, dtype=np.float64)) * hop_seconds
                typical = np.full(n, np.nan if file.typical_seconds is None else file.typical_seconds)
                yield Block([text] * n, np.full(n, file.seconds), starts, values, typical)
                first += n

    def look_again(self) -> None:
        """Let `rows` ask again whether all has ended."""
        with self._changed:
            self._changed.notify_all()

    def _check(self, settings: str) -> None:
        """Refuse a part of other settings."""
        if settings == self._about.to_json():
            return
        try:
            before, now = About.from_json(settings).settings(), self._about.settings()
        except DataError as error:
            raise DataError(f"{self.folder}: {error}, with --restart") from error
        other = [key for key in now if before[key] != now[key]]
        if other:
            raise RecipeError(
                f"{self.folder}: holds work that was begun with another {other[0]} ({before[other[0]]}, now "
                f"{now[other[0]]}); give the same settings, another -o, or --restart to begin anew"
            )


def _look_at(path: Path) -> _File:
    """A file that waits; where it has no size and time of change, decoding says what is wrong."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _File(-1, 0)
    return _File(status.st_size, status.st_mtime_ns)


def _count(rows: tuple[_Rows, ...]) -> int:
    return sum(stop - start for _, start, stop in rows)
