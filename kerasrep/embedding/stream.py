"""Many files through one model: segments of several files share full batches of one size.

A model that always gets the same shape compiles and plans once, and short files do not make short batches.
Where a few files are wanted as rows in memory, one that cannot be used ends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import WHOLE, Layout
from kerasrep.embedding.decoding import Cutting, End, Failure, Part, Segments, decode_parts
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import BATCH_SEGMENTS, SegmentStatistics
from kerasrep.errors import DataError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Embeddings of consecutive segments of one file.

    Attributes:
        key: Of the file.
        values: float32 [segments, dimension].
    """

    key: int
    values: Array


Event = Rows | End | Failure


def embed_parts(parts: Iterable[Part], embed_segments: Callable[[Array], Array]) -> Iterator[Event]:
    """Embed parts of files in batches of `BATCH_SEGMENTS`, the last one padded with silence.

    Args:
        parts: As `decode_parts` gives them.
        embed_segments: float32 [BATCH_SEGMENTS, segment_samples, 2] -> float32 [BATCH_SEGMENTS, dimension].

    Yields:
        `Rows` of each file in order, then its `End`; or its `Failure`, at any point.
    """
    batch = _Batch(embed_segments)
    for part in parts:
        if isinstance(part, Segments):
            yield from batch.add(part)
        else:
            yield from batch.mark(part)
    yield from batch.flush()


class _Batch:
    """Segments that wait for the model, and ends of files that wait for their segments."""

    def __init__(self, embed_segments: Callable[[Array], Array]) -> None:
        self._embed_segments = embed_segments
        self._segments: Array | None = None
        self._filled = 0
        self._waiting: list[tuple[int, int] | End | Failure] = []  # (key, segments) in the order of the batch

    def add(self, part: Segments) -> Iterator[Event]:
        if not self._filled and len(part.segments) == BATCH_SEGMENTS:  # a full batch is not copied
            yield Rows(part.key, self._embed_segments(part.segments))
            return
        taken = 0
        while taken < len(part.segments):
            if self._segments is None:
                self._segments = np.zeros((BATCH_SEGMENTS, *part.segments.shape[1:]), np.float32)
            new = part.segments[taken : taken + BATCH_SEGMENTS - self._filled]
            self._segments[self._filled : self._filled + len(new)] = new
            self._filled, taken = self._filled + len(new), taken + len(new)
            self._waiting.append((part.key, len(new)))
            if self._filled == BATCH_SEGMENTS:
                yield from self.flush()

    def mark(self, part: End | Failure) -> Iterator[Event]:
        self._waiting.append(part)
        if not self._filled:
            yield from self.flush()

    def flush(self) -> Iterator[Event]:
        values = None
        if self._segments is not None and self._filled:
            self._segments[self._filled :] = 0
            values = self._embed_segments(self._segments)
        waiting, start = self._waiting, 0
        self._filled, self._waiting = 0, []
        for item in waiting:
            if isinstance(item, tuple):
                assert values is not None
                yield Rows(item[0], values[start : start + item[1]])
                start += item[1]
            else:
                yield item


def embed_in_order(
    paths: Sequence[Path],
    embed_segments: Callable[[Array], Array],
    layout: Layout,
    decoder: str = "soundfile",
) -> Generator[FileEmbedding | BadFile, None, None]:
    """Embed files, several of them decoded side by side while the model works.

    Memory does not grow with the length of the files.

    Args:
        paths: Audio files.
        embed_segments: See `embed_parts`.
        layout: Of an embedding; it has to pool.
        decoder: `soundfile`, or `tensorflow-io`.

    Yields:
        One result a file, in the order of `paths`.
    """
    cutting = Cutting(layout.sample_rate_hz, layout.segment_samples, layout.hop_samples, decoder)
    parts = decode_parts(enumerate(paths), cutting)
    open_files: dict[int, SegmentStatistics] = {}
    done: dict[int, FileEmbedding | BadFile] = {}
    next_key = 0
    try:
        for event in embed_parts(parts, embed_segments):
            if isinstance(event, Rows):
                open_files.setdefault(event.key, layout.new_statistics()).add(event.values)
                continue
            statistics = open_files.pop(event.key, None)
            if isinstance(event, Failure):
                done[event.key] = event.bad
            elif statistics is not None:
                seconds = event.samples / layout.sample_rate_hz
                done[event.key] = FileEmbedding(paths[event.key], layout.pooled(statistics), seconds)
            while next_key in done:
                yield done.pop(next_key)
                next_key += 1
    finally:
        parts.close()


def rows_of_files(
    paths: Sequence[Path], model: SegmentModel, layout: Layout, decoder: str = "soundfile"
) -> Iterator[NDArray[np.float32]]:
    """Embed files, several of them decoded side by side.

    Args:
        paths: Audio files.
        model: What embeds them.
        layout: Of the rows; it has to pool.
        decoder: `soundfile`, or `tensorflow-io`.

    Yields:
        float32 [dimension] a file, in the order of the paths.

    Raises:
        DataError: At the first file that cannot be used.
    """
    if model.embed_file is not None and layout.pool == WHOLE:
        yield from map(_row, map(model.embed_file, paths))
        return
    with contextlib.closing(embed_in_order(paths, model.embed_segments, layout, decoder)) as results:
        yield from map(_row, results)


def _row(result: FileEmbedding | BadFile) -> NDArray[np.float32]:
    if isinstance(result, BadFile):
        raise DataError(result.reason)
    return result.embedding
