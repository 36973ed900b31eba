"""Folders and files of audio, embedded one after the other while the next one is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kerasrep.data.audio import decode_blocks
from kerasrep.embedding.embedder import Embedder
from kerasrep.errors import DataError

#: What is looked for in folders: the usual suffixes of what libsndfile reads. Files named singly are tried
#: whatever their suffix.
AUDIO_SUFFIXES = frozenset(
    {
        ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd",
        ".w64", ".wav",
    }
)  # fmt: skip


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


def find_audio(inputs: Sequence[Path]) -> tuple[list[Path], list[BadFile]]:
    """List the audio under some files and folders.

    Folders are searched at any depth for `AUDIO_SUFFIXES`; hidden files and folders are passed over, and
    links to folders are not followed. Anything else is taken as it is, even what does not exist: decoding
    says what is wrong.

    Args:
        inputs: Files and folders.

    Returns:
        Files, in the order of `inputs`, sorted within each folder, each once; and folders that cannot be
        read or hold no audio.
    """
    files: dict[Path, None] = {}
    bad = []
    for path in inputs:
        if not path.is_dir():
            files[path] = None
            continue
        errors: list[OSError] = []
        found = sorted(_walk(path, errors))
        bad += [BadFile(Path(e.filename), f"{e.filename}: cannot be read ({e.strerror})") for e in errors]
        if not found and not errors:
            suffixes = " ".join(sorted(AUDIO_SUFFIXES))
            bad.append(BadFile(path, f"{path}: holds no audio files ({suffixes})"))
        files |= dict.fromkeys(found)
    return list(files), bad


def _walk(folder: Path, errors: list[OSError]) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(root) / name


def embed_files(
    embedder: Embedder, paths: Sequence[Path], decoder: str = "soundfile"
) -> Iterator[FileEmbedding | BadFile]:
    """Embed files one after the other; a thread decodes while the model works.

    Memory does not grow with the length of the files.

    Args:
        embedder: The model.
        paths: Audio files.
        decoder: `soundfile`, or `tensorflow-io`.

    Yields:
        One result a file, in the order of `paths`.
    """
    statistics = embedder.new_statistics()
    for part in _one_ahead(_decode(embedder, paths, decoder)):
        if isinstance(part, _Segments):
            statistics.add(embedder.embed_segments(part.segments))
            continue
        if isinstance(part, _End):
            yield FileEmbedding(part.path, statistics.result(), part.samples / embedder.sample_rate_hz)
        else:
            yield part
        statistics = embedder.new_statistics()


def embed_all(
    embedder: Embedder, paths: Sequence[Path], decoder: str = "soundfile", label: str | None = None
) -> tuple[list[FileEmbedding], list[BadFile]]:
    """Embed files as `embed_files` does, good ones and others apart, each in the order of `paths`.

    Args:
        embedder: The model.
        paths: Audio files.
        decoder: `soundfile`, or `tensorflow-io`.
        label: Of a progress bar in a terminal; none by default.
    """
    embedded, bad = [], []
    results = embed_files(embedder, paths, decoder)
    hidden = True if label is None else None  # None: unless standard error is a terminal
    for result in tqdm(results, desc=label, total=len(paths), unit="file", disable=hidden):
        if isinstance(result, BadFile):
            bad.append(result)
        else:
            embedded.append(result)
    return embedded, bad


@dataclass(frozen=True)
class _Segments:
    """Some segments of the present file, float32 [segments, segment_samples, 2]."""

    segments: NDArray[np.float32]


@dataclass(frozen=True)
class _End:
    """The present file was decoded to its end."""

    path: Path
    samples: int


_Part = _Segments | _End | BadFile


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


def _decode(embedder: Embedder, paths: Sequence[Path], decoder: str) -> Iterator[_Part]:
    """All files one after the other: some `_Segments`, then `_End` or `BadFile`."""
    for path in paths:
        blocks = CountedBlocks(decode_blocks(path, embedder.sample_rate_hz, decoder))
        try:
            for segments in embedder.cut(blocks):
                yield _Segments(segments)
        except DataError as error:
            yield BadFile(path, str(error))
        except OSError as error:
            yield BadFile(path, f"{path}: cannot be read ({error.strerror})")
        else:
            yield _End(path, blocks.samples)


def _one_ahead(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Run an iterator in a thread, one step ahead of the consumer."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        future = pool.submit(next, parts, None)
        while (part := future.result()) is not None:
            future = pool.submit(next, parts, None)
            yield part
