"""Finished shards in a folder of their own, shared by all folders of targets that go with them."""

from __future__ import annotations

import os
import shutil

from kerasrep.data.shard_writer import WrittenShards
from kerasrep.data.shards import ShardIndex, load_index, save_index
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import PreparedDirectory, read_json, write_json


def finish_shards(store: PreparedDirectory, shards: WrittenShards) -> None:
    """Save the index and, last, what else `write_shards` said: then the store is complete.

    The part files stay: with them, a shard that is damaged later is decoded again alone.
    """
    save_index(store, shards.index)
    about = {"checksums": shards.checksums, "skipped": shards.skipped, "shortened": shards.shortened}
    write_json(store.manifest, about)


def read_shards(store: PreparedDirectory) -> WrittenShards | None:
    """What a complete store holds; None where it is not complete or a file is missing or damaged."""
    if not store.manifest.exists():
        return None
    try:
        about = read_json(store.manifest)
        index = load_index(store)
        return WrittenShards(index, about["checksums"], about["skipped"], about["shortened"])
    except (DataError, KeyError, TypeError):
        store.manifest.unlink(missing_ok=True)
        return None


def link_shards(store: PreparedDirectory, directory: PreparedDirectory, index: ShardIndex) -> None:
    """Give `directory` the index and the shards, as hard links where the disk allows it."""
    for path in index.shard_paths:
        target = directory.root / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, target)
    save_index(directory, index)
