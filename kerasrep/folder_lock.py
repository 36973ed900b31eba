"""A folder is one process's own; the system lets go of it when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kerasrep.errors import RunError


@contextlib.contextmanager
def exclusive(folder: Path, busy: str, option: str) -> Iterator[None]:
    """Make a folder where there is none, and hold it.

    Args:
        folder: The folder.
        busy: What another process does that holds it, such as `is being trained by another process`.
        option: Of the command, that names another folder.

    Raises:
        RunError: Where another process holds the folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"{folder}: cannot write there ({error.strerror}); choose another {option}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RunError(f"{folder}: {busy}; wait for it or stop it") from error
    finally:
        os.close(handle)
