"""Classes, labels, numbers and vectors out of tables, of a folder's tracks or of stretches of them."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.corpora.track_keys import Read, Tally
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import LabelTable
from kerasrep.sources.labels import StretchLabels
from kerasrep.sources.readers.vectors import read_vectors
from kerasrep.sources.stretches import Stretches, StretchKind, Times, reach_of
from kerasrep.storage.tables import parse_number
from kerasrep.storage.track_names import Keys

MIN_CLASS_TRACKS = 4
#: Of probabilities that another program wrote.
SUM_TOLERANCE = 1e-3
#: Times that are written with few digits may seem to overlap by less than this.
OVERLAP_SECONDS = 1e-3


@dataclass(frozen=True)
class _Rows:
    """Rows of a table that are about tracks of the folder.

    Attributes:
        path: The table.
        track: int64 [rows], position of the track.
        values: int64 [rows], number of the item; or float32 or float64 [rows, size].
        times: float64 [2, rows], start and end in seconds; `None` where rows are about whole tracks.
        numbers: int64 [rows], lines or rows of the file.
        place: `FILE, line` or `FILE, row`: with the number, where each stands.
        terms: Names of the items.
    """

    path: Path
    track: NDArray[np.int64]
    values: NDArray[Any]
    times: NDArray[np.float64] | None
    numbers: NDArray[np.int64]
    place: str
    terms: tuple[str, ...] = ()

    def take(self, rows: NDArray[Any]) -> _Rows:
        times = None if self.times is None else self.times[:, rows]
        return _Rows(
            self.path, self.track[rows], self.values[rows], times, self.numbers[rows], self.place, self.terms
        )


def read_stretches(
    source: str,
    path: Path,
    read: Read,
    table: LabelTable,
    keys: Keys,
    training: Collection[str],
    notices: list[str],
) -> StretchLabels:
    """Read, check and put in order the rows of one table.

    Args:
        source: Whose labels they are.
        path: The table.
        read: Its rows.
        table: Its columns, and what the labels become.
        keys: The tracks of the folder.
        training: Those that are trained on.
        notices: What people must know of the table is added.

    Raises:
        DataError: In one line with file and row.
    """
    kind: StretchKind = table.target  # type: ignore[assignment]
    tally = Tally(path)
    if kind == "vector":
        rows = _read_vectors(source, path, table, keys, tally)
    else:
        rows = _read_rows(source, path, read, table, keys, tally)
    tally.close(keys, notices)
    order = np.argsort(rows.track, kind="stable")
    if rows.times is not None:
        order = np.lexsort((rows.times[1], rows.times[0], rows.track))
    rows = rows.take(order)
    if rows.times is None and kind != "labels":
        rows = _one_a_track(rows, kind, keys, notices)
    elif rows.times is not None and kind != "labels":
        _check_times(rows, kind, keys)
    trained = np.fromiter((track in training for track in keys.tracks), bool, len(keys.tracks))
    left_out: dict[str, int] = {}
    looked_at = np.unique(rows.track)
    if kind in ("classes", "labels"):
        least = table.min_tracks or (MIN_CLASS_TRACKS if kind == "classes" else 1)
        rows, left_out = _common(source, rows, kind, trained, least)
    elif kind == "number":
        found = rows.values[trained[rows.track]]
        if len(found) and found.min() == found.max():
            raise DataError(
                f"{path}: all training tracks have the same number, {found[0, 0]:g}; there is nothing to "
                f"learn: remove corpus.tables.{source}"
            )
    for what, count in left_out.items():
        notices.append(f"{path}: {source}: left out {count} {what.replace('_', ' ')}")
    negative = table.gaps == "negative"
    # A track whose labels are all too rare has none of the others: it is known to be negative.
    tracks = looked_at if negative else np.unique(rows.track)
    labels = _labels(rows, kind, negative, tracks, keys, left_out)
    return replace(labels, standardised=kind == "number" or table.loss == "squared")


def _labels(
    rows: _Rows,
    kind: StretchKind,
    negative: bool,
    tracks: NDArray[np.int64],
    keys: Keys,
    left_out: dict[str, int],
) -> StretchLabels:
    """Rows in order as labels of `tracks`, int64 [tracks], ascending."""
    first = np.searchsorted(rows.track, [*tracks, len(keys.tracks)]).astype(np.int64)
    times = None
    if rows.times is not None:
        start, end = rows.times.copy()
        end = np.where(end > start, end, np.nextafter(start, np.inf))  # an instant lasts as little as can be
        times = Times(start, end, reach_of(first, end))
    items = bool(rows.terms)
    size = len(rows.terms) if items else rows.values.shape[1]
    # Numbers are standardised before they are rounded.
    values = rows.values.astype(np.int32 if items else np.float64 if kind == "number" else np.float32)
    stretches = Stretches(kind, size, first, values, times, negative)
    return StretchLabels([keys.tracks[track] for track in tracks], stretches, rows.terms, left_out)


def _read_rows(source: str, path: Path, read: Read, table: LabelTable, keys: Keys, tally: Tally) -> _Rows:
    """Rows whose labels are items or numbers."""
    number = table.target == "number"
    track, column = table.track or "track", (table.value or "value") if number else (table.item or "item")
    columns = (track, column) if table.start is None else (track, column, table.start, table.end or "")
    terms: dict[str, int] = {}
    tracks, numbers, values, times = array("q"), array("q"), array("d"), array("d")
    place = f"{path}, line 0"
    for place, (key, text, *span) in read(columns, ()):
        row = tally.row_of(key, place, keys, track)
        if row is None or tally.is_unknown(text):
            continue
        value = _number(source, text, place, column) if number else terms.setdefault(text, len(terms))
        span_seconds = [parse_number(t, place, c, minimum=0) for t, c in zip(span, columns[2:], strict=True)]
        if span_seconds and span_seconds[1] < span_seconds[0] + (0 if table.target == "labels" else 1e-9):
            raise DataError(
                f"{place}: ends at {span_seconds[1]:g} s and starts at {span_seconds[0]:g} s; correct the "
                f"columns '{table.start}' and '{table.end}'"
            )
        if number and value <= 0 and source in constants.VALUE_SOURCES:
            tally.says_nothing("say 0 or less, which is unknown")
            continue
        tracks.append(row)
        values.append(value)
        times.extend(span_seconds)
        numbers.append(int(place.rpartition(" ")[2]))
    found = np.frombuffer(values, np.float64)
    return _Rows(
        path,
        np.frombuffer(tracks, np.int64),
        found[:, None] if number else found.astype(np.int64),
        None if table.start is None else np.frombuffer(times, np.float64).reshape(-1, 2).T,
        np.frombuffer(numbers, np.int64),
        place.rpartition(" ")[0],
        tuple(terms),
    )


def _number(source: str, text: str, place: str, column: str) -> float:
    try:
        return parse_number(text, place, column)
    except DataError as error:
        raise DataError(
            f"{error}; where it holds words, set corpus.tables.{source}.target to classes or labels"
        ) from error


def _read_vectors(source: str, path: Path, table: LabelTable, keys: Keys, tally: Tally) -> _Rows:
    """Rows of vectors; those of zeros alone are unknown."""
    found = read_vectors(path, table.track, table.value, table.start, table.end, f"corpus.tables.{source}")
    tracks = np.empty(len(found.keys), np.int64)
    for number, key in enumerate(found.keys):
        row = tally.row_of(key, f"{path}, row {number + 1}", keys, table.track or "path")
        tracks[number] = -1 if row is None else row
    named, zeros = tracks >= 0, ~found.vectors.any(axis=1)
    tally.says_nothing("are zeros, which is unknown", int((named & zeros).sum()))
    kept = np.flatnonzero(named & ~zeros)
    _check_probabilities(source, path, table, found.vectors)
    every = _Rows(path, tracks, found.vectors, found.times, np.arange(1, len(tracks) + 1), f"{path}, row")
    return every.take(kept)


def _check_probabilities(source: str, path: Path, table: LabelTable, vectors: NDArray[np.float32]) -> None:
    """Refuse vectors that are not what their loss is for."""
    odd = np.zeros(len(vectors), bool)
    if table.loss in ("sigmoid", "divergence"):
        odd |= (vectors < 0).any(axis=1) | (vectors > 1).any(axis=1)
    if table.loss == "divergence":
        odd |= np.abs(vectors.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE
    if odd.any():
        what = "are no probabilities" if table.loss == "sigmoid" else "are no probabilities that sum to 1"
        raise DataError(
            f"{path}, row {np.flatnonzero(odd)[0] + 1}: values {what}; for corpus.tables.{source}.loss take "
            "cosine or squared"
        )


def _one_a_track(rows: _Rows, kind: StretchKind, keys: Keys, notices: list[str]) -> _Rows:
    """The first row of each track."""
    repeats = np.flatnonzero(np.diff(rows.track) == 0) + 1
    if kind == "classes":
        changes = repeats[rows.values[repeats] != rows.values[repeats - 1]]
        if len(changes):
            row = int(changes[0])
            one, other = (rows.terms[int(rows.values[r])] for r in (row - 1, row))
            raise DataError(
                f"{rows.place} {rows.numbers[row]}: '{keys.tracks[rows.track[row]]}' is '{other}', and "
                f"'{one}' in line {rows.numbers[row - 1]}; a track has one class: for several, use target: "
                "labels"
            )
    if len(repeats):
        notices.append(f"{rows.path}: {len(repeats)} rows repeat a track (the first one counts)")
    return rows.take(np.delete(np.arange(len(rows.track)), repeats))


def _check_times(rows: _Rows, kind: StretchKind, keys: Keys) -> None:
    """Refuse classes and numbers that overlap, and vectors at the same time."""
    assert rows.times is not None
    start, end = rows.times
    same = rows.track[1:] == rows.track[:-1]
    if kind == "vector":
        middle = (start + end) / 2
        odd, what = same & (middle[1:] <= middle[:-1]), "is not after"
    else:
        odd, what = same & (start[1:] < end[:-1] - OVERLAP_SECONDS), "overlaps"
    if odd.any():
        row = int(np.flatnonzero(odd)[0]) + 1
        advice = "" if kind == "vector" else "; a moment has one: for several, use target: labels"
        raise DataError(
            f"{rows.place} {rows.numbers[row]}: '{keys.tracks[rows.track[row]]}' from {start[row]:g} to "
            f"{end[row]:g} s {what} {rows.place.rpartition(' ')[2]} {rows.numbers[row - 1]}, from "
            f"{start[row - 1]:g} to {end[row - 1]:g} s{advice}"
        )


def _common(
    source: str, rows: _Rows, kind: StretchKind, trained: NDArray[np.bool_], least: int
) -> tuple[_Rows, dict[str, int]]:
    """Rows whose item has enough training tracks, items in alphabetical order; and what was left out."""
    of_training = trained[rows.track]
    pairs = np.unique(np.stack([rows.track[of_training], rows.values[of_training]]), axis=1)
    counts = np.bincount(pairs[1], minlength=len(rows.terms))
    kept = sorted(np.flatnonzero(counts >= least).tolist(), key=lambda item: rows.terms[item])
    needed = 2 if kind == "classes" else 1
    if len(kept) < needed:
        what = "classes have" if kind == "classes" else "labels have"
        raise DataError(
            f"{rows.path}: {len(kept)} of {len(rows.terms)} {what} {least} training tracks or more, {needed} "
            f"are needed; lower corpus.tables.{source}.min_tracks, or label more tracks"
        )
    number = np.full(len(rows.terms), -1, np.int64)
    number[kept] = np.arange(len(kept))
    values = number[rows.values]
    there = np.flatnonzero(values >= 0)
    left = {f"{kind}_of_fewer_than_{least}_training_tracks": len(rows.terms) - len(kept)}
    terms = tuple(rows.terms[item] for item in kept)
    taken = rows.take(there)
    found = _Rows(rows.path, taken.track, values[there], taken.times, taken.numbers, rows.place, terms)
    return found, left if len(kept) < len(rows.terms) else {}
