"""Decoded audio on disk: TFRecord shards of int16 samples, and the index that says where each track lies.

A shard is a plain TFRecord file: `tf.data.TFRecordDataset` reads it, and each record is a
`tf.train.Example` with two features of one bytes value each, `track_id` (UTF-8) and `samples`
(little-endian int16, interleaved [samples, 2], full scale 32,768). `samples` is the last thing in its
record, so its bytes are contiguous and start at a known offset of the file: a reader that wants 2.5 s of
a track takes them from there, without parsing the record.

`index.npz` holds, for the n tracks in the corpus's order:

    track_ids        str [n]
    split            int8 [n], position in `constants.SPLITS`
    shard            int32 [n], position in `shard_files`
    offset_bytes     int64 [n], of the track's first sample in its shard
    samples          int64 [n], a channel
    shard_files      str [shards], file names beside the index
    shard_bytes      int64 [shards], sizes of those files
    sample_rate_hz   int64 []
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import PreparedDirectory, read_arrays, write_arrays

FULL_SCALE = 32_768  # int16 value of amplitude 1.0
FRAME_BYTES = 2 * constants.N_CHANNELS  # one sample of each channel
REPAIR_ADVICE = "repair it with kerasrep-prepare --check, or delete the folder and prepare again"

#: Name -> (dtype, dimensions) of every array in the index.
_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "track_ids": (np.str_, 1),
    "split": (np.int8, 1),
    "shard": (np.int32, 1),
    "offset_bytes": (np.int64, 1),
    "samples": (np.int64, 1),
    "shard_files": (np.str_, 1),
    "shard_bytes": (np.int64, 1),
    "sample_rate_hz": (np.int64, 0),
}
_PER_TRACK = ("track_ids", "split", "shard", "offset_bytes", "samples")


@dataclass(frozen=True)
class ShardIndex:
    """Where each track's samples lie; the arrays are those of `index.npz`.

    Attributes:
        root: Folder of the shards.
        track_ids: str [n].
        split: int8 [n], position in `constants.SPLITS`; -1 where a track is left out.
        shard: int32 [n], position in `shard_files`.
        offset_bytes: int64 [n], of the first sample in the shard file.
        samples: int64 [n], a channel.
        shard_files: str [shards], file names in `root`.
        shard_bytes: int64 [shards].
        sample_rate_hz: Of all tracks.
    """

    root: Path
    track_ids: NDArray[np.str_]
    split: NDArray[np.int8]
    shard: NDArray[np.int32]
    offset_bytes: NDArray[np.int64]
    samples: NDArray[np.int64]
    shard_files: NDArray[np.str_]
    shard_bytes: NDArray[np.int64]
    sample_rate_hz: int

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def shard_paths(self) -> list[Path]:
        """The shard files, in the order that `shard` counts."""
        return [self.root / str(name) for name in self.shard_files]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of the tracks in `split`, ascending."""
        return np.flatnonzero(self.split == constants.SPLITS.index(split)).astype(np.int64)

    def with_splits(self, splits: Mapping[str, str]) -> ShardIndex:
        """The same index with the splits of a corpus.

        Args:
            splits: Track id -> split, of all tracks.
        """
        split = [constants.SPLITS.index(splits[track]) for track in self.track_ids.tolist()]
        return replace(self, split=np.array(split, np.int8))

    def take(self, rows: NDArray[np.int64]) -> ShardIndex:
        """The index of some tracks alone."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _PER_TRACK})

    def without(self, shard_files: Collection[str]) -> ShardIndex:
        """The same index, with the tracks of some shards in no split."""
        lost = np.isin(self.shard_files[self.shard], list(shard_files))
        return replace(self, split=np.where(lost, np.int8(-1), self.split))

    def read(self, row: int) -> NDArray[np.int16]:
        """All samples of one track, int16 [samples, 2]."""
        path = self.shard_paths[int(self.shard[row])]
        count = int(self.samples[row]) * constants.N_CHANNELS
        values = np.fromfile(path, dtype="<i2", count=count, offset=int(self.offset_bytes[row]))
        return values.reshape(-1, constants.N_CHANNELS)


def save_index(directory: PreparedDirectory, index: ShardIndex) -> None:
    """Write `index` as `directory.index`, whole or not at all."""
    arrays = {name: np.asarray(getattr(index, name), dtype) for name, (dtype, _) in _ARRAYS.items()}
    write_arrays(directory.index, arrays)


def load_index(directory: PreparedDirectory, check_files: bool = True) -> ShardIndex:
    """Read the index and check it against the shard files.

    Args:
        directory: Index and shards.
        check_files: Whether the shards must be there, and have the length that they were written with.

    Raises:
        DataError: Where the index or a shard is missing, truncated or malformed; names the file.
    """
    path = directory.index
    arrays = read_arrays(path)
    _check_arrays(path, arrays)
    found: dict[str, Any] = {
        name: arrays[name].astype(dtype, copy=False) for name, (dtype, _) in _ARRAYS.items()
    }
    index = ShardIndex(directory.root, **{**found, "sample_rate_hz": int(found["sample_rate_hz"])})
    if check_files:
        for path, n_bytes in zip(index.shard_paths, index.shard_bytes.tolist(), strict=True):
            fault = fault_of_file(path, n_bytes)
            if fault is not None:
                raise DataError(f"{path}: {fault}; {REPAIR_ADVICE}")
    return index


def _check_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    def refuse(what: str) -> DataError:
        return DataError(f"{path}: {what}; delete {path.parent} and prepare again")

    for name, (dtype, dimensions) in _ARRAYS.items():
        if name not in arrays:
            raise refuse(f"lacks the array '{name}'")
        if arrays[name].dtype.kind != np.dtype(dtype).kind or arrays[name].ndim != dimensions:
            raise refuse(f"array '{name}' has dtype {arrays[name].dtype} and {arrays[name].ndim} dimensions")
    if len({len(arrays[name]) for name in _PER_TRACK}) != 1:
        raise refuse("arrays differ in length")
    n_shards = len(arrays["shard_files"])
    if len(arrays["shard_bytes"]) != n_shards:
        raise refuse("shard_files and shard_bytes differ in length")
    if len(np.unique(arrays["track_ids"])) != len(arrays["track_ids"]):
        raise refuse("a track stands twice")
    if arrays["sample_rate_hz"] <= 0:
        raise refuse("sample_rate_hz is not positive")
    if any(Path(str(name)).name != str(name) for name in arrays["shard_files"]):
        raise refuse("shard_files holds a path instead of a file name")
    for name, limit in (("split", len(constants.SPLITS)), ("shard", n_shards)):
        if np.any((arrays[name] < 0) | (arrays[name] >= limit)):
            raise refuse(f"'{name}' is out of range")
    room = (arrays["shard_bytes"][arrays["shard"]] - arrays["offset_bytes"]) // FRAME_BYTES
    outside = (arrays["offset_bytes"] < 0) | (arrays["samples"] <= 0) | (arrays["samples"] > room)
    if outside.any():
        raise refuse("a track lies outside its shard")


def fault_of_file(path: Path, n_bytes: int) -> str | None:
    """What is wrong with a shard, without reading it."""
    try:
        found = path.stat().st_size
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == n_bytes else f"has {found} bytes instead of {n_bytes}"
