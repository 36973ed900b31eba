"""Decode audio once and write it as TFRecord shards (see `data.shards` for the form).

Which track goes to which shard follows from the headers alone, and each finished shard leaves a small
part file beside it. An interrupted call therefore continues where it stopped, and the bytes do not depend
on the number of threads.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.console import Progress
from kerasrep.data.audio import decode, read_header
from kerasrep.data.native_messages import silenced
from kerasrep.data.shards import FRAME_BYTES, FULL_SCALE, ShardIndex
from kerasrep.data.tfrecord import write_record
from kerasrep.errors import DataError
from kerasrep.recipe import AudioSettings, fingerprint
from kerasrep.run_directory import PreparedDirectory, atomic_file, read_json, write_json

SHARD_BYTES = 150_000_000
MAX_TRACK_SECONDS = 1800.0  # bounds memory: what lies behind is not used

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class AudioItem:
    """One track to be decoded.

    Attributes:
        track_id: Unique.
        path: Audio file.
        split: `train` or `validation`.
    """

    track_id: str
    path: Path
    split: str


@dataclass(frozen=True)
class WrittenShards:
    """What a call of `write_shards` left on disk.

    Attributes:
        index: Of the tracks written; not yet saved.
        checksums: Shard file name -> SHA-256 in hexadecimal digits.
        skipped: Track id -> why it is not in a shard.
        shortened: Tracks longer than `MAX_TRACK_SECONDS`, of which the beginning was taken.
    """

    index: ShardIndex
    checksums: dict[str, str]
    skipped: dict[str, str]
    shortened: int


def write_shards(
    directory: PreparedDirectory,
    items: Sequence[AudioItem],
    audio: AudioSettings,
    n_threads: int | None = None,
    progress: bool = True,
) -> WrittenShards:
    """Decode `items` and write those that hold at least one segment, in their order.

    Args:
        directory: Where the shards go; finished ones found there are kept.
        items: The tracks.
        audio: Rate, segment length and decoder.
        n_threads: Decoding threads; by default one a core this process may use.
        progress: Show a bar.

    Raises:
        RunError: Where the folder cannot be written.
    """
    n_threads = n_threads or _available_cores()
    parts = []
    with silenced() as loud:
        plan, skipped = _plan(items, audio, n_threads)
        n_planned = sum(map(len, plan))
        with Progress(n_planned, "decoding", "track", progress, file=loud) as bar:
            for number, group in enumerate(plan):
                path = directory.shard(number, len(plan))
                part = _finished_part(path, group, audio)
                if part is None:
                    part = _write_shard(path, group, audio, n_threads, bar.update)
                else:
                    bar.update(len(group))
                parts.append(part)
    for part in parts:
        skipped.update(part["skipped"])
    return WrittenShards(
        index=_index(directory, parts, audio),
        checksums={part["file"]: part["sha256"] for part in parts},
        skipped={item.track_id: skipped[item.track_id] for item in items if item.track_id in skipped},
        shortened=sum(part["shortened"] for part in parts),
    )


def remove_temporary(directory: PreparedDirectory) -> None:
    """Remove what a killed call left half-written; only for the one process that holds the folder."""
    for path in directory.root.glob(".*"):
        path.unlink(missing_ok=True)


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux; respects taskset and containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Amplitudes to the nearest of 65,536 steps, full scale at 1.0; louder is clipped."""
    scaled = np.rint(samples * np.float32(FULL_SCALE))
    whole: NDArray[np.int16] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
    return whole


def _plan(
    items: Sequence[AudioItem], audio: AudioSettings, n_threads: int
) -> tuple[list[list[AudioItem]], dict[str, str]]:
    """Tracks of each shard, and those that the header alone rules out."""

    def expected_samples(item: AudioItem) -> int | str:
        try:
            seconds = read_header(item.path).seconds
        except DataError as error:
            return _reason(item, error)
        samples = round(min(seconds, MAX_TRACK_SECONDS) * audio.sample_rate_hz)
        return samples if samples >= audio.segment_samples - 1 else _too_short(samples, audio)

    plan: list[list[AudioItem]] = []
    skipped: dict[str, str] = {}
    n_bytes = 0
    for item, expected in zip(items, _in_order(expected_samples, items, n_threads), strict=True):
        if isinstance(expected, str):
            skipped[item.track_id] = expected
            continue
        if not plan or n_bytes + expected * FRAME_BYTES > SHARD_BYTES:
            plan.append([])
            n_bytes = 0
        plan[-1].append(item)
        n_bytes += expected * FRAME_BYTES
    return plan, skipped


def _reason(item: AudioItem, error: DataError) -> str:
    return str(error).removeprefix(f"{item.path}: ")


def _too_short(samples: int, audio: AudioSettings) -> str:
    return f"{samples / audio.sample_rate_hz:.3g} s is shorter than a segment of {audio.segment_seconds:g} s"


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """Results in the order of `items`, a few ahead of the consumer, computed by threads."""
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(item: AudioItem, audio: AudioSettings) -> tuple[NDArray[np.int16], bool] | str:
    """Samples and whether they were shortened, or why there are none."""
    try:
        shortened = read_header(item.path).seconds > MAX_TRACK_SECONDS
        samples = decode(item.path, audio.sample_rate_hz, audio.decoder, MAX_TRACK_SECONDS)
    except DataError as error:
        return _reason(item, error)
    if len(samples) < audio.segment_samples:
        return _too_short(len(samples), audio)
    return to_int16(samples), shortened


def _part_path(shard: Path) -> Path:
    return shard.with_suffix(".part.json")


def _part_key(group: Sequence[AudioItem], audio: AudioSettings) -> str:
    tracks = [[item.track_id, str(item.path), item.split] for item in group]
    return fingerprint([tracks, audio.sample_rate_hz, audio.segment_samples, audio.decoder])


def _finished_part(shard: Path, group: Sequence[AudioItem], audio: AudioSettings) -> dict[str, Any] | None:
    """The part file of a shard that an interrupted call finished, if it is the one wanted."""
    try:
        part = read_json(_part_path(shard))
        if part["key"] == _part_key(group, audio) and shard.stat().st_size == part["bytes"]:
            return dict(part)
    except (DataError, OSError, KeyError, TypeError):
        pass
    return None


class _HashingWriter:
    """Counts and hashes what it passes on to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.n_bytes += len(data)


def _write_shard(
    path: Path,
    group: Sequence[AudioItem],
    audio: AudioSettings,
    n_threads: int,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """Write one shard, then its part file; return what the part file says."""
    records: list[tuple[str, str, int, int]] = []
    skipped: dict[str, str] = {}
    n_shortened = 0
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        writer = _HashingWriter(file)
        for item, result in zip(
            group, _in_order(lambda i: _decoded(i, audio), group, n_threads), strict=True
        ):
            advance()
            if isinstance(result, str):
                skipped[item.track_id] = result
                continue
            samples, shortened = result
            start = writer.n_bytes
            offset = start + write_record(writer.write, item.track_id, samples.tobytes())
            records.append((item.track_id, item.split, offset, len(samples)))
            n_shortened += shortened
    part = {
        "key": _part_key(group, audio),
        "file": path.name,
        "bytes": writer.n_bytes,
        "sha256": writer.sha256.hexdigest(),
        "records": records,
        "skipped": skipped,
        "shortened": n_shortened,
    }
    write_json(_part_path(path), part)
    return part


def _index(directory: PreparedDirectory, parts: Sequence[dict[str, Any]], audio: AudioSettings) -> ShardIndex:
    rows = [(shard, *record) for shard, part in enumerate(parts) for record in part["records"]]
    return ShardIndex(
        root=directory.root,
        track_ids=np.array([row[1] for row in rows], dtype=np.str_),
        split=np.array([constants.SPLITS.index(row[2]) for row in rows], dtype=np.int8),
        shard=np.array([row[0] for row in rows], dtype=np.int32),
        offset_bytes=np.array([row[3] for row in rows], dtype=np.int64),
        samples=np.array([row[4] for row in rows], dtype=np.int64),
        shard_files=np.array([part["file"] for part in parts], dtype=np.str_),
        shard_bytes=np.array([part["bytes"] for part in parts], dtype=np.int64),
        sample_rate_hz=audio.sample_rate_hz,
    )
