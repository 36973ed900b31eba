"""Identities of files, computed once, and which of them a model has seen in its training.

They are kept by the file's content, as embeddings are, in `identities/NAME.sqlite` under
`run_directory.home()`, which may be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.audio import DECODING_VERSION, decode_blocks
from kerasrep.data.identity import IDENTITY_VERSION, Identity, identity_of
from kerasrep.data.recordings import Identities, first_of_each
from kerasrep.data.shard_decoding import MAX_TRACK_SECONDS, to_int16
from kerasrep.embedding.cache import GROUP_FILES, embeddings_folder, known_files
from kerasrep.embedding.decoding import default_workers
from kerasrep.embedding.store import HashStore
from kerasrep.errors import DataError
from kerasrep.runtime.console import Progress
from kerasrep.runtime.native_messages import silenced
from kerasrep.runtime.threads import in_order
from kerasrep.storage.run_directory import home

#: What the kept identities go with.
_STATE = f"{DECODING_VERSION}-{IDENTITY_VERSION}"


def cached_identities(paths: Sequence[Path], progress: bool = True) -> tuple[Identities, NDArray[np.intp]]:
    """Identities of files at 22,050 Hz, or those that were computed before.

    Args:
        paths: Audio files.
        progress: Whether a bar is shown.

    Returns:
        Those of the files that can be decoded, and their rows in `paths`, ascending.

    Raises:
        DataError: Where they cannot be kept.
    """
    found: list[Identity | None] = []
    with (
        closing(HashStore(embeddings_folder() / "files.sqlite")) as hashes,
        closing(HashStore(home() / "identities" / "files.sqlite")) as store,
        silenced() as loud,
        Progress(len(paths), "identities", "file", progress, file=loud) as bar,
    ):
        for start in range(0, len(paths), GROUP_FILES):
            found += _of_group(paths[start : start + GROUP_FILES], hashes, store)
            bar.update(len(found) - start)
    rows = [row for row, identity in enumerate(found) if identity is not None]
    return Identities.of([one for one in found if one is not None]), np.array(rows, np.intp)


def _of_group(paths: Sequence[Path], hashes: HashStore, store: HashStore) -> list[Identity | None]:
    files = known_files(paths, hashes)
    known = store.get({file.content: _STATE for file in files if file is not None})
    found: list[Identity | None] = [None] * len(paths)
    todo = []
    for row, file in enumerate(files):
        try:
            found[row] = Identity.from_bytes(known[file.content])  # type: ignore[union-attr]
        except (AttributeError, KeyError, ValueError):  # no regular file, not known, damaged
            todo.append(row)
    fresh = {}
    for row, identity in zip(
        todo, in_order(_identity, [paths[row] for row in todo], default_workers()), strict=True
    ):
        found[row], file = identity, files[row]
        if identity is not None and file is not None:
            fresh[file.content] = (_STATE, identity.to_bytes())
    store.put(fresh)
    return found


def _identity(path: Path) -> Identity | None:
    """As `kerasrep-prepare` computes it; `None` where the file cannot be decoded."""
    rate_hz = constants.SAMPLE_RATE_HZ
    try:
        blocks = decode_blocks(path, rate_hz, max_seconds=MAX_TRACK_SECONDS)
        return identity_of(map(to_int16, blocks), rate_hz)
    except (DataError, OSError):
        return None


def seen_and_copies(
    items: Identities, trained_on: Mapping[str, Identities]
) -> tuple[dict[str, NDArray[np.intp]], NDArray[np.int64]]:
    """Which items a model has seen, and which are copies of another one.

    Args:
        items: Of a task.
        trained_on: Model -> recordings that it was trained on.

    Returns:
        Model -> int [its seen items], rows, for models that have seen any; and int64 [items], the first item
        that is the same recording.
    """
    parts = [items, *trained_on.values()]
    first = first_of_each(Identities.joined(parts), len(items))
    ends = np.cumsum([len(part) for part in parts])
    seen = {}
    for name, start, end in zip(trained_on, ends[:-1], ends[1:], strict=True):
        rows = np.flatnonzero(np.isin(first[: len(items)], first[start:end]))
        if len(rows):
            seen[name] = rows
    return seen, first[: len(items)]
