"""Many files through one model: segments of several files share full batches of one size.

A model that always gets the same shape compiles and plans once, and short files do not make short batches.
Where a few files are wanted as rows in memory, one that cannot be used ends it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.crops import Buffers
from kerasrep.embedding.catalogue.layout import WHOLE, Layout
from kerasrep.embedding.decoding import Cutting, End, Failure, Part, Segments, decode_parts
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import SegmentStatistics, stretch_of
from kerasrep.errors import DataError

Array = NDArray[np.float32]

#: Threads that put batches together: one copies less than a GPU takes.
COPIERS = 4


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


def decoded(
    files: Iterable[tuple[int, Path]],
    model: SegmentModel,
    layout: Layout,
    decoder: str,
    workers: int | None = None,
) -> Generator[Part, None, None]:
    """Decode files in threads; see `decode_parts`."""
    lengths = layout.sample_rate_hz, layout.segment_samples, layout.hop_samples
    return decode_parts(files, Cutting(*lengths, decoder), workers)


def embed_parts(parts: Iterable[Part], model: SegmentModel) -> Iterator[Event]:
    """Embed parts of files in batches of `model.batch_segments`, the last one padded with silence.

    Args:
        parts: As `decode_parts` gives them.
        model: Works in a thread of its own, while the next batch is put together.

    Yields:
        `Rows` of each file in order, then its `End`; or its `Failure`, at any point.
    """
    with contextlib.closing(_Batches(model)) as batches:
        for part in parts:
            if isinstance(part, Segments):
                yield from batches.add(part)
            else:
                yield from batches.mark(part)
        yield from batches.finish()


#: What a batch holds, in order: the key and the number of a file's segments, or that a file has ended.
_Contents = list[tuple[int, int] | End | Failure]


class _Batches:
    """Segments that wait for the model, and ends of files that wait for their segments.

    Of segments that overlap each sample is kept once, where the model cuts them itself: what is copied and
    what a GPU fetches is that much less.
    """

    def __init__(self, model: SegmentModel) -> None:
        self._embed_segments, self._size = model.embed_segments, model.batch_segments
        self._embed_windows = getattr(model.embed_segments, "windows", None)
        self._thread = ThreadPoolExecutor(1, "embed")
        self._copiers, self._copies = ThreadPoolExecutor(COPIERS, "copy"), list[Future[None]]()
        self._begun: tuple[Future[Array], _Contents] | None = None  # what the model works on
        self._memory = Buffers(pinned=True)
        self._next: Array | None = None  # [segments, segment_samples, 2], or a stretch of as many samples
        self._starts: list[int] = []  # in the stretch
        self._filled = 0
        self._contents: _Contents = []

    def add(self, part: Segments) -> Iterator[Event]:
        segments = part.segments
        whole = len(segments) == self._size and segments.flags.c_contiguous
        if whole and not self._filled:  # it is not copied
            self._contents.append((part.key, self._size))
            yield from self._begin(lambda: self._embed_segments(segments))
            return
        taken = 0
        while taken < len(segments):
            if self._next is None:
                self._next, self._starts = self._taken(segments.shape[1:]), []
            new = segments[taken : taken + self._size - self._filled]
            self._copies.append(self._copiers.submit(np.copyto, *self._place(self._next, new)))
            self._filled, taken = self._filled + len(new), taken + len(new)
            self._contents.append((part.key, len(new)))
            if self._filled == self._size:
                yield from self._begin_next()

    def _place(self, batch: Array, new: Array) -> tuple[Array, Array]:
        """Where in the batch the next segments shall be, and what is to be copied there."""
        stretch, hop_samples = stretch_of(new)
        if self._embed_windows is None or hop_samples >= new.shape[1]:
            return batch[self._filled : self._filled + len(new)], new
        first = self._starts[-1] + new.shape[1] if self._starts else 0
        self._starts += range(first, first + len(new) * hop_samples, hop_samples)
        return batch.reshape(-1, new.shape[2])[first : first + len(stretch)], stretch

    def mark(self, part: End | Failure) -> Iterator[Event]:
        if self._filled:
            self._contents.append(part)
        elif self._begun is not None:
            self._begun[1].append(part)
        else:
            yield part

    def finish(self) -> Iterator[Event]:
        if self._next is not None:
            self._next[self._filled :] = 0  # where nothing of a stretch is yet, nor will be
            self._starts += [0] * (self._size - self._filled if self._starts else 0)
            yield from self._begin_next()
        yield from self._end()

    def close(self) -> None:
        self._copiers.shutdown(cancel_futures=True)
        self._thread.shutdown(cancel_futures=True)

    def _taken(self, shape: tuple[int, ...]) -> Array:
        """Memory of a batch: aligned for TensorFlow, a GPU fetches it by itself, and it is taken again."""
        size = self._size * math.prod(shape) * np.dtype(np.float32).itemsize
        return self._memory.take(size).view(np.float32).reshape(self._size, *shape)

    def _begin_next(self) -> Iterator[Event]:
        batch, starts, self._next, self._filled = self._next, self._starts, None, 0
        assert batch is not None
        if not starts:
            yield from self._begin(lambda: self._embed_segments(batch))
            return
        embed_windows = self._embed_windows
        assert embed_windows is not None
        stretch = batch.reshape(-1, batch.shape[2])[: max(starts) + batch.shape[1]]
        yield from self._begin(lambda: embed_windows(stretch, np.array(starts, np.int64)))

    def _begin(self, embed: Callable[[], Array]) -> Iterator[Event]:
        """Let the model begin; then give what came of the batch before."""
        begun = self._thread.submit(self._embed, embed, self._copies), self._contents
        self._contents, self._copies = [], []
        yield from self._end()
        self._begun = begun

    @staticmethod
    def _embed(embed: Callable[[], Array], copies: Sequence[Future[None]]) -> Array:
        """What the model makes of a batch, once all of it is there."""
        for copy in copies:
            copy.result()
        return embed()

    def _end(self) -> Iterator[Event]:
        if self._begun is None:
            return
        (future, contents), self._begun = self._begun, None
        values, start = future.result(), 0
        for item in contents:
            if isinstance(item, tuple):
                yield Rows(item[0], values[start : start + item[1]])
                start += item[1]
            else:
                yield item


def embed_in_order(
    paths: Sequence[Path],
    model: SegmentModel,
    layout: Layout,
    decoder: str = "soundfile",
) -> Generator[FileEmbedding | BadFile, None, None]:
    """Embed files, several of them decoded side by side while the model works.

    Memory does not grow with the length of the files.

    Args:
        paths: Audio files.
        model: What embeds them.
        layout: Of an embedding; it has to pool.
        decoder: `soundfile`, or `tensorflow-io`.

    Yields:
        One result a file, in the order of `paths`.
    """
    parts = decoded(enumerate(paths), model, layout, decoder)
    open_files: dict[int, SegmentStatistics] = {}
    done: dict[int, FileEmbedding | BadFile] = {}
    next_key = 0
    try:
        for event in embed_parts(parts, model):
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
    with contextlib.closing(embed_in_order(paths, model, layout, decoder)) as results:
        yield from map(_row, results)


def _row(result: FileEmbedding | BadFile) -> NDArray[np.float32]:
    if isinstance(result, BadFile):
        raise DataError(result.reason)
    return result.embedding
