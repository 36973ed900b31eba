"""Finished shards in a folder of their own, shared by all folders of targets that go with them."""

from __future__ import annotations

import os
import shutil

from kerasrep.data.recordings import read_identities, write_identities
from kerasrep.data.shard_writer import WrittenShards
from kerasrep.data.shards import ShardIndex, load_index, save_index
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import PreparedDirectory, read_json, write_json


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
