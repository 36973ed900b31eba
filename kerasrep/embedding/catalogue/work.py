"""Files become rows, wherever they are kept: the same on one machine and on the nodes of a cluster.

On a Ray cluster each worker makes parts, and the process that was started takes them in.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasrep.data import notices
from kerasrep.embedding.catalogue.layout import NONE, WHOLE, Layout
from kerasrep.embedding.catalogue.listing import Listing
from kerasrep.embedding.catalogue.parts import Listed, PartWriter
from kerasrep.embedding.decoding import Failure
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.named import named_model
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.embedding.stream import Rows, decoded, embed_parts
from kerasrep.errors import ExportError, RunError, StorageError
from kerasrep.runtime.pool.base import Answer
from kerasrep.runtime.pool.cluster import Cluster
from kerasrep.runtime.pool.nodes import shared_with
from kerasrep.runtime.pool.on_ray import Place, Plan, RayPool

#: A part is at most so many files, and about so much audio; what a lost worker had is done again.
PART_FILES, PART_BYTES = 256, 256 << 20
#: Parts that each worker shall make at least, so that all end at about the same time.
PARTS_A_WORKER = 8
MIN_PART_FILES = 16


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
    drawn: dict[int, Listed] = {}  # by the number that decoders know them by, until they end
    statistics: dict[int, SegmentStatistics] = {}
    rows: dict[int, int] = {}

    def draw() -> Iterator[tuple[int, Path]]:
        for number, file in enumerate(files):
            drawn[number] = file
            yield number, file.path

    parts = decoded(draw(), model, layout, decoder, workers)
    try:
        for event in embed_parts(parts, model):
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


@dataclass(frozen=True)
class Work:
    """What all workers do.

    Attributes:
        model: Path of it, absolute; or the name of a baseline.
        fingerprint: Of the model.
        layout: Of the rows.
        decoder: `soundfile`, or `tensorflow-io`.
        threads: That decode, a worker; by default one a core of its share.
        settings: Text that says what is made.
        folder: Where parts go, absolute.
    """

    model: Path | str
    fingerprint: str
    layout: Layout
    decoder: str
    threads: int | None
    settings: str
    folder: Path


def build_worker(place: Place, work: Work) -> Callable[[Sequence[Listed]], Answer]:
    """On a node: load the model.

    Raises:
        ExportError: Where it cannot be loaded, or is another one than where the work was begun.
    """
    host = platform.node()
    named = named_model(str(work.model))
    if named.fingerprint != work.fingerprint:
        raise ExportError(f"--ray: {work.model} on node {host} is another model than here; copy it there")
    model = named.load().only(work.layout.pieces)

    def make_part(files: Sequence[Listed]) -> Answer:
        parts: list[Path] = []
        writer = PartWriter(work.folder, work.settings, work.layout.dimension, parts.append)
        threads = work.threads or place.threads
        try:
            embed_into(writer, files, model, work.layout, work.decoder, threads, lambda _: None)
        except StorageError as error:
            raise RunError(f"node {host}: {error}") from error
        missing = tuple(file.path for file in files if file.size >= 0 and not os.path.lexists(file.path))
        return Answer(notices.hand_over(), written=tuple(parts), missing=missing)

    return make_part


def embed_on(
    cluster: Cluster,
    listing: Listing,
    work: Work,
    inputs: Sequence[Path],
    ended: Callable[[float | None], object],
) -> None:
    """Embed what is not done.

    Args:
        cluster: Where.
        listing: The files; all of them are done or bad afterwards.
        work: What workers do.
        inputs: Files and folders of the catalogue, for a first look at what nodes see.
        ended: Told the seconds of audio of each file, or None for one that cannot be used.

    Raises:
        RunError: Where a node lacks something, none is left, or the cluster does not answer.
    """
    if not listing.n_waiting:
        return
    with contextlib.ExitStack() as stack:
        seen = [*inputs, work.model] if isinstance(work.model, Path) else inputs
        shared = stack.enter_context(shared_with([work.folder], seen))
        plan = Plan(build_worker, (work,), shared)
        pool = stack.enter_context(RayPool[tuple[Listed, ...]](cluster, plan))
        most = max(MIN_PART_FILES, listing.n_waiting // (PARTS_A_WORKER * max(1, pool.size)))
        # What is left then was in a damaged part, or workers died over it: file by file.
        for n_files in (min(PART_FILES, most), 1) if listing.n_waiting else ():
            for _, answer in pool.run(chunks(listing.waiting(), n_files)):
                if not isinstance(answer, Answer):
                    continue
                for notice in answer.value:
                    notices.add(*notice)
                for path in answer.written:
                    for seconds in listing.take(path):
                        ended(seconds)
    for file in listing.waiting():
        reason = f"{file.path}: every worker that embedded it died; is it damaged, or memory short?"
        listing.fail(file, reason)
        ended(None)


def chunks(files: Iterable[Listed], n_files: int) -> Iterator[tuple[Listed, ...]]:
    """Consecutive files, as many as go into a part."""
    chunk: list[Listed] = []
    n_bytes = 0
    for file in files:
        if chunk and (len(chunk) == n_files or n_bytes + file.size > PART_BYTES):
            yield tuple(chunk)
            chunk, n_bytes = [], 0
        chunk.append(file)
        n_bytes += max(0, file.size)
    if chunk:
        yield tuple(chunk)
