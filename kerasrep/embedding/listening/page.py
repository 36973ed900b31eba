"""A page to listen on: a map of tracks, neighbours with players, lists to save; it loads only audio."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.listening.nearest import NearestRows
from kerasrep.embedding.listening.space import Space, branch_spaces, plane
from kerasrep.embedding.listening.tracks import Labels, Names, Tracks
from kerasrep.embedding.search import Neighbour, Query
from kerasrep.errors import DataError, RecipeError, one_line
from kerasrep.report.page import render_page
from kerasrep.report.wording import counted
from kerasrep.runtime.console import Progress
from kerasrep.storage.atomic import atomic_file

#: Neighbours of each track, where all have them; up to so many tracks.
NEIGHBOURS, MOST_WITH_NEIGHBOURS = 12, 20_000
#: Rows that are asked for, for each neighbour, where rows are segments.
_ROWS_A_TRACK = 8
_AT_ONCE = 2048
#: Vectors of a query, and the rows near it.
_Found = tuple[NDArray[np.float32], list[int]]


@dataclass(frozen=True)
class Answers:
    """One model's table, and what it found near the queries.

    Attributes:
        name: Of the model, for people.
        tracks: Of its table.
        queries: The same for all models.
        neighbours: Of each query.
    """

    name: str
    tracks: Tracks
    queries: Sequence[Query] = ()
    neighbours: Sequence[Sequence[Neighbour]] = ()


class Listing:
    """Tracks of a page: those of the index, then queries that are not in it."""

    def __init__(self, tracks: Tracks, queries: Sequence[Query]) -> None:
        self.tracks, self.names = tracks, list(tracks.paths)
        self.files: list[Path | None] = [tracks.place(path) for path in tracks.paths]
        self.numbers: list[int] = []  # of the queries
        for query in queries:
            number = tracks.find(query.paths[0]) if len(query.paths) == 1 else None
            if number is None:
                number = len(self.names)
                self.names.append(" + ".join(map(str, query.paths)))
                self.files.append(query.paths[0] if len(query.paths) == 1 else None)
            self.numbers.append(number)


def write_page(
    path: Path,
    answers: Sequence[Answers],
    colours: Sequence[str],
    address: str | None,
    command: Sequence[str],
) -> list[str]:
    """Write the page.

    Args:
        path: Of the HTML file; written whole or not at all.
        answers: One model, or two to compare; the map is that of the first.
        colours: See `Names.labels`.
        address: Where a server has the folder of the audio; by default links are relative to the page.
        command: How to make the page again.

    Returns:
        What people should know, each a sentence.

    Raises:
        RecipeError: Where links cannot be made, or a label is unknown.
        DataError: Where a table of labels cannot be read, or two models have no track in common.
    """
    first = answers[0]
    listing = Listing(first.tracks, first.queries)
    notes: list[str] = []
    files, silent = _files(path, listing, address)
    if silent:
        notes.append(
            f"{counted(len(silent), 'track')} of {len(listing.names):,} have no audio where it should be"
        )
    texts, labels = _texts(listing, colours)
    notes += [note for one in labels for note in one.notes]
    content: dict[str, Any] = files | texts
    content |= {"silent": silent, "queries": listing.numbers, "n": len(first.tracks.paths)}
    content["seconds"], content["from"] = _times(listing)
    content["colours"] = [_colour(one) for one in labels]
    content["models"] = [_model(one, listing, notes) for one in answers]
    content["map"], how = _map(first, listing)
    table = first.tracks.table
    page = render_page(
        "listen.html",
        "Queries and what is near them" if first.queries else "What is near what",
        notes,
        {
            "command": list(command),
            "index": {"tracks": len(first.tracks.paths), "values": table.embeddings.shape[1]},
            **({} if table.about is None else {"model": json.loads(table.about.to_json())}),
        },
        _answer(first, listing),
        data=_packed(content),
        how=how,
        n_tracks=len(first.tracks.paths),
        asked=bool(first.queries),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return notes


def _answer(answers: Answers, listing: Listing) -> str:
    """What is nearest to the first query, or what the map shows, in a sentence."""
    found = [
        (number, near[0]) for number, near in zip(listing.numbers, answers.neighbours, strict=True) if near
    ]
    if not found:
        return f"{counted(len(answers.tracks.paths), 'track')}: those that sound alike are near each other."
    query, nearest = found[0]
    share = "" if nearest.percentile is None else f", nearer than {nearest.percentile:.1f}% of all pairs"
    more = "; the other queries below" if len(found) > 1 else ""
    return f"Nearest to {Path(listing.names[query]).name}: {Path(nearest.path).name}{share}{more}."


def _packed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    squeezed = gzip.compress(text.encode("utf-8", "backslashreplace"), 9, mtime=0)
    return base64.b64encode(squeezed).decode()


def _numbers(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, f"<{dtype}").tobytes()).decode()


def _files(page: Path, listing: Listing, address: str | None) -> tuple[dict[str, Any], list[int]]:
    """Where the audio lies, from the page and on this machine, and which tracks have none there."""
    places = [None if file is None else os.path.abspath(file) for file in listing.files]  # noqa: PTH100
    n = len(listing.tracks.paths)
    folders = {os.path.dirname(place) for place in places[:n] if place}  # noqa: PTH120
    root = os.path.commonpath(folders)
    if address is not None and any(os.path.isabs(path) for path in listing.tracks.paths):  # noqa: PTH117
        raise RecipeError(f"--audio-root {address}: the index has absolute paths; embed with relative ones")
    if address is not None:
        root = os.path.abspath(listing.tracks.place(""))  # noqa: PTH100
    here = os.path.dirname(os.path.abspath(page))  # noqa: PTH100, PTH120
    base = address.rstrip("/") if address is not None else _link(os.path.relpath(root, here))
    elsewhere: dict[int, str] = {}
    paths: list[str] = []
    for number, place in enumerate(places):
        inside = place is not None and os.path.commonpath([root, place]) == root
        paths.append(os.path.relpath(place, root) if place and inside else listing.names[number])
        if place is not None and not inside:
            elsewhere[number] = _link(os.path.relpath(place, here))
    silent = [
        number
        for number, place in enumerate(places)
        if place is None or (address is None and not _is_there(place))
    ]
    return {"paths": paths, "base": base, "root": root, "elsewhere": elsewhere}, silent


def _is_there(place: str) -> bool:
    try:
        return os.path.isfile(place)  # noqa: PTH113 (a million times)
    except ValueError:  # a NUL in it
        return False


def _link(path: str) -> str:
    return quote(path.replace(os.sep, "/"), errors="surrogateescape")


def _texts(listing: Listing, colours: Sequence[str]) -> tuple[dict[str, Any], list[Labels]]:
    """Artists and titles; labels to colour by: those asked for, else tags of files and folders."""
    names = Names(listing.tracks)
    tags = []
    with Progress(len(listing.tracks.paths), "tags", "file") as bar:
        for path in listing.tracks.paths:
            tags.append(names.tags(path))
            bar.update()
    rest = [""] * (len(listing.names) - len(tags))
    texts = {name: [one.get(name, "") for one in tags] + rest for name in ("artist", "title")}
    wanted = list(colours) or ["artist", "genre", "year", "folder"]
    labels = [names.labels(one) for one in wanted]
    return texts, [one for one in labels if colours or len(set(one.values)) > 1]


def _times(listing: Listing) -> tuple[str, str]:
    rest = np.zeros(len(listing.names) - len(listing.tracks.paths))
    seconds = np.concatenate([listing.tracks.seconds, rest * np.nan])
    return _numbers(seconds, "f4"), _numbers(np.concatenate([listing.tracks.typical_seconds, rest]), "f4")


def _colour(labels: Labels) -> dict[str, Any]:
    values, codes, ordered = labels.legend()
    return {"name": labels.name, "values": values, "codes": _numbers(codes, "i2"), "ordered": ordered}


def _map(answers: Answers, listing: Listing) -> tuple[dict[str, str], str]:
    """Places of all tracks, each axis from 0 to 65535; queries from outside stand among their neighbours."""
    tracks = answers.tracks
    places, how = plane(Space(tracks).unit(tracks.vectors))
    extra = np.zeros((len(listing.names) - len(tracks.paths), 2), np.float32)
    for number, neighbours in zip(listing.numbers, answers.neighbours, strict=True):
        if number >= len(tracks.paths) and neighbours:
            near = [tracks.number[one.path] for one in neighbours[:3]]
            extra[number - len(tracks.paths)] = places[near].mean(axis=0)
    places = np.concatenate([places, extra])
    low = places.min(axis=0)
    size = max(float((places.max(axis=0) - low).max()), 1e-9)
    scaled = np.round((places - low) / size * 65535)
    return {"x": _numbers(scaled[:, 0], "u2"), "y": _numbers(scaled[:, 1], "u2")}, how


def _model(answers: Answers, listing: Listing, notes: list[str]) -> dict[str, Any]:
    """Neighbours of the queries, and of all tracks where there are not too many."""
    tracks, to_page = answers.tracks, _page_numbers(answers.tracks, listing)
    of, found = _asked(answers, listing)
    if len(tracks.paths) <= MOST_WITH_NEIGHBOURS:
        others = np.flatnonzero((to_page >= 0) & ~np.isin(to_page, of))
        of += to_page[others].tolist()
        found += zip(tracks.vectors[others][:, None], _near_all(tracks, others), strict=True)
    if lost := int((to_page < 0).sum()):
        notes.append(f"{answers.name}: {counted(lost, 'track')} of its table are not in the first one")
    if missing := len(listing.tracks.paths) - (len(to_page) - lost):
        notes.append(f"{answers.name}: its table lacks {counted(missing, 'track')} of the first one")
    return _packed_neighbours(answers, to_page, of, found)


def _page_numbers(tracks: Tracks, listing: Listing) -> NDArray[np.int64]:
    """Number on the page of each track; -1 where the page has none of this name.

    Raises:
        DataError: Where the page has none of them.
    """
    if tracks is listing.tracks:
        return np.arange(len(tracks.paths))
    # A table that does not say its folder has paths relative to the current one.
    first, second = (
        [os.path.abspath(one.place(path)) for path in one.paths]  # noqa: PTH100
        for one in (listing.tracks, tracks)
    )
    by_place = {place: number for number, place in enumerate(first)}
    numbers = np.array([by_place.get(place, -1) for place in second], np.int64)
    if numbers.max() < 0:
        raise DataError(
            f"{second[0]}: is not in the first table, as no track of the second is; "
            "give two tables of the same files"
        )
    return numbers


def _asked(answers: Answers, listing: Listing) -> tuple[list[int], list[_Found]]:
    rows = [[one.row for one in neighbours] for neighbours in answers.neighbours]
    vectors = [query.vectors for query in answers.queries]
    return list(listing.numbers), list(zip(vectors, rows, strict=True))


def _near_all(tracks: Tracks, numbers: NDArray[np.int64]) -> list[list[int]]:
    """Rows of the nearest tracks of each of some tracks, itself left out."""
    space = Space(tracks)
    nearest = NearestRows(space.unit(tracks.table.embeddings), len(numbers))
    wanted = (NEIGHBOURS + 1) * (1 if tracks.table.start_seconds is None else _ROWS_A_TRACK)
    found: list[list[int]] = []
    with Progress(len(numbers), "neighbours", "track") as bar:
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            rows, _ = nearest.find(space.unit(tracks.vectors[some]), wanted)
            for track, ones in zip(some.tolist(), rows.tolist(), strict=True):
                by_track = {int(tracks.of_row[row]): row for row in reversed(ones)}
                by_track.pop(track, None)
                nearest_first = sorted(by_track.values(), key=ones.index)
                found.append(nearest_first[:NEIGHBOURS])
            bar.update(len(some))
    return found


def _packed_neighbours(
    answers: Answers, to_page: NDArray[np.int64], of: list[int], found: list[_Found]
) -> dict[str, Any]:
    """Arrays [queries, most neighbours]; -1 where a query has fewer, or the page lacks the track."""
    tracks = answers.tracks
    space = Space(tracks)
    most = max((len(rows) for _, rows in found), default=0)
    ids = np.full((len(of), most), -1, np.int64)
    rows = np.zeros((len(of), most), np.int64)
    for number, (_, some) in enumerate(found):
        rows[number, : len(some)] = some
        ids[number, : len(some)] = to_page[tracks.of_row[some]]

    def nearness(one: Space) -> dict[str, str]:
        """Similarities in ten-thousandths, and percentiles in tenths; -1 where nobody knows."""
        each = [one.between(vectors, row) for (vectors, _), row in zip(found, rows, strict=True)]
        values = np.array(each, np.float32).reshape(rows.shape)  # of a large map without queries none
        shares = np.nan_to_num(one.percentile(values.reshape(-1)), nan=-0.1).reshape(values.shape)
        similarities = np.round(10_000 * values)
        return {"similarity": _numbers(similarities, "i2"), "share": _numbers(np.round(10 * shares), "i2")}

    starts = tracks.table.start_seconds
    return {
        "name": one_line(answers.name),
        "most": most,
        "of": _numbers(np.array(of), "i4"),
        "ids": _numbers(ids, "i4"),
        "at": None if starts is None else _numbers(starts[rows], "f4"),
        "all": nearness(space),
        "branches": [{"name": one.name, **nearness(one)} for one in branch_spaces(tracks)],
    }
