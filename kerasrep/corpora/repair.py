"""Shards that are damaged are decoded again, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kerasrep.data.shard_check import checksums_of, find_damage
from kerasrep.data.shard_decoding import AudioItem
from kerasrep.data.shard_store import finish_shards, link_shards, read_shards
from kerasrep.data.shard_writer import WrittenShards, remove_temporary, write_shards
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError
from kerasrep.recipe.network import AudioSettings
from kerasrep.runtime.pool.cluster import Cluster
from kerasrep.storage.run_directory import PreparedDirectory

#: Joins a cluster when it is needed; `None` where this process does the work.
Join = Callable[[], Cluster | None]


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
        link_shards(store, directory, index)
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
) -> WrittenShards:
    """A store whose shards are sound; those that are stay as they are."""
    paths = [store.root / name for name in expected]
    broken = find_damage(paths, expected)
    known = read_shards(store) if not broken else None
    if known is not None:
        return known
    store.manifest.unlink(missing_ok=True)
    remove_temporary(store)
    for name in broken:
        (store.root / name).unlink(missing_ok=True)
    shards = write_shards(store, items, audio, progress=progress, cluster=join())
    finish_shards(store, shards)
    return shards
