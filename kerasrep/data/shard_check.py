"""Shards against the checksums that were recorded when they were written.

Training reads crops from known offsets, so nothing else would notice a flipped bit: the checksums of TFRecord
cover whole records. Each shard is read once when a run begins; a process that trains again, as tuning does,
reads only those that changed since, and so do the processes of one study.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerasrep.data.shards import REPAIR_ADVICE, ShardIndex, fault_of_file, load_index
from kerasrep.errors import DataError
from kerasrep.runtime.threads import core_count
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import CHECKED_SHARDS, PreparedDirectory, read_json

_Stamp = tuple[int, int, int, int, int]  # device, inode, bytes, times of change of content and status in ns


def sound_index(
    directory: PreparedDirectory, damaged_shards: str = "refuse"
) -> tuple[ShardIndex, dict[str, str]]:
    """Read the index and compare every shard with its checksum.

    Args:
        directory: A complete prepared folder.
        damaged_shards: `refuse`; `skip`, which leaves out the tracks of damaged shards; or `unchecked`,
            which looks at lengths alone.

    Returns:
        The index, and what is wrong with the shards that were left out: name -> reason.

    Raises:
        DataError: Where index or manifest cannot be read, or a shard is damaged and not to be skipped.
    """
    if damaged_shards == "unchecked":
        return load_index(directory), {}
    index = load_index(directory, check_files=False)
    faults = find_damage(index.shard_paths, checksums_of(directory))
    if faults and damaged_shards == "refuse":
        name, reason = next(iter(faults.items()))
        more = f" ({len(faults) - 1} more shards are damaged)" if len(faults) > 1 else ""
        n_tracks = int((index.shard_files[index.shard] == name).sum())
        raise DataError(
            f"{index.root / name}: {reason}{more}; {REPAIR_ADVICE}; or set training.damaged_shards=skip to "
            f"train without its {n_tracks} tracks"
        )
    return (index.without(faults) if faults else index), faults


def find_damage(paths: Sequence[Path], checksums: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Shards that are not as they were written.

    Args:
        paths: The shards.
        checksums: File name -> length in bytes, SHA-256 in hexadecimal digits.

    Returns:
        File name -> what is wrong, in the order of `paths`.
    """
    note = _note(paths, checksums)
    if note is not None and note.is_file():
        return {}
    with ThreadPoolExecutor(min(8, core_count()), thread_name_prefix="checksum") as pool:
        faults = list(pool.map(lambda path: _fault(path, *checksums.get(path.name, (-1, ""))), paths))
    found = {path.name: fault for path, fault in zip(paths, faults, strict=True) if fault is not None}
    if note is not None and not found:
        with contextlib.suppress(OSError):  # then the next process reads them again
            note.touch()
    return found


def _note(paths: Sequence[Path], checksums: Mapping[str, tuple[int, str]]) -> Path | None:
    """File that says that these shards, unchanged since, were found sound; `None` where nobody keeps such."""
    folder = os.environ.get(CHECKED_SHARDS)
    if not folder:
        return None
    try:
        stamps = [[str(path), *_stamp(path), *checksums.get(path.name, (-1, ""))] for path in paths]
    except OSError:
        return None
    return Path(folder) / hashlib.sha256(repr(stamps).encode()).hexdigest()[:32]


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def checksums_of(directory: PreparedDirectory) -> dict[str, tuple[int, str]]:
    """Length and SHA-256 of every shard, as the manifest has them.

    Raises:
        DataError: Where there is no such manifest.
    """
    manifest = read_json(directory.manifest)
    try:
        shards: Mapping[str, Any] = manifest["shards"]
        return {name: (int(about["bytes"]), str(about["sha256"])) for name, about in shards.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{directory.manifest}: has no checksums of shards; delete {directory.root} and prepare again"
        ) from error


def _fault(path: Path, n_bytes: int, sha256: str) -> str | None:
    if n_bytes < 0:
        return "stands in no manifest"
    fault = fault_of_file(path, n_bytes)
    if fault is not None:
        return fault
    try:
        found = _sha256(str(path), _stamp(path))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == sha256 else "its bytes are not those that were written (SHA-256)"


@lru_cache(maxsize=1 << 16)
def _sha256(path: str, stamp: _Stamp) -> str:
    return sha256_of(Path(path))
