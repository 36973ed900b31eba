"""Errors a user can cause. Each carries one line: what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import re
import unicodedata

#: Why nothing more can be written, in words; `strerror` of a full disk speaks of a device.
_STORAGE_ERRNOS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than it may be",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk fails to read or write",
}
#: How TensorFlow, HDF5 and others say so, who keep the number to themselves.
_STORAGE_TEXTS = {
    r"No space left on device|errno = 28\b": errno.ENOSPC,
    r"Disk quota exceeded|errno = 122\b": errno.EDQUOT,
    r"File too large|errno = 27\b": errno.EFBIG,
    r"Read-only file system|errno = 30\b": errno.EROFS,
    r"Input/output error|errno = 5\b": errno.EIO,
}
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


class StorageError(RunError):
    """A file cannot be written: the disk is full, read-only or broken; the work itself is sound."""


class ExportError(KerasrepError):
    """A model could not be exported or loaded."""


class ServerError(KerasrepError):
    """A model server cannot be reached, is too slow, or refuses a request."""


def prints(text: str) -> bool:
    """Whether a line can show it: unlike `isprintable`, spaces of any width (Unicode's Zs) count."""
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def one_line(message: str) -> str:
    r"""One line that a terminal, a figure or a page can show: control characters and the like as `\x1b`."""
    return "".join(c if prints(c) else c.encode("unicode_escape").decode() for c in message)


def machine_message(error: Exception) -> str | None:
    """One line for a machine that has run out of something; None for anything else."""
    reason = storage_reason(error)
    if reason is not None:
        file = getattr(error, "filename", None)
        return f"{file}: {reason}" if file else f"{reason}: {room_advice(reason)}"
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory: lower batches.size, or close other programs"
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return None


def room_advice(reason: str) -> str:
    """What to do about a `storage_reason`: room helps where something is full."""
    return "make room or write elsewhere" if "full" in reason or "used up" in reason else "write elsewhere"


def storage_reason(error: BaseException) -> str | None:
    """Why a file could not be written, where the disk is to blame; None for anything else.

    TensorFlow calls a full disk `ResourceExhaustedError`, as it does a full memory.
    """
    if isinstance(error, KerasrepError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (isinstance(error, OSError) or hasattr(error, "node_def")):  # HDF5; TensorFlow
        text = str(error)
        number = next((code for words, code in _STORAGE_TEXTS.items() if re.search(words, text)), None)
    return None if number is None else _STORAGE_ERRNOS.get(number)
