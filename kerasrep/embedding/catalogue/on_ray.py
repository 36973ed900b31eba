"""A catalogue on the nodes of a Ray cluster: each worker makes parts, this process takes them in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasrep.embedding.catalogue.journal import WAITING, Journal
from kerasrep.embedding.catalogue.layout import Layout
from kerasrep.embedding.catalogue.parts import Listed, PartWriter, is_whole, parts_in, read_part
from kerasrep.embedding.catalogue.work import embed_into
from kerasrep.embedding.models import find_model
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.errors import ExportError, RunError
from kerasrep.runtime.cluster.connection import Cluster
from kerasrep.runtime.cluster.nodes import await_file, check_missing, shared_with
from kerasrep.runtime.cluster.workers import Place, Plan, Workers, places_of

#: A part is at most so many files, and about so much audio; what a lost worker had is done again.
PART_FILES, PART_BYTES = 256, 256 << 20
#: Parts that each worker shall make at least, so that all end at about the same time.
PARTS_A_WORKER = 8
MIN_PART_FILES = 16


@dataclass(frozen=True)
class Work:
    """What all workers do.

    Attributes:
        model: Path of it, absolute.
        fingerprint: Of the model.
        layout: Of the rows.
        decoder: `soundfile`, or `tensorflow-io`.
        threads: That decode, a worker; by default one a core of its share.
        settings: Text that says what is made.
        folder: Where parts go, absolute.
    """

    model: Path
    fingerprint: str
    layout: Layout
    decoder: str
    threads: int | None
    settings: str
    folder: Path


@dataclass(frozen=True)
class Made:
    """What a worker says of a part.

    Attributes:
        name: Of the part, in the folder of the work.
        host: Of the node.
        missing: Files that were there when the catalogue was listed, and are not on that node.
    """

    name: str
    host: str
    missing: tuple[Path, ...]


def build_worker(place: Place, host: str, work: Work) -> Callable[[Sequence[Listed]], Made]:
    """On a node: load the model.

    Raises:
        ExportError: Where it cannot be loaded, or is another one than where the work was begun.
    """
    load_model, found = find_model(work.model)
    if model_fingerprint(found) != work.fingerprint:
        raise ExportError(f"--ray: {work.model} on node {host} is another model than here; copy it there")
    model = load_model(found).only(work.layout.pieces)

    def make_part(files: Sequence[Listed]) -> Made:
        with PartWriter(files, work.settings) as part:
            paths = enumerate(file.path for file in files)
            threads = work.threads or place.threads
            embed_into(part, paths, model, work.layout, work.decoder, threads, lambda _: None)
            try:
                name = part.publish(work.folder)
            except OSError as error:
                reason = f"node {host} cannot write there ({error.strerror}); make room"
                raise RunError(f"{work.folder}: {reason}") from error
        missing = tuple(file.path for file in files if file.size >= 0 and not os.path.lexists(file.path))
        return Made(name, host, missing)

    return make_part


def embed_on(
    cluster: Cluster,
    journal: Journal,
    work: Work,
    inputs: Sequence[Path],
    ended: Callable[[float | None], object],
) -> None:
    """Embed what is not done.

    Args:
        cluster: Where.
        journal: Of the work; it holds everything afterwards.
        work: What workers do.
        inputs: Files and folders of the catalogue, for a first look at what nodes see.
        ended: Told the seconds of audio of each file, or None for one that cannot be used.

    Raises:
        RunError: Where a node lacks something, none is left, or the cluster does not answer.
    """
    take_leftover_parts(journal, work.settings, ended)
    if not journal.count(WAITING):
        return
    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(shared_with([journal.folder], [*inputs, work.model]))
        plan = Plan(places_of, build_worker, (work,), shared)
        workers = stack.enter_context(Workers[tuple[Listed, ...]](cluster, plan))
        n_workers = sum(len(places_of(node)) for node in cluster.nodes()) or 1
        most = max(MIN_PART_FILES, journal.count(WAITING) // (PARTS_A_WORKER * n_workers))
        # What is left then was in a damaged part, or workers died over it: file by file.
        for n_files in (min(PART_FILES, most), 1) if journal.count(WAITING) else ():
            for _, made in workers.run(chunks(journal.waiting(), n_files)):
                if isinstance(made, Made):
                    _take(journal, work, made, ended)
    for key, path in journal.todo():
        journal.fail(key, f"{path}: every worker that embedded it died; is it damaged, or memory short?")
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


def take_leftover_parts(journal: Journal, settings: str, ended: Callable[[float | None], object]) -> None:
    """Take in what nodes had finished when an earlier call ended; bad files are tried again."""
    for path in parts_in(journal.folder):
        if is_whole(path):
            for finished in read_part(path, settings):
                if finished.seconds is not None and journal.take(finished):
                    ended(finished.seconds)
            journal.commit()
        path.unlink(missing_ok=True)


def _take(journal: Journal, work: Work, made: Made, ended: Callable[[float | None], object]) -> None:
    """Take in a part; a damaged one is left out, so that its files are done again.

    Raises:
        RunError: Where the node did not see a file that is here, or its part is not here.
    """
    check_missing(made.host, made.missing)
    path = journal.folder / made.name
    await_file(path, made.host)
    if is_whole(path):
        for finished in read_part(path, work.settings):
            if journal.take(finished):
                ended(finished.seconds)
        journal.commit()
    path.unlink(missing_ok=True)
