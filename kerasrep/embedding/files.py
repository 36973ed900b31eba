"""Folders and files of audio: what commands name, what is found there, and what becomes of each file."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.decoders.suffixes import LINKS, known_suffixes, looked_for, read_suffixes
from kerasrep.errors import DataError, RecipeError
from kerasrep.storage.tables import PARQUET_ENDINGS, read_table

#: Of `--files`: tables with a column `path`; all else is one path a line.
TABLE_ENDINGS = frozenset({".csv", ".tsv", *PARQUET_ENDINGS})


@dataclass(frozen=True)
class FileEmbedding:
    """What became of one file.

    Attributes:
        path: The file.
        embedding: float32 [dimension].
        seconds: How much audio it held.
    """

    path: Path
    embedding: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True)
class BadFile:
    """A file or folder that could not be used.

    Attributes:
        path: The file or folder.
        reason: One line that names it.
    """

    path: Path
    reason: str


def find_audio(inputs: Iterable[Path]) -> tuple[list[Path], list[BadFile]]:
    """List the audio that `iterate_audio` finds, each file once; and what it could not use."""
    files: dict[Path, None] = {}
    bad = []
    for found in iterate_audio(inputs):
        if isinstance(found, BadFile):
            bad.append(found)
        else:
            files[found] = None
    return list(files), bad


def iterate_audio(inputs: Iterable[Path], passed: Counter[str] | None = None) -> Iterator[Path | BadFile]:
    """Find the audio under some files and folders, whatever their number, in little memory.

    Folders are searched at any depth for what the decoders read (`suffixes.read_suffixes`); hidden files and
    folders are passed over, and links to folders are not followed. Anything else is taken as it is, even what
    does not exist: decoding says what is wrong.

    Args:
        inputs: Files and folders.
        passed: Suffix -> files that are named like audio and not read, and `LINKS`; counted here.

    Yields:
        Files, in the order of `inputs`, sorted within each folder; a file that is named twice comes twice.
        Between them folders that cannot be read, hold no audio, or are named like audio.
    """
    passed = Counter() if passed is None else passed
    for path in inputs:
        if not _is_folder(path):
            yield path
            continue
        empty = True
        for found in _walk(path, passed):
            empty = False
            yield found
        if empty:
            yield BadFile(path, f"{path}: holds no audio files ({looked_for()})")


def _walk(top: Path, passed: Counter[str]) -> Iterator[Path | BadFile]:
    """Depth first, files and folders of a folder in one sorted order; a stack, as any depth may come."""
    stack = [iter([(os.fspath(top), True)])]
    while stack:
        path, is_folder = next(stack[-1], ("", False))
        if not path:
            stack.pop()
        elif not is_folder:
            yield Path(path)
        else:
            if len(stack) > 1 and _is_named_like_audio(path):
                yield BadFile(Path(path), f"{path}: is a folder that is named like audio; rename it")
            try:
                stack.append(iter(_entries(path, passed)))
            except OSError as error:
                yield BadFile(Path(path), f"{path}: cannot be read ({error.strerror})")


def _entries(folder: str, passed: Counter[str]) -> list[tuple[str, bool]]:
    """Audio files and folders in a folder, sorted, and whether each is a folder; links to folders are not."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append((entry.path, True))
            elif entry.is_symlink() and _is_folder(Path(entry.path)):
                passed[LINKS] += 1
            elif _is_named_like_audio(entry.name):
                found.append((entry.path, False))
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in known_suffixes():  # noqa: PTH122
                passed[suffix] += 1
    return sorted(found)


def _is_named_like_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in read_suffixes()  # noqa: PTH122 (a million names)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or with a NUL
        return False


class CountedBlocks:
    """Blocks of one recording; counts the samples that went by.

    Attributes:
        samples: A channel, so far.
    """

    def __init__(self, blocks: Iterator[NDArray[np.float32]]) -> None:
        self._blocks = blocks
        self.samples = 0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


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
