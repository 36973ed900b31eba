"""Labels of a folder's tracks out of tables: counts and values; `folder_stretches` reads the other kinds."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy import sparse

from kerasrep.corpora.folder_stretches import read_stretches
from kerasrep.corpora.folder_tags import TagTables
from kerasrep.corpora.track_keys import Read, Tally
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import LabelTable
from kerasrep.sources.labels import CountLabels, RawLabels, ValueLabels
from kerasrep.sources.readers.jams import read_jams
from kerasrep.sources.readers.mirdata_labels import read_mirdata
from kerasrep.storage.table_reader import read_table
from kerasrep.storage.tables import is_unknown, parse_number
from kerasrep.storage.track_names import Keys


def read_labels(
    source: str,
    root: Path,
    table: LabelTable,
    keys: Keys,
    training: Collection[str],
    notices: list[str],
    tags: Callable[[], TagTables],
) -> RawLabels:
    """Read the labels of one source.

    Args:
        source: Its name.
        root: The folder.
        table: Where they are, and what they become.
        keys: The tracks of the folder.
        training: Those that are trained on.
        notices: What people must know of the table is added.
        tags: Reads those of the files.

    Raises:
        DataError: Where the table cannot be read or used; one line with file and row.
    """
    path = root / (table.path or "")
    if source == "self":
        raise DataError(f"{path}: source 'self' needs no table; remove corpus.tables.self")
    read: Read = partial(read_table, path)
    if table.from_ == "jams":
        several, numbers = table.target == "labels", table.target == "number"
        observations = partial(
            read_jams, root, keys.tracks, table.item or "", f"corpus.tables.{source}", several, numbers
        )
        table = table.model_copy(update={"start": "time", "end": "time and duration"})
        return read_stretches(
            source, root, lambda columns, optional: observations(), table, keys, training, notices
        )
    if table.from_ == "mirdata":
        read, table = _of_mirdata(source, root, table)
    elif table.path is None:
        read = partial(
            tags().rows,
            table.field_of(source),
            f"corpus.tables.{source}",
            table.target in ("labels", "topics"),
        )
    if table.target == "topics":
        return _read_counts(path, read, table, keys, notices)
    if table.target == "mixture":
        return _read_values(path, read, table, keys, notices)
    return read_stretches(source, path, read, table, keys, training, notices)


def _of_mirdata(source: str, root: Path, table: LabelTable) -> tuple[Read, LabelTable]:
    """Rows out of mirdata as those of a table, and its columns: with times where the labels have any."""
    key = f"corpus.tables.{source}"
    found = list(read_mirdata(table.dataset or "", root, table.item or "", key))
    if not found:
        raise DataError(f"{root}: no track of {table.dataset} has '{table.item}'; correct {key}.item")
    timed = [label.start_seconds is not None for label in found]
    if any(timed) and (not all(timed) or table.target in ("topics", "mixture")):
        raise DataError(
            f"{root}: '{table.item}' of {table.dataset} has times; set {key}.target to classes, labels or "
            "number"
        )

    def read(required: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        for number, label in enumerate(found, 1):
            times = [repr(label.start_seconds), repr(label.end_seconds)] if any(timed) else []
            fields = [label.track, label.value, *times]
            yield f"{root}, label {number}", [*fields, *[""] * (len(required) + len(optional) - len(fields))]

    columns = {"start": "start", "end": "end"} if any(timed) else {}
    return read, table.model_copy(update={"value": None, **columns})


def _read_values(path: Path, read: Read, table: LabelTable, keys: Keys, notices: list[str]) -> ValueLabels:
    values: dict[int, float] = {}
    tally = Tally(path)
    track, column = table.track or "track", table.value or "value"
    for place, (key, value) in read((track, column), ()):
        row = tally.row_of(key, place, keys, track)
        if row is None or tally.is_unknown(value):
            continue
        number = parse_number(value, place, column)
        if row in values:
            tally.odd["repeat a track (the first one counts)"] += 1
        values.setdefault(row, number)
    tally.close(keys, notices)
    rows = sorted(values)
    return ValueLabels([keys.tracks[row] for row in rows], np.array([values[row] for row in rows]))


def _read_counts(path: Path, read: Read, table: LabelTable, keys: Keys, notices: list[str]) -> CountLabels:
    terms: dict[str, int] = {}
    rows, columns, weights = array("q"), array("q"), array("d")
    tally, weightless = Tally(path), 0
    track = table.track or "track"
    column = table.item or "item"
    required = (track, column, *((table.weight,) if table.weight else ()))
    for place, (key, item, weight) in read(required, () if table.weight else ("weight",)):
        row = tally.row_of(key, place, keys, track)
        if row is None or tally.is_unknown(item):
            continue
        number = 1.0
        if not is_unknown(weight):
            number = parse_number(weight, place, table.weight or "weight", minimum=0)
        else:
            weightless += 1
        rows.append(row)
        columns.append(terms.setdefault(item, len(terms)))
        weights.append(number)
    if weightless < len(rows):  # of a table that has weights at all
        tally.odd["have no weight (1 is taken)"] = weightless
    tally.close(keys, notices)
    documents, positions = np.unique(np.array(rows, dtype=np.int64), return_inverse=True)
    counts = sparse.csr_matrix(
        (np.array(weights), (positions, np.array(columns, dtype=np.int64))),
        shape=(len(documents), len(terms)),
    )
    if counts.nnz < len(rows):
        notices.append(f"{path}: {len(rows) - counts.nnz} rows repeat a track and item (weights are added)")
    tracks = [keys.tracks[row] for row in documents]
    return CountLabels(counts, list(terms), tracks, np.arange(len(documents), dtype=np.int64))
