"""Embeddings of files, computed once: kept by the file's content and the representation's fingerprint.

Everything lies under `embeddings_folder()`: `FINGERPRINT.sqlite` holds the embeddings of one representation,
`files.sqlite` the hashes of unchanged files. Any of them may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.audio import DECODING_VERSION
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.representations import Representation
from kerasrep.embedding.store import EmbeddingStore, HashStore
from kerasrep.errors import DataError
from kerasrep.runtime.console import Progress
from kerasrep.storage.run_directory import home

#: Files looked up at once.
GROUP_FILES = 64
#: At most this much work is lost when the process is killed, and the file being embedded.
KEEP_SECONDS = 1.0
#: A file changed this recently could change again without its time showing it.
SETTLED_SECONDS = 2.0
HASH_THREADS = 4


@dataclass(frozen=True)
class KnownFile:
    """A regular file as it was when it was hashed.

    Attributes:
        state: Changes when the file does.
        content: SHA-256.
    """

    state: str
    content: bytes


@dataclass
class _Table:
    """The result while it grows: one row per good file, in the order of the paths once all are done."""

    n_paths: int
    values: NDArray[np.float32] | None = None
    good: set[int] = field(default_factory=set)
    bad: dict[int, BadFile] = field(default_factory=dict)

    def fill(self, row: int, name: str, embedding: NDArray[np.float32]) -> None:
        if self.values is None:
            self.values = np.zeros((self.n_paths, embedding.size), np.float32)
        if embedding.shape != self.values.shape[1:]:
            raise DataError(
                f"{name}: gives embeddings of {self.values.shape[1]} and of {embedding.size} values; one "
                "representation must keep to one"
            )
        self.values[row] = embedding
        self.good.add(row)

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.intp]] | None:
        """Rows of good files moved to the front, in place: a second matrix might not fit into memory."""
        rows = np.array(sorted(self.good), np.intp)
        if self.values is None:
            return None
        for to_row, row in enumerate(rows):
            if to_row != row:
                self.values[to_row] = self.values[row]
        return self.values[: len(rows)], rows


def embeddings_folder() -> Path:
    """Where embeddings are kept: elsewhere where the same files give other samples."""
    return home() / "embeddings" / f"decoding-{DECODING_VERSION}"


def cached_embeddings(
    representation: Representation, paths: Sequence[Path], progress: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.intp], list[BadFile]]:
    """Embed files, or take what was embedded before.

    Files of the same content are embedded once, whatever their names. Nothing is kept of files that cannot
    be used. An interrupted call loses a second of work. Several processes may embed the same files.

    Args:
        representation: What embeds them; not asked for anything but its name and fingerprint where all
            embeddings are there.
        paths: Audio files.
        progress: Whether a bar is shown.

    Returns:
        float32 [good files, dimension]; their rows in `paths`, ascending; and the other files with reasons,
        in the order of `paths`.

    Raises:
        DataError: Where the cache cannot be read or written, or embeddings differ in length.
    """
    table = _Table(len(paths))
    folder = embeddings_folder()
    with (
        closing(EmbeddingStore(folder / f"{representation.fingerprint}.sqlite")) as store,
        closing(HashStore(folder / "files.sqlite")) as hashes,
        Progress(len(paths), representation.name, "file", progress) as bar,
    ):
        for start in range(0, len(paths), GROUP_FILES):
            group = range(start, min(start + GROUP_FILES, len(paths)))
            _embed_group(representation, paths, group, table, store, hashes, bar)
    bad = [table.bad[row] for row in sorted(table.bad)]
    matrix, rows = table.result() or (
        np.zeros((0, representation.dimension), np.float32),
        np.zeros(0, np.intp),
    )
    return matrix, rows, bad


def _embed_group(
    representation: Representation,
    paths: Sequence[Path],
    rows: Sequence[int],
    table: _Table,
    store: EmbeddingStore,
    hashes: HashStore,
    bar: Progress,
) -> None:
    """Fill some rows: from the store, then by embedding the first file of each content."""
    files = known_files([paths[row] for row in rows], hashes)
    known = dict(zip(rows, files, strict=True))
    found = store.get(list({file.content for file in files if file is not None}))
    owners: dict[bytes, int] = {}
    todo: list[int] = []
    copies: list[int] = []
    for row, file in known.items():
        if file is not None and file.content in found:
            table.fill(row, representation.name, found[file.content])
            bar.update()
        elif file is not None and owners.setdefault(file.content, row) != row:
            copies.append(row)
        else:
            todo.append(row)
    keeper = _Keeper(store)
    try:
        _embed_rows(representation, paths, todo, known, table, keeper, bar)
        again = []
        for row in copies:
            owner = owners[known[row].content]  # type: ignore[union-attr]
            if owner in table.good and table.values is not None:
                table.fill(row, representation.name, table.values[owner])
                bar.update()
            else:
                again.append(row)  # so that the reason names this file
        _embed_rows(representation, paths, again, known, table, keeper, bar)
    finally:
        keeper.flush()


def _embed_rows(
    representation: Representation,
    paths: Sequence[Path],
    rows: Sequence[int],
    known: dict[int, KnownFile | None],
    table: _Table,
    keeper: _Keeper,
    bar: Progress,
) -> None:
    results = representation.embed_files([paths[row] for row in rows])
    for row, result in zip(rows, _checked(results), strict=True):
        if isinstance(result, BadFile):
            table.bad[row] = result
        else:
            table.fill(row, representation.name, result.embedding)
            file = known[row]
            # A file that changed meanwhile may have been embedded in either form.
            if file is not None and _state(paths[row]) == file.state:
                keeper.add(file.content, result)
        bar.update()


def _checked(results: Iterator[FileEmbedding | BadFile]) -> Iterator[FileEmbedding | BadFile]:
    for result in results:
        if isinstance(result, FileEmbedding) and not np.isfinite(result.embedding).all():
            yield BadFile(result.path, f"{result.path}: its embedding has NaN or infinite values")
        else:
            yield result


class _Keeper:
    """Collects fresh embeddings and writes them to the store every second."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self._waiting: dict[bytes, tuple[NDArray[np.float32], float]] = {}
        self._since = time.monotonic()

    def add(self, content: bytes, result: FileEmbedding) -> None:
        self._waiting[content] = (result.embedding, result.seconds)
        if time.monotonic() - self._since >= KEEP_SECONDS:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._store.put(waiting)
        self._since = time.monotonic()


def known_files(paths: Sequence[Path], hashes: HashStore) -> list[KnownFile | None]:
    """Hash files, or take the hashes of those that did not change.

    Args:
        paths: Files.
        hashes: What was hashed before; what is hashed now is added.

    Returns:
        One entry a path; `None` for what is no readable regular file.
    """
    states = [_state(path) for path in paths]
    keys = [os.fsencode(path.absolute()) for path in paths]
    remembered = hashes.get({key: state for key, state in zip(keys, states, strict=True) if state})
    unknown = [
        path for path, key, state in zip(paths, keys, states, strict=True) if state and key not in remembered
    ]
    with ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="hash") as pool:
        fresh = dict(zip(unknown, pool.map(_hash, unknown), strict=True))
    files: list[KnownFile | None] = []
    new: dict[bytes, tuple[str, bytes]] = {}
    for path, key, state in zip(paths, keys, states, strict=True):
        content = remembered.get(key) or fresh.get(path)
        if state is None or content is None or _state(path) != state:
            files.append(None)
            continue
        files.append(KnownFile(state, content))
        if key not in remembered and _is_settled(path):
            new[key] = (state, content)
    hashes.put(new)
    return files


def _state(path: Path) -> str | None:
    """What changes when a regular file does; `None` for anything else."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):  # reading a fifo would wait for ever
        return None
    # The time of the last change of status cannot be set back, as that of the content can.
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)
    return ":".join(map(str, parts))


def _is_settled(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS


def _hash(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
