"""Files and folders appear whole or not at all: a temporary name beside, then a rename."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kerasrep.errors import RunError, StorageError, room_advice, storage_reason

#: Before what `tempfile` makes up in temporary names, so that no hidden file or folder of people is taken for
#: one, such as `.npm-packages` where a run or an evaluation is written.
MARK = "~"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary name keeps the suffix of `path`, because writers such as NumPy look at it.

    Raises:
        RunError: Where the folder cannot be written.
        StorageError: Where the disk is full, or fails, before the file is whole.
    """
    with _beginning(path.parent):
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}{MARK}", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with storage_faults(path):
            yield temporary
            _open_up(temporary, 0o666)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; rename it to `path` when the block ends well.

    Raises:
        RunError: Where the parent cannot be written, or `path` exists by then.
    """
    with _beginning(path.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}{MARK}", dir=path.parent))
    try:
        with storage_faults(path):
            yield temporary
            _open_up(temporary, 0o777)
            try:
                temporary.rename(path)
            except OSError as error:
                if storage_reason(error) is not None:
                    raise
                raise RunError(f"{path}: exists already and is never overwritten") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_temporaries(path: Path) -> None:
    """Remove what killed calls of `atomic_file` and `atomic_directory` left beside `path`.

    Only for the one process that may write `path`: that of another would be taken away from it.
    """
    for prefix, suffix in {(f".{path.stem}{MARK}", path.suffix), (f".{path.name}{MARK}", "")}:
        for left in path.parent.glob(f"{glob.escape(prefix)}*{glob.escape(suffix)}"):
            middle = left.name.removeprefix(prefix).removesuffix(suffix)
            if re.fullmatch(r"[a-z0-9_]{8}", middle):  # as `tempfile` names them
                _remove(left)


def remove_all_temporaries(folder: Path) -> None:
    """Remove what killed calls left at any depth; only for the one process that may write there."""
    for left in list(folder.rglob(".*")):
        if re.fullmatch(rf"\..+{MARK}[a-z0-9_]{{8}}(\.\w+)?", left.name):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _beginning(folder: Path) -> Iterator[None]:
    """Make `folder`, and say why nothing can be begun there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = storage_reason(error)
        if full is None:
            message = f"{folder}: cannot write there ({error.strerror}); choose another folder"
            raise RunError(message) from error
        raise StorageError(
            f"{folder}: cannot write there: {full}; {room_advice(full)}, then go on"
        ) from error


def _open_up(path: Path, mode: int) -> None:
    """Give a temporary name, which is for its owner alone, the rights that a new one has."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


@contextlib.contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """Name the file where the disk refuses what the block writes.

    Raises:
        StorageError: Where it is full, read-only or broken.
    """
    try:
        yield
    except Exception as error:
        reason = storage_reason(error)
        if reason is None:
            raise
        raise StorageError(
            f"{path}: cannot be written: {reason}; {room_advice(reason)}, then go on"
        ) from error
