"""Decode audio once and write it as TFRecord shards (see `data.shards` for the form).

Which track goes to which shard follows from the headers alone, and each finished shard leaves a small
part file beside it. An interrupted call therefore continues where it stopped, and the bytes do not depend
on the number of threads.
Finished shards lie in a folder of their own, shared by all folders of targets that go with them.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerasrep import constants
from kerasrep.data import notices
from kerasrep.data.identity import Identity
from kerasrep.data.recordings import Identities, read_identities, write_identities
from kerasrep.data.shard_decoding import AudioItem, ShardTask, expected_samples, finished_part, write_decoded
from kerasrep.data.shards import FRAME_BYTES, ShardIndex, load_index, save_index
from kerasrep.errors import DataError, RunError
from kerasrep.recipe.network import AudioSettings
from kerasrep.runtime.console import Progress
from kerasrep.runtime.native_messages import silenced
from kerasrep.runtime.pool.base import Answer, Lost
from kerasrep.runtime.pool.cluster import Cluster
from kerasrep.runtime.pool.nodes import shared_with
from kerasrep.runtime.pool.on_ray import Place, Plan, RayPool, places_of
from kerasrep.runtime.threads import core_count, in_order
from kerasrep.storage.run_directory import PreparedDirectory, read_json, write_json

SHARD_BYTES = 150_000_000


@dataclass(frozen=True)
class WrittenShards:
    """What a call of `write_shards` left on disk.

    Attributes:
        index: Of the tracks written; not yet saved.
        identities: Of the same tracks, in the order of `index`.
        checksums: Shard file name -> SHA-256 in hexadecimal digits.
        skipped: Track id -> why it is not in a shard.
        shortened: Tracks longer than `MAX_TRACK_SECONDS`, of which the beginning was taken.
    """

    index: ShardIndex
    identities: Identities
    checksums: dict[str, str]
    skipped: dict[str, str]
    shortened: int


def write_shards(
    directory: PreparedDirectory,
    items: Sequence[AudioItem],
    audio: AudioSettings,
    n_threads: int | None = None,
    progress: bool = True,
    cluster: Cluster | None = None,
) -> WrittenShards:
    """Decode `items` and write those that hold at least one segment, in their order.

    Args:
        directory: Where the shards go; finished ones found there are kept.
        items: The tracks.
        audio: Rate, segment length and decoder.
        n_threads: Decoding threads; by default one a core this process may use.
        progress: Show a bar.
        cluster: Whose nodes decode; by default this process does.

    Raises:
        RunError: Where the folder cannot be written, or the cluster fails.
    """
    n_threads = n_threads or core_count()
    notices.take()  # those of earlier work in this process
    with silenced() as loud:
        plan, skipped = _plan(items, audio, n_threads)
        tasks = [
            ShardTask(directory.shard(number, len(plan)), tuple(group)) for number, group in enumerate(plan)
        ]
        parts = [finished_part(task, audio) for task in tasks]
        left = [number for number, part in enumerate(parts) if part is None]
        with Progress(sum(map(len, plan)), "decoding", "track", progress, file=loud) as bar:
            bar.update(sum(len(task.tracks) for task, part in zip(tasks, parts, strict=True) if part))
            if cluster is not None and left:
                _write_on_nodes(cluster, [tasks[number] for number in left], audio, bar.update)
                remove_temporary(directory)  # of workers that were lost
                parts = [finished_part(task, audio) for task in tasks]
                left = [number for number, part in enumerate(parts) if part is None]
            written = write_decoded([tasks[number] for number in left], audio, n_threads, bar.update)
            for number, part in zip(left, written, strict=True):
                parts[number] = part
    for line in notices.take() if progress else ():
        print(f"note: {line}", flush=True)
    done = [part for part in parts if part is not None]
    return _written(directory, items, done, skipped, audio)


def build_writer(place: Place, audio: AudioSettings) -> Callable[[ShardTask], Answer]:
    """On a node: what writes a shard, unless the node lacks one of its files."""

    def write(task: ShardTask) -> Answer:
        missing = tuple(item.path for item in task.tracks if not os.path.lexists(item.path))
        if missing:
            return Answer(missing=missing)
        list(write_decoded([task], audio, place.threads, lambda: None))
        return Answer(notices.hand_over(), written=(task.path,))

    return write


def _write_on_nodes(
    cluster: Cluster, tasks: Sequence[ShardTask], audio: AudioSettings, advance: Callable[[int], object]
) -> None:
    """Write shards, all in one folder; those are left out whose tracks are gone here as well.

    Raises:
        RunError: Where a node lacks something, none is left, or workers die over a shard.
    """
    with shared_with([tasks[0].path.parent], [tasks[0].tracks[0].path.parent]) as shared:
        plan = Plan(build_writer, (audio,), shared, partial(places_of, use_gpus=False))
        with RayPool[ShardTask](cluster, plan) as pool:
            for task, answer in pool.run(tasks):
                if isinstance(answer, Lost):
                    raise RunError(
                        f"{task.path}: {answer.deaths} workers died over it; is memory short, or one of its "
                        f"tracks damaged ({task.tracks[0].path} to {task.tracks[-1].path})?"
                    )
                if answer.written:
                    for notice in answer.value:
                        notices.add(*notice)
                    advance(len(task.tracks))


def _written(
    directory: PreparedDirectory,
    items: Sequence[AudioItem],
    parts: Sequence[dict[str, Any]],
    skipped: dict[str, str],
    audio: AudioSettings,
) -> WrittenShards:
    for part in parts:
        skipped.update(part["skipped"])
    return WrittenShards(
        index=_index(directory, items, parts, audio),
        identities=Identities.of(
            [Identity.from_bytes(base64.b64decode(record[3])) for part in parts for record in part["records"]]
        ),
        checksums={part["file"]: part["sha256"] for part in parts},
        skipped={item.track_id: skipped[item.track_id] for item in items if item.track_id in skipped},
        shortened=sum(part["shortened"] for part in parts),
    )


def remove_temporary(directory: PreparedDirectory) -> None:
    """Remove what a killed call left half-written; only for the one process that holds the folder."""
    for path in directory.root.glob(".*"):
        path.unlink(missing_ok=True)


def _plan(
    items: Sequence[AudioItem], audio: AudioSettings, n_threads: int
) -> tuple[list[list[AudioItem]], dict[str, str]]:
    """Tracks of each shard, and those that the header alone rules out."""
    plan: list[list[AudioItem]] = []
    skipped: dict[str, str] = {}
    n_bytes = 0
    lengths = in_order(lambda item: expected_samples(item, audio), items, n_threads)
    for item, expected in zip(items, lengths, strict=True):
        if isinstance(expected, str):
            skipped[item.track_id] = expected
            continue
        if not plan or n_bytes + expected * FRAME_BYTES > SHARD_BYTES:
            plan.append([])
            n_bytes = 0
        plan[-1].append(item)
        n_bytes += expected * FRAME_BYTES
    return plan, skipped


def _index(
    directory: PreparedDirectory,
    items: Sequence[AudioItem],
    parts: Sequence[dict[str, Any]],
    audio: AudioSettings,
) -> ShardIndex:
    split = {item.track_id: constants.SPLITS.index(item.split) for item in items}
    rows = [(shard, *record) for shard, part in enumerate(parts) for record in part["records"]]
    return ShardIndex(
        root=directory.root,
        track_ids=np.array([row[1] for row in rows], dtype=np.str_),
        split=np.array([split[row[1]] for row in rows], dtype=np.int8),
        shard=np.array([row[0] for row in rows], dtype=np.int32),
        offset_bytes=np.array([row[2] for row in rows], dtype=np.int64),
        samples=np.array([row[3] for row in rows], dtype=np.int64),
        shard_files=np.array([part["file"] for part in parts], dtype=np.str_),
        shard_bytes=np.array([part["bytes"] for part in parts], dtype=np.int64),
        sample_rate_hz=audio.sample_rate_hz,
    )


def finish_shards(store: PreparedDirectory, shards: WrittenShards) -> None:
    """Save the index, identities and, last, what else `write_shards` said: then the store is complete.

    The part files stay: with them, a shard that is damaged later is decoded again alone.
    """
    save_index(store, shards.index)
    write_identities(store.identities, shards.identities)
    about = {"checksums": shards.checksums, "skipped": shards.skipped, "shortened": shards.shortened}
    write_json(store.manifest, about)


def read_shards(store: PreparedDirectory) -> WrittenShards | None:
    """What a complete store holds; None where it is not complete or a file is missing or damaged."""
    if not store.manifest.exists():
        return None
    try:
        about = read_json(store.manifest)
        index, identities = load_index(store), read_identities(store.identities)
        if len(identities) != len(index):
            raise DataError(f"{store.identities}: is of other tracks")
        checksums, skipped, shortened = about["checksums"], about["skipped"], about["shortened"]
        return WrittenShards(index, identities, checksums, skipped, shortened)
    except (DataError, KeyError, TypeError):
        store.manifest.unlink(missing_ok=True)
        return None


def link_shards(store: PreparedDirectory, directory: PreparedDirectory, index: ShardIndex) -> None:
    """Give `directory` the index and the shards, as hard links where the disk allows it."""
    for name in index.shard_files.tolist():
        path, target = store.root / name, directory.root / name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, target)
    save_index(directory, index)
