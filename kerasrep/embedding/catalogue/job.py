"""One catalogue embedded: list, embed what is not done, write the table."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import kerasrep
from kerasrep.data.audio import require_decoder
from kerasrep.data.decoders.suffixes import passed_over
from kerasrep.embedding.catalogue import writing
from kerasrep.embedding.catalogue.early import EarlyTable
from kerasrep.embedding.catalogue.layout import WHOLE, About, Layout
from kerasrep.embedding.catalogue.listing import Earlier, Listing
from kerasrep.embedding.catalogue.parts import DamagedPartError, PartWriter, parts_folder
from kerasrep.embedding.catalogue.work import Work, embed_into, embed_on
from kerasrep.embedding.files import iterate_audio
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.named import NamedModel, named_model
from kerasrep.errors import (
    DataError,
    RecipeError,
    RunError,
    StorageError,
    one_line,
    room_advice,
    storage_reason,
)
from kerasrep.runtime.console import Progress
from kerasrep.runtime.native_messages import silenced
from kerasrep.runtime.pool.cluster import Cluster, connect
from kerasrep.runtime.run_log import event, run_log
from kerasrep.storage.atomic import remove_temporaries
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import LOG_NAME, atomic_file

#: Of a file that is longer, people see how far it is.
LONG_SECONDS = 600.0


@dataclass(frozen=True)
class Settings:
    """What shall be in a table.

    Attributes:
        pool: `mean-std`, `mean` or `none`; by default `none` where a hop is given, else `mean-std`.
        hop_seconds: From the beginning of a segment to that of the next one; by default its length.
        sources: Branches to keep; by default all.
        decoder: `soundfile`, or `tensorflow-io`.
        workers: Threads that decode; by default one a processor, 32 at most.
        shard_rows: Rows a Parquet shard, where the output is a folder; 0: one file.
        layers: `last`, `all`, or some of them (see `segment_vector.parse_layers`); by default the
            model's own.
    """

    pool: str | None = None
    hop_seconds: float | None = None
    sources: tuple[str, ...] | None = None
    decoder: str = "soundfile"
    workers: int | None = None
    shard_rows: int = 0
    layers: str | None = None


@dataclass
class Summary:
    """What came of a catalogue.

    Attributes:
        files: In the table.
        rows: In the table.
        dimension: Values of a row.
        kept: Of the files those that an earlier call had done.
        bad: Files and folders that could not be used.
        passed_over: A line about what was found and not tried, or "".
        audio_seconds: Of the files that this call embedded.
        elapsed_seconds: Of embedding in this call.
    """

    files: int = 0
    rows: int = 0
    dimension: int = 0
    kept: int = 0
    bad: int = 0
    passed_over: str = ""
    audio_seconds: float = 0.0
    elapsed_seconds: float = 0.0


def check_output(output: Path, shard_rows: int = 0) -> None:
    """Refuse an output that could only fail after hours of work.

    Raises:
        RecipeError: Where the suffix is unknown, the name too long, or something of another kind is there.
    """
    try:
        _check_place(output, shard_rows)
    except OSError as error:
        raise RecipeError(f"-o {output}: cannot be used ({error.strerror}); give another") from error


def _check_place(output: Path, shard_rows: int) -> None:
    if len(os.fsencode(output.name)) > writing.MAX_NAME_BYTES:
        raise RecipeError(f"-o {output}: has a name of more than {writing.MAX_NAME_BYTES} bytes; shorten it")
    if shard_rows < 0:
        raise RecipeError(f"--shard-rows {shard_rows}: give a whole number above 0")
    if shard_rows:
        if output.suffix == writing.NPZ:
            raise RecipeError(f"-o {output}: shards are Parquet; give a folder, or leave --shard-rows out")
        if output.exists():
            raise RecipeError(f"-o {output}: exists already, and shards are never overwritten; give another")
    elif output.suffix not in writing.SUFFIXES:
        known = " or ".join(writing.SUFFIXES)
        raise RecipeError(f"-o {output}: unknown suffix '{output.suffix}'; use {known}")
    elif output.is_dir():
        raise RecipeError(f"-o {output}: is a folder; give a file name")
    if (skipped := writing.skipped_path(output)).is_dir():
        raise RecipeError(f"-o {output}: {skipped.name}, the table of skipped files, is a folder; remove it")


def embed_catalogue(
    model_name: str | Path,
    inputs: Sequence[Path],
    output: Path,
    settings: Settings,
    restart: bool = False,
    label: str | None = None,
    ray: str | None = None,
    append: bool = False,
) -> Summary:
    """Embed files and folders into one table.

    What is done is kept beside the output until all is: after a kill, the same call goes on. Memory grows by
    some 250 bytes a file, and not with their length.

    Args:
        model_name: An export, a run directory or a `.keras` file; or a baseline (see `named_model`).
        inputs: Files and folders.
        output: `.npz`, `.parquet`, or a new folder for shards.
        settings: What shall be in it.
        restart: Forget what an earlier call has done.
        label: Of the progress that is shown; by default none is.
        ray: Address of a Ray cluster that does the work (see `pool.cluster.connect`).
        append: Keep what the output has, and embed only files that are new or were changed since.

    Raises:
        RecipeError: Where settings or output cannot be, or differ from those of the work that was begun.
        RunError: Where the decoder is not installed, the cluster cannot be reached, a node lacks something,
            none is left, another process works on the output, or work cannot be kept beside it.
        ExportError: Where the model cannot be loaded.
        DataError: Where kept work cannot be read.

    Returns:
        What came of it; where not one file is good, nothing but the table of skipped files is written.
    """
    check_output(output, settings.shard_rows)
    require_decoder(settings.decoder)
    with contextlib.ExitStack() as joined:
        cluster = None if ray is None else joined.enter_context(connect(ray))
        if cluster is not None:  # the workers' GPUs are theirs; this process looks at the model alone
            import tensorflow as tf

            with contextlib.suppress(RuntimeError):  # TensorFlow has begun in this process
                tf.config.set_visible_devices([], "GPU")
        named = named_model(str(model_name))
        model, layout = named.load().arranged(
            settings.pool, settings.hop_seconds, settings.sources, settings.layers
        )
        if layout.pool == WHOLE and settings.decoder != "soundfile":
            raise RecipeError(
                f"--decoder {settings.decoder}: {named.name} takes whole files by soundfile alone"
            )
        about = _about(layout, named.name, named.fingerprint, settings.decoder)
        summary, folder = Summary(dimension=layout.dimension), parts_folder(output)
        with (
            exclusive(folder, "another process works on this output", "-o"),
            run_log("embed", output.with_name(f"{output.name}.{LOG_NAME}"), **dataclasses.asdict(about)),
        ):
            for path in (output, writing.skipped_path(output)):
                remove_temporaries(path)
            earlier, passed = Earlier.read(output, about) if append else Earlier(), Counter[str]()
            listing = Listing(earlier.left(iterate_audio(inputs, passed)), folder, about)
            summary.passed_over = passed_over(passed)
            listing.take_leftovers(restart)
            summary.kept = len(listing.done()) + earlier.unchanged
            event("listed", waiting=listing.n_waiting, done_before=summary.kept)
            early = None
            if output.suffix == writing.PARQUET and not settings.shard_rows:
                early = EarlyTable(output, earlier, listing, layout, about)
            with early or contextlib.nullcontext():
                _embed(cluster, listing, named, model, layout, settings, about, inputs, summary, label)
                joined.close()  # others may want the cluster while the table is written
                _write(listing, earlier, early, output, layout, about, settings.shard_rows, summary)
            shutil.rmtree(folder, ignore_errors=True)
            event("written", output=output, **dataclasses.asdict(summary))
    return summary


def read_skipped(output: Path) -> list[tuple[str, str]]:
    """Path and reason of what could not be used, as the table beside the output says."""
    import csv

    path = writing.skipped_path(output)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["path"], row["reason"]) for row in csv.DictReader(file)]


def _about(layout: Layout, model: str, fingerprint: str, decoder: str) -> About:
    return About(
        model=model,
        model_fingerprint=fingerprint,
        branches=layout.branches,
        model_branches=layout.model_branches,
        pool=layout.pool,
        hop_seconds=layout.hop_seconds,
        segment_seconds=layout.segment_samples / layout.sample_rate_hz,
        sample_rate_hz=layout.sample_rate_hz,
        decoder=decoder,
        kerasrep=kerasrep.__version__,
        layers=layout.layers,
        folder=writing.path_text(Path.cwd()),
    )


def _embed(
    cluster: Cluster | None,
    listing: Listing,
    named: NamedModel,
    model: SegmentModel,
    layout: Layout,
    settings: Settings,
    about: About,
    inputs: Sequence[Path],
    summary: Summary,
    label: str | None,
) -> None:
    """Embed what is not done, here or on a cluster; results go into parts as they come."""
    folder, decoder, threads, said = listing.folder, settings.decoder, settings.workers, about.to_json()
    start_seconds = time.monotonic()
    todo = listing.n_waiting
    with silenced() as loud, Progress(todo, label, "file", label is not None, file=loud) as bar:

        def ended(seconds: float | None) -> None:
            if seconds is not None:
                summary.audio_seconds += seconds
                elapsed = max(time.monotonic() - start_seconds, 1e-9)
                speed = f"{summary.audio_seconds / elapsed:.0f} times real time"
                bar.set_postfix(speed)
            bar.update()

        def under_way(path: Path, seconds: float) -> None:
            if seconds > LONG_SECONDS:  # else its end will be said soon enough
                bar.set_postfix(f"{seconds / 60:.0f} min of {one_line(path.name)}")
                bar.update(0)

        if cluster is None:
            writer = PartWriter(folder, said, layout.dimension, listing.take)
            embed_into(writer, listing.waiting(), model, layout, decoder, threads, ended, under_way)
        else:
            place = named.name if named.path is None else named.path.absolute()
            work = Work(place, named.fingerprint, layout, decoder, threads, said, folder.absolute())
            embed_on(cluster, listing, work, inputs, ended)
    summary.elapsed_seconds = time.monotonic() - start_seconds
    if listing.n_waiting:
        raise StorageError(
            f"{listing.folder}: parts are damaged as soon as they are written; check the disk, and give the "
            "same command again"
        )


def _write(
    listing: Listing,
    earlier: Earlier,
    early: EarlyTable | None,
    output: Path,
    layout: Layout,
    about: About,
    shard_rows: int,
    summary: Summary,
) -> None:
    """Write the tables; nothing where no file is good, or nothing has changed."""
    done, bad = listing.done(), listing.bad()
    summary.files, summary.bad = len(done) + earlier.n_files, len(bad)
    summary.rows = listing.n_rows() + earlier.n_rows
    with _told(writing.skipped_path(output)):
        writing.write_skipped(output, bad)
    for one in bad:
        event("skipped", logging.WARNING, path=one.path, reason=one.reason)
    if not summary.files or not (done or earlier.n_replaced):
        return
    if early is not None:
        with _told(output):
            early.finish()
        return
    stays = [*earlier.rows()]

    def blocks() -> Iterable[writing.Block]:
        rows = itertools.chain(stays, listing.rows(layout.hop_seconds))
        return writing.one_ahead(writing.blocks_of(rows, layout.dimension, shard_rows or None))

    with _told(output):
        if shard_rows:
            writing.write_shards(output, blocks(), layout, about, summary.rows, shard_rows)
        else:
            with atomic_file(output) as temporary:
                if output.suffix == writing.NPZ:
                    names = [
                        *map(writing.path_text, done),
                        *(path for block in stays for path in block.paths),
                    ]
                    longest = max(map(len, names))
                    writing.write_npz(temporary, blocks, layout, about, summary.rows, longest)
                else:
                    writing.write_csv(temporary, blocks(), layout)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except DamagedPartError as error:
        raise DataError(f"{error}; give the same command again, which does its files again") from error
    except StorageError as error:
        raise StorageError(f"{error}: what is done is kept, and the same command goes on") from error
    except OSError as error:
        reason = str(storage_reason(error) or error.strerror or error)
        advice = f"{room_advice(reason)}, and give the same command again"
        raise RunError(f"{path}: cannot be written ({reason}); what is done is kept: {advice}") from error


def reasons(output: Path, most: int) -> Iterator[str]:
    """Lines for people: why files were skipped, the first `most` of them."""
    for number, (_, reason) in enumerate(read_skipped(output)):
        if number == most:
            yield f"and more; all of them are in {writing.skipped_path(output)}"
            return
        yield one_line(reason)
