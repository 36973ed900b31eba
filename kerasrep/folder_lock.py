"""A folder is one process's own; the system lets go of it when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kerasrep.errors import RunError, storage_reason


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
        reason = storage_reason(error) or error.strerror
        raise RunError(f"{folder}: cannot write there ({reason}); choose another {option}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RunError(f"{folder}: {busy}; wait for it or stop it") from error
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_turn(root: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Make a folder under `home()` and hold it, once no other process does.

    The lock is a file beside the folder, so that the folder can be deleted and made again while it is held.

    Args:
        root: The folder.
        waiting: Called where another process holds it, before this one waits.

    Raises:
        RunError: Where it cannot be made.
    """
    path = root.with_name(f".{root.name}.lock")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        reason = storage_reason(error) or error.strerror
        message = f"{root}: cannot write there ({reason}); set KERASREP_HOME to another folder"
        raise RunError(message) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            root.mkdir(exist_ok=True)
        except OSError as error:
            reason = storage_reason(error) or error.strerror
            message = f"{root}: cannot write there ({reason}); set KERASREP_HOME to another folder"
            raise RunError(message) from error
        yield
