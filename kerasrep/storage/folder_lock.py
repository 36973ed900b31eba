"""A folder is one process's own; the system lets go of it when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kerasrep.errors import RunError, storage_reason


@contextlib.contextmanager
def held(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold a folder that is there.

    Args:
        folder: The folder.
        wait: Until no other process holds it.

    Raises:
        BlockingIOError: Where another process holds it, and nobody waits.
        OSError: Where it cannot be opened.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def exclusive(folder: Path, busy: str, option: str) -> Iterator[None]:
    """Make a folder where there is none, and hold it; one that was made and stays empty goes again.

    Args:
        folder: The folder.
        busy: What another process does that holds it, such as `is being trained by another process`.
        option: Of the command, that names another folder.

    Raises:
        RunError: Where another process holds the folder, or it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            made = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder, wait=False))
        except BlockingIOError as error:
            raise RunError(f"{folder}: {busy}; wait for it or stop it") from error
        except OSError as error:
            raise _cannot_write(folder, error, f"choose another {option}") from error
        try:
            yield
        finally:
            if made:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()


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
    advice = "set KERASREP_HOME to another folder"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        file = root.with_name(f".{root.name}.lock").open("w")
    except OSError as error:
        raise _cannot_write(root, error, advice) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            root.mkdir(exist_ok=True)
        except OSError as error:
            raise _cannot_write(root, error, advice) from error
        yield


def _cannot_write(folder: Path, error: OSError, advice: str) -> RunError:
    return RunError(f"{folder}: cannot write there ({storage_reason(error) or error.strerror}); {advice}")
