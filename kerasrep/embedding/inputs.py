"""What commands embed, as people say it: files, folders, patterns, lists and tables of paths."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kerasrep.errors import DataError, RecipeError
from kerasrep.storage.table_reader import read_table
from kerasrep.storage.tables import PARQUET_ENDINGS

#: Of `--files`: tables with a column `path`; all else is one path a line.
TABLE_ENDINGS = frozenset({".csv", ".tsv", *PARQUET_ENDINGS})


def named_inputs(words: Sequence[Path], lists: Sequence[str]) -> list[Path]:
    """Files and folders of a command line.

    Args:
        words: Files and folders; what is neither and has `*`, `?` or `[` is a pattern, `**` for any depth.
        lists: Files of paths, see `listed_paths`.

    Raises:
        RecipeError: Where a pattern fits nothing, or nothing at all is named.
        DataError: Where a list cannot be read.
    """
    found = [path for word in words for path in _matching(word)]
    for name in lists:
        found += listed_paths(name)
    if not found:
        where = f"{lists[0]} names no file; " if lists else ""
        raise RecipeError(f"{where}give audio files or folders, or --files LIST")
    return found


def listed_paths(name: str) -> Iterator[Path]:
    """Paths that a file lists.

    Args:
        name: A table (`.csv`, `.tsv`, `.parquet`) with a column `path`, relative to the table's folder; or
            text with a path a line, or with NUL characters between them, relative to the current folder; `-`
            is such text from standard input.

    Raises:
        DataError: Where it cannot be read.
    """
    path = Path(name)
    if path.suffix.lower() in TABLE_ENDINGS:
        for place, (written,) in read_table(path, ("path",)):
            if not written:
                raise DataError(f"{place}: column 'path' is empty")
            yield path.parent / os.path.expanduser(written)  # noqa: PTH111 (which stays as it is without a home)
        return
    try:
        content = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
    except OSError as error:
        raise DataError(
            f"--files {name}: cannot be read ({error.strerror}); check name and permissions"
        ) from error
    parts = content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines()
    for part in parts:
        if part.strip():
            yield Path(os.fsdecode(part))


def _matching(word: Path) -> list[Path]:
    if os.path.lexists(word) or not glob.has_magic(str(word)):
        return [word]
    found = sorted(glob.glob(str(word), recursive=True))  # noqa: PTH207 (`Path.glob` takes no absolute pattern)
    if not found:
        raise RecipeError(f"{word}: no file has such a name")
    return [Path(one) for one in found]
