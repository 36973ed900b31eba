"""What a search found, as text, JSON and playlists."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasrep.embedding.listening.nearest import Pair
from kerasrep.embedding.listening.tracks import Names
from kerasrep.embedding.search import Neighbour, Query
from kerasrep.errors import one_line
from kerasrep.report.wording import counted, display_width
from kerasrep.storage.atomic import atomic_file


def as_text(
    names: Names, queries: Sequence[Query], neighbours: Sequence[Sequence[Neighbour]]
) -> Iterator[str]:
    """Lines of aligned columns: rank, similarity, percentile, time, branch, path, and what the tags say."""
    for query, found in zip(queries, neighbours, strict=True):
        yield f"nearest to {' + '.join(one_line(str(path)) for path in query.paths)}"
        if not found:
            yield "  the index has no other track"
            continue
        header = ["rank", "similarity", "nearer than", "at", "most in", "track", "artist, title"]
        rows = [header, *(_cells(names, rank, one) for rank, one in enumerate(found, 1))]
        yield from aligned(rows, n_right=3)


def _cells(names: Names, rank: int, one: Neighbour) -> list[str]:
    return [
        str(rank),
        f"{one.similarity:.4f}",
        "" if one.percentile is None else f"{one.percentile:.1f}%",
        "" if one.start_seconds is None else clock(one.start_seconds),
        one.strongest_branch or "",
        one_line(names.tracks.shown(one.path)),
        names.label(one.path),
    ]


def clock(seconds: float) -> str:
    """`1:23.4`."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def aligned(rows: Sequence[Sequence[str]], n_right: int) -> Iterator[str]:
    """Columns two blanks apart, the first ones flush right; columns that have a header alone are left out.

    Args:
        rows: Cells, the header first.
        n_right: Columns that are flush right.
    """
    kept = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(display_width(row[place]) for row in rows) for place in kept}
    for row in rows:
        cells = []
        for place in kept:
            blanks = " " * (widths[place] - display_width(row[place]))
            cells.append(blanks + row[place] if place < n_right else row[place] + blanks)
        yield ("  " + "  ".join(cells)).rstrip()


def as_json(
    index: Path, names: Names, queries: Sequence[Query], neighbours: Sequence[Sequence[Neighbour]]
) -> str:
    """One document: `index`, and `queries`, each with its `paths` and `neighbours`."""
    answers = [
        {
            "paths": [str(path) for path in query.paths],
            "neighbours": [_as_object(names, rank, one) for rank, one in enumerate(found, 1)],
        }
        for query, found in zip(queries, neighbours, strict=True)
    ]
    return _json({"index": str(index), "queries": answers})


def _as_object(names: Names, rank: int, one: Neighbour) -> dict[str, Any]:
    return {
        "rank": rank,
        **_track(names, one.path),
        "similarity": round(one.similarity, 6),
        "percentile": one.percentile,
        "start_seconds": one.start_seconds,
        "branches": one.branches,
    }


def _track(names: Names, path: str) -> dict[str, Any]:
    tags = names.tags(path)
    return {"path": names.tracks.shown(path), "artist": tags.get("artist"), "title": tags.get("title")}


def duplicates_as_text(names: Names, pairs: Sequence[Pair], threshold: float) -> Iterator[str]:
    """A line that says how many there are, then aligned columns."""
    many = f"{counted(len(names.tracks.paths), 'track')}, {counted(len(pairs), 'pair')}"
    yield f"{many} of nearly equal length, nearest to each other, of similarity {threshold:g} or more"
    if pairs:
        cells = [
            [f"{pair.similarity:.4f}", *(one_line(names.tracks.shown(p)) for p in (pair.first, pair.second))]
            for pair in pairs
        ]
        yield from aligned([["similarity", "track", "the same as"], *cells], n_right=1)


def duplicates_as_json(index: Path, names: Names, pairs: Sequence[Pair], threshold: float) -> str:
    """One document: `index`, `threshold`, and `pairs`, each with two `tracks` and their `similarity`."""
    found = [
        {
            "tracks": [_track(names, pair.first), _track(names, pair.second)],
            "similarity": round(pair.similarity, 6),
        }
        for pair in pairs
    ]
    return _json({"index": str(index), "threshold": threshold, "pairs": found})


def _json(document: dict[str, Any]) -> str:
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def write_playlist(path: Path, names: Names, tracks: Sequence[str]) -> str:
    """Write an M3U8 playlist: absolute paths, lengths, artists and titles.

    Returns:
        A line that says where it is, and how many tracks it cannot name.
    """
    lines, left_out = ["#EXTM3U"], 0
    for track in tracks:
        place = str(names.tracks.place(track).absolute())
        if "\n" in place or "\r" in place:
            left_out += 1
            continue
        seconds = names.tracks.seconds[names.tracks.number[track]]
        length = -1 if np.isnan(seconds) else round(float(seconds))
        name = names.label(track) or os.path.basename(track)  # noqa: PTH119 (text of a table)
        lines.append(f"#EXTINF:{length},{one_line(name)}")
        lines.append(place)
    with atomic_file(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    without = f" (without {counted(left_out, 'track')} whose path has a line break)" if left_out else ""
    return f"playlist: {one_line(str(path))}{without}"
