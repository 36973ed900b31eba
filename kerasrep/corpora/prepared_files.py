"""Whether what was prepared beside the shards is whole, repairing it, and targets source by source.

Damaged shards are decoded again, and nothing else is. Targets of each source are kept when they are done, as
factorising one of them may take an hour.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrep.corpora.report import LabelsInUse, read_manifest
from kerasrep.data import shard_writer
from kerasrep.data.shard_check import checksums_of, find_damage
from kerasrep.data.shard_decoding import AudioItem
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError
from kerasrep.recipe.base import in_order
from kerasrep.recipe.network import AudioSettings
from kerasrep.runtime.pool.cluster import Cluster
from kerasrep.sources.labels import RawLabels
from kerasrep.sources.target_files import load_targets, save_targets
from kerasrep.sources.targets import SourceTargets, TargetSet
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import PreparedDirectory, read_json, write_json

#: Files up to this size are compared by their digest at each start, larger ones by their size.
ALWAYS_DIGESTED_BYTES = 64 << 20
#: Joins a cluster when it is needed; `None` where this process does the work.
Join = Callable[[], Cluster | None]


def describe_files(directory: PreparedDirectory) -> dict[str, dict[str, Any]]:
    """Name -> bytes and SHA-256, for the manifest."""
    files = directory.index, directory.identities, directory.targets, directory.pools, directory.tracks
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in files
        if path.is_file()
    }


def find_fault(directory: PreparedDirectory, thorough: bool) -> str | None:
    """What is wrong with a folder that says that it is complete, if anything.

    Args:
        directory: The folder.
        thorough: Read large files as well.
    """
    try:
        manifest = read_manifest(directory)
    except DataError as error:
        return str(error)
    known = manifest.get("files")
    if not isinstance(known, dict):  # of an older version
        whole = directory.tracks.is_file() and zipfile.is_zipfile(directory.targets)
        return None if whole else f"{directory.root}: lacks a whole {directory.targets.name}, or tracks"
    for name, about in known.items():
        path = directory.root / Path(name).name
        if not path.is_file():
            return f"{path}: is missing"
        if path.stat().st_size != about.get("bytes"):
            return f"{path}: has {path.stat().st_size} bytes instead of {about.get('bytes')}"
        if (thorough or path.stat().st_size <= ALWAYS_DIGESTED_BYTES) and sha256_of(path) != about.get(
            "sha256"
        ):
            return f"{path}: is not what was written (SHA-256)"
    return None


def repair(
    directory: PreparedDirectory,
    store: PreparedDirectory,
    items: Sequence[AudioItem],
    audio: AudioSettings,
    progress: bool = True,
    join: Join = lambda: None,
) -> None:
    """Compare the shards of a complete folder with their checksums, and decode damaged ones again.

    Only for the process that holds both folders.

    Args:
        directory: Shards and targets.
        store: Where the same shards are kept for other targets.
        items: What they were decoded from.
        audio: Rate, segment length and decoder.
        progress: Say what is found.
        join: Joins the cluster whose nodes decode; called where something is to be decoded.

    Raises:
        DataError: Where the audio or the decoder is not what it was, so that other samples come out.
    """
    expected = checksums_of(directory)
    index = load_index(directory, check_files=False)
    faults = find_damage(index.shard_paths, expected)
    for name, fault in faults.items() if progress else ():
        print(f"damaged: {directory.root / name}: {fault}", flush=True)
    if faults:
        shards = _decode_again(store, items, audio, expected, progress, join)
        other = [name for name, (_, sha256) in expected.items() if shards.checksums.get(name) != sha256]
        if other or shards.checksums.keys() != expected.keys():
            raise DataError(
                f"{directory.root / (other or list(faults))[0]}: is damaged, and its audio decodes to other "
                f"samples than before; delete {directory.root} and {store.root}, and prepare again"
            )
        shard_writer.link_shards(store, directory, index)
    if progress:
        repaired = f", {len(faults)} decoded again" if faults else ""
        print(f"checked: {len(expected)} shards{repaired}", flush=True)


def _decode_again(
    store: PreparedDirectory,
    items: Sequence[AudioItem],
    audio: AudioSettings,
    expected: dict[str, tuple[int, str]],
    progress: bool,
    join: Join,
) -> shard_writer.WrittenShards:
    """A store whose shards are sound; those that are stay as they are."""
    paths = [store.root / name for name in expected]
    broken = find_damage(paths, expected)
    known = shard_writer.read_shards(store) if not broken else None
    if known is not None:
        return known
    store.manifest.unlink(missing_ok=True)
    shard_writer.remove_temporary(store)
    for name in broken:
        (store.root / name).unlink(missing_ok=True)
    shards = shard_writer.write_shards(store, items, audio, progress=progress, cluster=join())
    shard_writer.finish_shards(store, shards)
    return shards


def targets_by_source(
    directory: PreparedDirectory, labels: LabelsInUse, build: Callable[[Mapping[str, RawLabels]], TargetSet]
) -> TargetSet:
    """Targets of all sources; what an interrupted call has finished in `directory` is taken as it is.

    Args:
        directory: Named by a fingerprint of all that the targets depend on.
        labels: Those of a finished source are not accessed, but their number is filled in.
        build: Makes the targets of one source; sources must not depend on each other.

    Raises:
        DataError: Where the labels of a source cannot be used.
    """
    sources: dict[str, SourceTargets] = {}
    report: dict[str, Mapping[str, Any]] = {}
    for source in in_order(labels):
        arrays, about = _paths(directory, source)
        if not about.exists():
            made = build({source: labels[source]})
            save_targets(arrays, made)
            write_json(about, {"report": made.report, "labelled": labels.n_labelled[source]})
        known = read_json(about)
        sources |= load_targets(arrays)
        report |= known["report"]
        labels.n_labelled[source] = known["labelled"]
    return TargetSet(sources, report)


def remove_target_parts(directory: PreparedDirectory, sources: Collection[str]) -> None:
    """Remove the files of single sources, once all targets are saved in one."""
    for source in sources:
        for path in _paths(directory, source):
            path.unlink(missing_ok=True)


def _paths(directory: PreparedDirectory, source: str) -> tuple[Path, Path]:
    """Targets and, written after them, the report."""
    return directory.root / f"{source}.part.npz", directory.root / f"{source}.part.json"
