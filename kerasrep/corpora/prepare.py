"""A corpus becomes shards and targets in one folder, `prepared/FINGERPRINT` under `run_directory.home()`.

`api.prepare` calls the stages, each of which is kept and found again: labels of large files are read
(`stored_labels`), audio is decoded into `shards/FINGERPRINT`, and targets are made, source by source
(`prepared_files`). The first fingerprint covers the corpus, how it is decoded, and how targets are made, but
not which sources a recipe trains on: all recipes on one corpus share one folder. That of the shards covers
audio and decoding alone, so that no audio is decoded again for other targets, splits or another seed; the
prepared folder holds hard links to the shards and stays whole when `shards` is deleted. `manifest.json` is
written last and says that all the rest is there. Decoding tells which tracks are the same recording
(`copies`); a corpus that has such is opened again and split with them, which decodes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasrep.corpora import prepared_files, report
from kerasrep.corpora.base import Corpus
from kerasrep.corpora.copies import find_copies
from kerasrep.corpora.report_page import page_of
from kerasrep.corpora.stored_labels import StoredLabels
from kerasrep.data import shard_writer
from kerasrep.data.audio import DECODING_VERSION
from kerasrep.data.identity import IDENTITY_VERSION
from kerasrep.data.recordings import write_identities
from kerasrep.data.shard_decoding import AudioItem
from kerasrep.errors import DataError
from kerasrep.recipe.base import in_order
from kerasrep.recipe.network import AudioSettings
from kerasrep.recipe.schema import TargetSettings, fingerprint
from kerasrep.report.topics import write_topics
from kerasrep.runtime.pool.cluster import Cluster, connect
from kerasrep.runtime.run_log import event, run_log
from kerasrep.sources.target_files import save_targets
from kerasrep.sources.targets import build_targets
from kerasrep.storage.folder_lock import in_turn
from kerasrep.storage.run_directory import PreparedDirectory, home, write_arrays, write_json, write_text
from kerasrep.storage.tables import write_table

FORMAT_VERSION = 5


@dataclass(frozen=True)
class Folders:
    """Where what is made of a corpus goes.

    Attributes:
        directory: Shards and targets, named by all that they depend on.
        store: The shards alone, which other targets share.
        settings: What the files depend on, beside the corpus.
    """

    directory: PreparedDirectory
    store: PreparedDirectory
    settings: Mapping[str, Any]


def folders_of(corpus: Corpus, audio: AudioSettings, targets: TargetSettings, seed: int) -> Folders:
    """The folders of a corpus, as it is decoded and as its targets are made."""
    decoding = {
        "sample_rate_hz": audio.sample_rate_hz,
        "segment_samples": audio.segment_samples,
        "decoder": audio.decoder,
        "decoding": DECODING_VERSION,
        "identity": IDENTITY_VERSION,
    }
    settings = {**decoding, "targets": targets.model_dump(mode="json", exclude={"kinds"}), "seed": seed}
    of_audio = corpus.audio_fingerprint or corpus.fingerprint
    return Folders(
        PreparedDirectory(home() / "prepared" / fingerprint([FORMAT_VERSION, corpus.fingerprint, settings])),
        PreparedDirectory(home() / "shards" / fingerprint([FORMAT_VERSION, of_audio, decoding])),
        settings,
    )


@contextlib.contextmanager
def joining(ray: str | None) -> Iterator[prepared_files.Join]:
    """Give what joins the cluster at an address, once, where something is asked of it."""
    with contextlib.ExitStack() as joined:

        @functools.cache
        def join() -> Cluster | None:
            return None if ray is None else joined.enter_context(connect(ray))

        yield join


@contextlib.contextmanager
def making(corpus: Corpus, directory: PreparedDirectory, check: bool, progress: bool) -> Iterator[bool]:
    """Hold a folder while it is made, with its log; gives whether anything but shards is to be made."""
    if _is_whole(directory, check):
        yield False
        return
    with _lock(directory.root, progress):
        if _is_whole(directory, check, progress):  # another process may have made it meanwhile
            yield False
            return
        shard_writer.remove_temporary(directory)
        with run_log("prepare", directory.log, corpus=corpus.name, tracks=len(corpus.tracks)):
            yield True


def _is_whole(directory: PreparedDirectory, thorough: bool, tell: bool = False) -> bool:
    """Whether nothing of the folder is to be made, or made again, shards excepted."""
    if not directory.manifest.exists():
        return False
    fault = prepared_files.find_fault(directory, thorough)
    if fault is not None and tell:
        print(f"damaged: {fault}; made again", flush=True)
    return fault is None


def _lock(root: Path, progress: bool) -> AbstractContextManager[None]:
    def waiting() -> None:
        if progress:
            print(f"waiting for another process that prepares {root}", flush=True)
        event("waiting", folder=root)

    return in_turn(root, waiting)


class LabelNotes(NamedTuple):
    """What reading label files had to say.

    Attributes:
        skipped: File -> reason -> lines that were not used.
        notices: For people.
    """

    skipped: Mapping[str, Mapping[str, int]]
    notices: Sequence[str]


def read_labels(corpus: Corpus, progress: bool) -> LabelNotes:
    """Read label files before hours of decoding, and keep what was read."""
    notes = LabelNotes({}, ())
    if isinstance(corpus.labels, StoredLabels):
        notes = LabelNotes(*corpus.labels.read_all())
    for notice in notes.notices if progress else ():
        if notice not in corpus.notices:  # which were shown
            print(f"note: {notice}", flush=True)
    event("labels_read", skipped=notes.skipped, notices=notes.notices)
    return notes


def decode(
    corpus: Corpus, folders: Folders, audio: AudioSettings, progress: bool, join: prepared_files.Join
) -> shard_writer.WrittenShards | None:
    """Decode the audio into shards, unless that is done, and list the tracks that are in them.

    Of tracks that are kept for evaluation shards may hold the audio, but index and result do not have them.

    Returns:
        `None` where decoding has found copies that the corpus was split without: it is to be opened again.

    Raises:
        DataError: Where no track is left in training or validation; the folders are removed then.
    """
    directory, store = folders.directory, folders.store
    with _lock(store.root, progress):
        shards = shard_writer.read_shards(store)
        if shards is None:
            shard_writer.remove_temporary(store)
            shards = shard_writer.write_shards(
                store, items_of(corpus), audio, progress=progress, cluster=join()
            )
            if len(shards.index):
                shard_writer.finish_shards(store, shards)
        ids = shards.index.track_ids.tolist()
        sought = corpus.copies_known or not corpus.audio_fingerprint or not ids
        if not sought and find_copies(corpus.audio_fingerprint, ids, shards.identities):
            shutil.rmtree(directory.root, ignore_errors=True)
            if progress:
                print("note: decoding has found copies of recordings; tracks are split again", flush=True)
            return None
        index = shards.index.with_splits({track.track_id: track.split for track in corpus.tracks})
        rows = np.sort(np.concatenate([index.rows("train"), index.rows("validation")]))
        for split in ("train", "validation"):
            if not len(index.rows(split)):
                shutil.rmtree(store.root, ignore_errors=True)
                shutil.rmtree(directory.root, ignore_errors=True)
                raise DataError(_none_left(corpus, shards, split))
        shards = replace(shards, index=index.take(rows), identities=shards.identities.take(rows))
        shard_writer.link_shards(store, directory, shards.index)
        write_identities(directory.identities, shards.identities)
    event("decoded", **_decoded(shards))
    _write_skipped(directory, corpus, shards)
    _write_tracks(directory, corpus, shards)
    _write_pools(directory, corpus, shards)
    return shards


def make_targets(
    corpus: Corpus,
    folders: Folders,
    notes: LabelNotes,
    shards: shard_writer.WrittenShards,
    settings: TargetSettings,
    seed: int,
    progress: bool,
) -> None:
    """Make the soft targets of the tracks in the shards; the manifest, written last, completes the folder."""
    directory = folders.directory
    train_ids = shards.index.track_ids[shards.index.rows("train")].tolist()
    labels = report.LabelsInUse(corpus.labels, shards.index.track_ids.tolist())
    targets = prepared_files.targets_by_source(
        directory, labels, lambda one: build_targets(one, train_ids, settings, seed, progress)
    )
    save_targets(directory.targets, targets)
    write_topics(directory, targets.report)
    manifest = {
        "format": FORMAT_VERSION,
        "fingerprint": directory.root.name,
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "missing": dict(corpus.missing),
            "notices": list(dict.fromkeys([*corpus.notices, *notes.notices])),
            "skipped_labels": notes.skipped,
        },
        "settings": dict(folders.settings),
        **_about_shards(corpus, shards),
        "sources": report.source_numbers(shards.index, targets, labels.n_labelled),
        "overlaps": report.overlaps(shards.index, targets),
        "files": prepared_files.describe_files(directory),
    }
    write_text(directory.report, "\n".join(report.report_lines(manifest)) + "\n")
    write_text(directory.page, page_of(manifest, targets.report))
    write_json(directory.manifest, manifest)
    prepared_files.remove_target_parts(directory, corpus.labels)


def check_shards(
    corpus: Corpus, folders: Folders, audio: AudioSettings, progress: bool, join: prepared_files.Join
) -> None:
    """Compare the shards of a complete folder with their checksums, and decode damaged ones again."""
    with _lock(folders.directory.root, progress), _lock(folders.store.root, progress):
        prepared_files.repair(folders.directory, folders.store, items_of(corpus), audio, progress, join)


def _about_shards(corpus: Corpus, shards: shard_writer.WrittenShards) -> dict[str, Any]:
    index = shards.index
    return {
        "tracks": {
            "train": len(index.rows("train")),
            "validation": len(index.rows("validation")),
            "evaluation": sum(
                track.split == "evaluation" and track.track_id not in shards.skipped
                for track in corpus.tracks
            ),
        },
        "hours": float(index.samples.sum() / index.sample_rate_hz / 3600),
        "skipped": len(shards.skipped) + len(corpus.skipped),
        "shortened": shards.shortened,
        "shards": {
            str(name): {"bytes": int(size), "sha256": shards.checksums[str(name)]}
            for name, size in zip(index.shard_files, index.shard_bytes, strict=True)
        },
    }


def _decoded(shards: shard_writer.WrittenShards) -> dict[str, Any]:
    return {
        "training_tracks": len(shards.index.rows("train")),
        "validation_tracks": len(shards.index.rows("validation")),
        "skipped": len(shards.skipped),
        "shortened": shards.shortened,
        "shards": len(shards.index.shard_files),
    }


def items_of(corpus: Corpus) -> list[AudioItem]:
    """What is decoded: tracks that are kept for evaluation only where copies may bring them into training."""
    return [
        AudioItem(track.track_id, track.path, track.split)
        for track in corpus.tracks
        if track.split != "evaluation" or corpus.audio_fingerprint
    ]


def _none_left(corpus: Corpus, shards: shard_writer.WrittenShards, split: str) -> str:
    in_split = [track for track in corpus.tracks if track.split == split]
    message = f"corpus '{corpus.name}': none of its {len(in_split)} {split} tracks can be used"
    for track in in_split:
        if track.track_id in shards.skipped:
            return f"{message}; the first, {track.path}: {shards.skipped[track.track_id]}"
    return f"{message}; add tracks or change the split's fraction"


def _write_skipped(directory: PreparedDirectory, corpus: Corpus, shards: shard_writer.WrittenShards) -> None:
    paths = {track.track_id: str(track.path) for track in corpus.tracks}
    skipped = [(paths[track], reason) for track, reason in shards.skipped.items()]
    write_table(directory.skipped, ["path", "reason"], [*corpus.skipped.items(), *skipped])


def _write_tracks(directory: PreparedDirectory, corpus: Corpus, shards: shard_writer.WrittenShards) -> None:
    lines = ["track_id\tsplit\ttitle\tartist\tlabel"]
    for track in corpus.tracks:
        if track.track_id not in shards.skipped:
            fields = (track.track_id, track.split, track.title, track.artist, track.label)
            lines.append("\t".join(" ".join(field.split()) for field in fields))
    write_text(directory.tracks, "\n".join(lines) + "\n")


def _write_pools(directory: PreparedDirectory, corpus: Corpus, shards: shard_writer.WrittenShards) -> None:
    pools = {track.track_id: track.pool for track in corpus.tracks}
    if any(pools.values()):
        write_arrays(directory.pools, {"pool": np.array([pools[t] for t in shards.index.track_ids.tolist()])})


def check_labels(corpus: Corpus, sources: Iterable[str]) -> None:
    """Refuse a source without any label before hours of decoding.

    Raises:
        DataError: Naming the source, and those that the corpus has.
    """
    for source in sources:
        if source != "self" and source not in corpus.labels:
            available = ", ".join(in_order(["self", *corpus.labels]))
            sought = f"; {corpus.missing[source]}" if source in corpus.missing else ""
            raise DataError(_no_labels(corpus.name, source, available) + sought)


def check_trained(directory: PreparedDirectory, sources: Iterable[str]) -> None:
    """Refuse a source that no training track has, or all have alike, or whose times are of other audio.

    Raises:
        DataError: Naming the source, and those that there are.
    """
    manifest = report.read_manifest(directory)
    numbers = manifest["sources"]
    available = ", ".join(source for source in numbers if numbers[source]["train"])
    for source in sources:
        if source not in numbers or not numbers[source]["train"]:
            raise DataError(_no_labels(manifest["corpus"]["name"], source, available))
        if numbers[source].get("all_alike"):
            raise DataError(
                f"source '{source}': all {numbers[source]['train']} training tracks have the same label, so "
                "there is nothing to learn; leave it out of sources, or give labels that differ"
            )
        rows = numbers[source].get("rows", 0)
        if rows and rows == numbers[source]["rows_behind"]:
            raise DataError(
                f"corpus.tables.{source}: all {rows} rows begin after their track's end; times are in "
                "seconds from the beginning of the file"
            )


def _no_labels(corpus: str, source: str, available: str) -> str:
    return f"corpus '{corpus}': source '{source}' has no labelled training track; sources it has: {available}"
