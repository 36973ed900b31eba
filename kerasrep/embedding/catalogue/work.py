"""Files become rows, wherever they are kept: the same on one machine and on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import NONE, Layout
from kerasrep.embedding.decoding import Cutting, Failure, decode_parts
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.embedding.stream import Rows, embed_parts


class Sink(Protocol):
    """Where results are kept, by the keys of files."""

    def add(self, key: int, first: int, values: NDArray[np.float32]) -> None:
        """Keep rows of a file: [rows, dimension], the first of which is that of segment `first`."""

    def finish(self, key: int, seconds: float) -> None:
        """All rows of a file are there."""

    def fail(self, key: int, reason: str) -> None:
        """A file cannot be used; what was kept of it goes."""


def embed_into(
    sink: Sink,
    files: Iterable[tuple[int, Path]],
    model: SegmentModel,
    layout: Layout,
    decoder: str,
    workers: int | None,
    ended: Callable[[float | None], object],
) -> None:
    """Embed files; results are kept as they come.

    Args:
        sink: Where.
        files: Keys and paths.
        model: Loaded, with the branches of the layout.
        layout: Of the rows.
        decoder: `soundfile`, or `tensorflow-io`.
        workers: Threads that decode; by default one a processor, eight at most.
        ended: Told the seconds of audio of each file, or None for one that cannot be used.
    """
    cutting = Cutting(layout.sample_rate_hz, layout.segment_samples, layout.hop_samples, decoder)
    parts = decode_parts(files, cutting, workers)
    begun: dict[int, SegmentStatistics | int] = {}  # statistics, or without pooling the segments so far
    try:
        for event in embed_parts(parts, model.embed_segments):
            if isinstance(event, Rows):
                _add(sink, layout, begun, event)
                continue
            held = begun.pop(event.key, None)
            if isinstance(event, Failure):
                sink.fail(event.key, event.bad.reason)
                ended(None)
                continue
            if isinstance(held, SegmentStatistics):
                sink.add(event.key, 0, layout.pooled(held)[None])
            seconds = event.samples / layout.sample_rate_hz
            sink.finish(event.key, seconds)
            ended(seconds)
    finally:
        parts.close()


def _add(sink: Sink, layout: Layout, begun: dict[int, SegmentStatistics | int], rows: Rows) -> None:
    if layout.pool == NONE:
        first = begun.get(rows.key, 0)
        assert isinstance(first, int)
        sink.add(rows.key, first, rows.values)
        begun[rows.key] = first + len(rows.values)
        return
    statistics = begun.setdefault(rows.key, layout.new_statistics())
    assert isinstance(statistics, SegmentStatistics)
    statistics.add(rows.values)
