"""Tags that listeners gave to tracks: `lastfm_tags.db`, the Last.fm data set.

Form: SQLite, three tables. `tids(tid)` holds the track ids, `tags(tag)` the tags, and
`tid_tag(tid, tag, val)` says which track has which tag: there `tid` and `tag` are row numbers (`ROWID`) of
the other two tables, and `val` is Last.fm's relative weight, 0 to 100, the track's commonest tag having
100. As published 505,216 tracks with at least one tag, 522,366 tags, 8,598,630 pairs.

A weight of 0 is one that Last.fm has rounded down: it counts as 1, as in the code of Kim et al. 2018
(arXiv 1802.04051).

Described at: http://millionsongdataset.com/lastfm/
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.sources.readers import reading
from kerasrep.sources.readers.sqlite import Database, opened_database

FILE = "lastfm_tags.db"
MIN_WEIGHT = 1.0
_TABLES = {"tids": ("tid",), "tags": ("tag",), "tid_tag": ("tid", "tag", "val")}
_SKIPPED = -1


def read_lastfm_tags(
    path: Path, known: Container[str] | None = None, progress: bool = False
) -> reading.Reading:
    """The tags of each track; documents are tracks, weights those of Last.fm, at least 1.

    See `reading` for arguments and errors.
    """
    tally = reading.Tally(path, "rows")
    with opened_database(path, _TABLES) as database:
        tracks, track_rows, documents = _tracks(database, known, tally)
        terms, tag_rows, columns = _tags(database, tally)
        builder = reading.CountBuilder()
        for number, (tids, tags, values) in database.blocks("tid_tag", _TABLES["tid_tag"], progress):
            database.check_types("tid_tag", number, "tid", tids, int)
            database.check_types("tid_tag", number, "tag", tags, int)
            weights = _weights(database, number, values)
            rows = _looked_up(np.array(tids, np.int64), track_rows, documents)
            places = _looked_up(np.array(tags, np.int64), tag_rows, columns)
            _tally_unknown(tally, number, rows, places)
            used = (rows >= 0) & (places >= 0)
            builder.extend(rows[used], places[used], np.maximum(weights[used], MIN_WEIGHT))
    counts, n_repeated = builder.finish(len(tracks), len(terms))
    tally.skip("repeat a track and tag (weights are added)", "table 'tid_tag'", n_repeated)
    return tally.reading(reading.count_labels(counts, terms, tracks))


def _tracks(
    database: Database, known: Container[str] | None, tally: reading.Tally
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int32]]:
    """Track ids, and for each row number of `tids` its document or `_SKIPPED`."""
    numbers: dict[str, int] = {}
    row_numbers: list[int] = []
    documents: list[int] = []
    for first, (rowids, tids) in database.blocks("tids", ("rowid", "tid")):
        database.check_types("tids", first, "tid", tids, bytes)
        row_numbers.extend(rowids)
        for number, text in enumerate(tids, start=first):
            track = reading.track_id(text, database.place("tids", number))
            if known is not None and track not in known:
                tally.skip("name an unknown track", f"table 'tids', row {number}")
                documents.append(_SKIPPED)
                continue
            if track in numbers:
                tally.skip("repeat a track (its tags are added)", f"table 'tids', row {number}")
            documents.append(numbers.setdefault(track, len(numbers)))
    return list(numbers), np.array(row_numbers, np.int64), np.array(documents, np.int32)


def _tags(database: Database, tally: reading.Tally) -> tuple[list[str], NDArray[np.int64], NDArray[np.int32]]:
    """Tags, and for each row number of `tags` its column."""
    numbers: dict[str, int] = {}
    row_numbers: list[int] = []
    columns: list[int] = []
    for first, (rowids, tags) in database.blocks("tags", ("rowid", "tag")):
        database.check_types("tags", first, "tag", tags, bytes)
        row_numbers.extend(rowids)
        for number, text in enumerate(tags, start=first):
            tag = reading.decoded(text, database.place("tags", number))
            if tag in numbers:
                tally.skip("repeat a tag (weights are added)", f"table 'tags', row {number}")
            columns.append(numbers.setdefault(tag, len(numbers)))
    return list(numbers), np.array(row_numbers, np.int64), np.array(columns, np.int32)


def _looked_up(
    wanted: NDArray[np.int64], row_numbers: NDArray[np.int64], values: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The value beside each wanted row number, which ascend in `row_numbers`; -2 where there is none."""
    if not len(row_numbers):
        return np.full(len(wanted), -2, np.int32)
    positions = np.minimum(np.searchsorted(row_numbers, wanted), len(row_numbers) - 1)
    return np.where(row_numbers[positions] == wanted, values[positions], -2).astype(np.int32)


def _tally_unknown(
    tally: reading.Tally, number: int, rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> None:
    """Count the pairs that have no track or no tag; `number` is that of the first pair."""
    reasons = (
        ("name no row of 'tids'", rows == -2),
        ("name no row of 'tags'", (columns == -2) & (rows != -2)),
        ("belong to an unknown track", (rows == _SKIPPED) & (columns != -2)),
    )
    for reason, found in reasons:
        if found.any():
            tally.skip(reason, f"table 'tid_tag', row {number + int(found.argmax())}", int(found.sum()))


def _weights(database: Database, number: int, values: Sequence[Any]) -> NDArray[np.float64]:
    database.check_types("tid_tag", number, "val", values, int, float)
    weights = np.array(values, np.float64)
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{database.place('tid_tag', number + row)}: column 'val' has {reading.shown(values[row])}, "
            "a weight of at least 0 was expected"
        )
    return weights
