"""Tracks become one shard and its part file: the same on one machine and on the nodes of a cluster.

TFRecord framing and the one `tf.train.Example` that shards hold are written here, because the byte offset of
the samples must be known, and because preparing data should not wait for TensorFlow to load. Form of a
record: length (uint64), its masked CRC-32C, data, masked CRC-32C of the data; all little-endian (TensorFlow,
"TFRecord and tf.train.Example").
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kerasrep.data.audio import DECODING_VERSION, decode_blocks, read_header
from kerasrep.data.identity import IDENTITY_VERSION, Identity, identity_of
from kerasrep.data.shards import FULL_SCALE
from kerasrep.errors import DataError
from kerasrep.recipe.network import AudioSettings
from kerasrep.recipe.schema import fingerprint
from kerasrep.runtime.threads import in_order
from kerasrep.storage.run_directory import atomic_file, read_json, write_json

MAX_TRACK_SECONDS = 1800.0  # bounds memory: what lies behind is not used


@dataclass(frozen=True)
class Record:
    """One record of a TFRecord file.

    Attributes:
        pieces: Its bytes; all samples are in one, as who writes it takes a turn at the interpreter for each.
        offset_bytes: How many come before the samples.
    """

    pieces: tuple[bytes, ...]
    offset_bytes: int


#: A record, how many samples it holds, whether they were shortened, and their identity; or why there is none.
_Decoded = tuple[Record, int, bool, Identity] | str


@dataclass(frozen=True)
class AudioItem:
    """One track to be decoded.

    Attributes:
        track_id: Unique.
        path: Audio file.
        split: Of `constants.SPLITS`; or `evaluation`, which is not trained on.
    """

    track_id: str
    path: Path
    split: str


@dataclass(frozen=True)
class ShardTask:
    """A shard to be written.

    Attributes:
        path: Of the shard.
        tracks: What goes into it, as far as it can be decoded.
    """

    path: Path
    tracks: tuple[AudioItem, ...]


def expected_samples(item: AudioItem, audio: AudioSettings) -> int | str:
    """How many samples a track will have, as its header says; or why it cannot be used."""
    try:
        seconds = read_header(item.path).seconds
    except DataError as error:
        return _reason(item, error)
    samples = round(min(seconds, MAX_TRACK_SECONDS) * audio.sample_rate_hz)
    return samples if samples >= audio.segment_samples - 1 else _too_short(samples, audio)


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Amplitudes to the nearest of 65,536 steps, full scale at 1.0; louder is clipped."""
    scaled = samples * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    whole: NDArray[np.int16] = scaled.astype("<i2")
    return whole


def _reason(item: AudioItem, error: DataError) -> str:
    return str(error).removeprefix(f"{item.path}: ")


def _too_short(samples: int, audio: AudioSettings) -> str:
    return f"{samples / audio.sample_rate_hz:.3g} s is shorter than a segment of {audio.segment_seconds:g} s"


def _decoded(item: AudioItem, audio: AudioSettings) -> _Decoded:
    try:
        decoded = decode_blocks(item.path, audio.sample_rate_hz, audio.decoder, MAX_TRACK_SECONDS)
        blocks = [to_int16(block) for block in decoded]  # many times as fast as of whole tracks at once
        samples = sum(map(len, blocks))
        may_be_longer = samples >= round(MAX_TRACK_SECONDS * audio.sample_rate_hz) - 1
        shortened = may_be_longer and read_header(item.path).seconds > MAX_TRACK_SECONDS
    except DataError as error:
        return _reason(item, error)
    if samples < audio.segment_samples:
        return _too_short(samples, audio)
    identity = identity_of(blocks, audio.sample_rate_hz)
    return framed(item.track_id, blocks), samples, shortened, identity


def _part_path(shard: Path) -> Path:
    return shard.with_suffix(".part.json")


def _part_key(task: ShardTask, audio: AudioSettings) -> str:
    tracks = [[item.track_id, str(item.path)] for item in task.tracks]
    versions = [DECODING_VERSION, IDENTITY_VERSION]
    return fingerprint([tracks, audio.sample_rate_hz, audio.segment_samples, audio.decoder, versions])


def finished_part(task: ShardTask, audio: AudioSettings) -> dict[str, Any] | None:
    """The part file of a shard that is there, if it is the one wanted."""
    try:
        part = read_json(_part_path(task.path))
        if part["key"] == _part_key(task, audio) and task.path.stat().st_size == part["bytes"]:
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


def write_decoded(
    tasks: Sequence[ShardTask], audio: AudioSettings, n_threads: int, advance: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Write shards and their part files, one after the other; decoding does not wait at the end of a shard.

    Args:
        tasks: The shards.
        audio: Rate, segment length and decoder.
        n_threads: Decoding threads.
        advance: Called once a track.

    Yields:
        What each part file says.
    """
    tracks = chain.from_iterable(task.tracks for task in tasks)
    with closing(in_order(lambda item: _decoded(item, audio), tracks, n_threads)) as decoded:
        for task in tasks:
            yield _write_shard(task, audio, decoded, advance)


def _write_shard(
    task: ShardTask, audio: AudioSettings, decoded: Iterator[_Decoded], advance: Callable[[], object]
) -> dict[str, Any]:
    records: list[tuple[str, int, int, str]] = []
    skipped: dict[str, str] = {}
    n_shortened = 0
    with atomic_file(task.path) as temporary, temporary.open("wb") as file:
        writer = _HashingWriter(file)
        for item in task.tracks:
            result = next(decoded)
            advance()
            if isinstance(result, str):
                skipped[item.track_id] = result
                continue
            record, samples, shortened, identity = result
            known_by = base64.b64encode(identity.to_bytes()).decode()
            records.append((item.track_id, writer.n_bytes + record.offset_bytes, samples, known_by))
            for piece in record.pieces:
                writer.write(piece)
            n_shortened += shortened
    part = {
        "key": _part_key(task, audio),
        "file": task.path.name,
        "bytes": writer.n_bytes,
        "sha256": writer.sha256.hexdigest(),
        "records": records,
        "skipped": skipped,
        "shortened": n_shortened,
    }
    write_json(_part_path(task.path), part)
    return part


def framed(track_id: str, blocks: Sequence[NDArray[np.int16]]) -> Record:
    """Samples as a record."""
    head = example_head(track_id, sum(block.nbytes for block in blocks))
    data = b"".join((head, *(np.ascontiguousarray(block).data for block in blocks)))
    length = struct.pack("<Q", len(data))
    before = length + _masked(google_crc32c.value(length))
    return Record((before, data, _masked(google_crc32c.value(data))), len(before) + len(head))


def example_head(track_id: str, n_payload_bytes: int) -> bytes:
    """All bytes of the serialised `tf.train.Example` before the samples, which come last.

    The wire format of protocol buffers: each message below is the last field of the one around it, so
    only its tag and length stand in front.
    """

    def opened(field: int, inside: bytes, n_after: int) -> bytes:
        return bytes([field << 3 | 2]) + _varint(len(inside) + n_after) + inside

    identity = track_id.encode()
    value = opened(1, opened(1, identity, 0), 0)  # Feature { BytesList { value } }
    entry = opened(1, opened(1, b"track_id", 0) + opened(2, value, 0), 0)
    head = b""
    for field in (1, 1, 2):  # BytesList.value, Feature.bytes_list, value of the map's entry
        head = opened(field, head, n_payload_bytes)
    head = opened(1, opened(1, b"samples", 0) + head, n_payload_bytes)  # Features.feature
    return opened(1, entry + head, n_payload_bytes)  # Example.features


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _masked(crc: int) -> bytes:
    """CRC-32C as TFRecord files store it: rotated and shifted, so that a CRC of CRCs is sound."""
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
