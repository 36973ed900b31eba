"""Files of the same bytes under several names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path


def copies_of(paths: Mapping[str, Path]) -> dict[str, str]:
    """Track -> the first one whose file has the same bytes, for copies alone.

    Only files of equal size are read.
    """
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for track, path in paths.items():
        try:
            by_size[path.stat().st_size].append(track)
        except OSError:  # decoding will say so
            continue
    found = {}
    for size, tracks in by_size.items():
        first: dict[bytes, str] = {}
        for track in tracks if size and len(tracks) > 1 else ():
            with paths[track].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            if first.setdefault(digest, track) != track:
                found[track] = first[digest]
    return found
