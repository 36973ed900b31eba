"""Whether what was prepared beside the shards is whole: they have checksums and a repair of their own."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

from kerasrep.corpora.report import read_manifest
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import PreparedDirectory

#: Files up to this size are compared by their digest at each start, larger ones by their size.
ALWAYS_DIGESTED_BYTES = 64 << 20


def describe_files(directory: PreparedDirectory) -> dict[str, dict[str, Any]]:
    """Name -> bytes and SHA-256, for the manifest."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in _files(directory)
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
        if (thorough or path.stat().st_size <= ALWAYS_DIGESTED_BYTES) and _sha256(path) != about.get(
            "sha256"
        ):
            return f"{path}: is not what was written (SHA-256)"
    return None


def _files(directory: PreparedDirectory) -> tuple[Path, ...]:
    return directory.index, directory.identities, directory.targets, directory.pools, directory.tracks


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
