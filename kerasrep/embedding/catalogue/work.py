"""Files become rows, wherever they are kept: the same on one machine and on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kerasrep.embedding.catalogue.layout import NONE, WHOLE, Layout
from kerasrep.embedding.catalogue.parts import Listed, PartWriter
from kerasrep.embedding.decoding import Cutting, Failure, decode_parts
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.embedding.stream import Rows, embed_parts


def embed_into(
    writer: PartWriter,
    files: Iterable[Listed],
    model: SegmentModel,
    layout: Layout,
    decoder: str,
    workers: int | None,
    ended: Callable[[float | None], object],
    under_way: Callable[[Path, float], object] = lambda *_: None,
) -> None:
    """Embed files; results are kept as they come, and what was finished is, whatever ends the work.

    Args:
        writer: Of the parts.
        files: Of the list.
        model: Loaded, with the branches of the layout.
        layout: Of the rows.
        decoder: `soundfile`, or `tensorflow-io`.
        workers: Threads that decode; by default one a processor, 32 at most.
        ended: Told the seconds of audio of each file, or None for one that cannot be used.
        under_way: Told a file that is not done, and the seconds of it that are.
    """
    if model.embed_file is not None and layout.pool == WHOLE:
        _embed_whole(writer, files, model.embed_file, ended)
        return
    cutting = Cutting(layout.sample_rate_hz, layout.segment_samples, layout.hop_samples, decoder)
    drawn: dict[int, Listed] = {}  # by the number that decoders know them by, until they end
    statistics: dict[int, SegmentStatistics] = {}
    rows: dict[int, int] = {}

    def draw() -> Iterator[tuple[int, Path]]:
        for number, file in enumerate(files):
            drawn[number] = file
            yield number, file.path

    parts = decode_parts(draw(), cutting, workers)
    try:
        for event in embed_parts(parts, model.embed_segments):
            if isinstance(event, Rows):
                rows[event.key] = rows.get(event.key, 0) + len(event.values)
                under_way(drawn[event.key].path, rows[event.key] * layout.hop_samples / layout.sample_rate_hz)
                if layout.pool == NONE:
                    writer.add(drawn[event.key], event.values)
                else:
                    statistics.setdefault(event.key, layout.new_statistics()).add(event.values)
                continue
            rows.pop(event.key, None)
            file, pooled = drawn.pop(event.key), statistics.pop(event.key, None)
            if isinstance(event, Failure):
                writer.end(file, None, event.bad.reason)
                ended(None)
                continue
            typical_seconds = None
            if pooled is not None:
                writer.add(file, layout.pooled(pooled)[None])
                typical_seconds = pooled.typical() * layout.hop_seconds
            seconds = event.samples / layout.sample_rate_hz
            writer.end(file, seconds, typical_seconds=typical_seconds)
            ended(seconds)
    finally:
        parts.close()
        writer.publish()


def _embed_whole(
    writer: PartWriter,
    files: Iterable[Listed],
    embed_file: Callable[[Path], FileEmbedding | BadFile],
    ended: Callable[[float | None], object],
) -> None:
    """One row per file, one after the other: what embeds it may not be called by several threads."""
    try:
        for file in files:
            result = embed_file(file.path)
            if isinstance(result, BadFile):
                writer.end(file, None, result.reason)
                ended(None)
                continue
            writer.add(file, result.embedding[None])
            writer.end(file, result.seconds)
            ended(result.seconds)
    finally:
        writer.publish()
