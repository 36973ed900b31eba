"""Folders and files of audio: what is found there, and what becomes of each file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.decoders.suffixes import LINKS, known_suffixes, read_suffixes


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
            suffixes = " ".join(sorted(read_suffixes()))
            yield BadFile(path, f"{path}: holds no audio files ({suffixes})")


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
