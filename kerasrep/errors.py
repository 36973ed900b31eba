"""Errors a user can cause. Each carries one line: what is wrong, where, and what to do."""

from __future__ import annotations

import errno

#: Conditions of the machine, not bugs of the program: one line without a traceback.
_MACHINE_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
    }
)


class KerasrepError(Exception):
    """Base of all errors that a command prints as one line, without a traceback.

    Attributes:
        exit_code: What the process exits with when the error reaches the command line.
    """

    exit_code = 1


class RecipeError(KerasrepError):
    """The command line or the recipe is wrong; nothing was started."""

    exit_code = 2


class DataError(KerasrepError):
    """Audio, labels or prepared files cannot be used."""


class RunError(KerasrepError):
    """Training could not start, continue or end well."""


class ExportError(KerasrepError):
    """A model could not be exported or loaded."""


class ServerError(KerasrepError):
    """A model server cannot be reached, is too slow, or refuses a request."""


def one_line(message: str) -> str:
    """Escape new lines and whatever else does not print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def machine_message(error: Exception) -> str | None:
    """One line for a machine that has run out of something; None for anything else."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory: lower batches.size, or close other programs"
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return None
