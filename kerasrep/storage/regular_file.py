"""Files that are read from their beginning to their end: nothing that would wait for ever, as a fifo does."""

from __future__ import annotations

import contextlib
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kerasrep.errors import DataError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def opened(path: Path, wanted: str) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Args:
        path: The file.
        wanted: What was expected there, such as `an SQLite database`.

    Raises:
        DataError: Where it is none, or it cannot be opened or read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is not a regular file; {wanted} was expected")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error
