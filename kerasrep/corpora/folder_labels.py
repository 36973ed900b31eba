"""Labels of a folder's tracks: counts and values; `folder_stretches` reads the other kinds.

They come from tables, or from the tags of the files, which are read once and kept until a file changes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import sparse

from kerasrep import constants
from kerasrep.corpora.folder_stretches import read_stretches
from kerasrep.corpora.stored_labels import file_state
from kerasrep.corpora.track_keys import Read, Tally
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import LabelTable
from kerasrep.recipe.schema import fingerprint
from kerasrep.sources.labels import CountLabels, RawLabels, ValueLabels
from kerasrep.sources.readers.jams import read_jams
from kerasrep.sources.readers.mirdata_labels import read_mirdata
from kerasrep.sources.readers.tags import Tags, read_tags
from kerasrep.storage.run_directory import home, read_json, write_json
from kerasrep.storage.tables import is_unknown, parse_number, read_table
from kerasrep.storage.track_names import Keys

FORMAT_VERSION = 2


@dataclass(frozen=True)
class TagTables:
    """Tags as rows of tables.

    Attributes:
        root: Of the folder; named in errors.
        tags: Of its files, by track.
    """

    root: Path
    tags: Tags

    @classmethod
    def of(cls, root: Path, paths: Mapping[str, Path], progress: bool = False) -> TagTables:
        """Read the tags of all tracks, unless that is done and no file has changed since."""
        digits = fingerprint([FORMAT_VERSION, [[track, *file_state(path)] for track, path in paths.items()]])
        kept = home() / "tags" / f"{digits}.json"
        if kept.is_file():
            return cls(root, Tags(**read_json(kept)))
        tags = read_tags(list(paths.items()), progress)
        write_json(kept, asdict(tags))
        return cls(root, tags)

    def rows(
        self, name: str, key: str, several: bool, required: Sequence[str], optional: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[str]]]:
        """Rows as `read_table` gives them: track and value, then empty fields.

        Args:
            name: Field of the tags.
            key: What asks for it, in the recipe.
            several: Whether a track may have several values; its first one counts otherwise.
            required: Columns that are asked for.
            optional: The same.

        Raises:
            DataError: Where no file has the field.
        """
        by_track = self._field(name, key)
        number = 0
        for track, values in by_track.items():
            for value in values if several else values[:1]:
                number += 1
                yield (
                    f"{self.root}, tag {number}",
                    [track, value, *[""] * (len(required) + len(optional) - 2)],
                )

    def groups(self, fields: Sequence[str], tracks: Iterable[str]) -> dict[str, str]:
        """Track -> group: the first of `fields` that it has; `folder` is the one that the file lies in.

        Raises:
            DataError: Where no file has any of them, and `folder` is not among them.
        """
        found: dict[str, str] = {}
        for name in fields:
            values = self.tags.values.get(name, {})
            if name == "folder":
                values = {track: [Path(track).parent.as_posix()] for track in tracks if "/" in track}
            for track, texts in values.items():
                found.setdefault(track, f"{name} {texts[0]}")
        if not found and "folder" not in fields:
            self._field(fields[0], "corpus.groups")
        return found

    def _field(self, name: str, key: str) -> Mapping[str, list[str]]:
        by_track = self.tags.values.get(name)
        if not by_track:
            raise DataError(
                f"{self.root}: no file has the tag '{name}'; use a table, or remove {key} "
                f"({self.tags.describe()})"
            )
        return by_track


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
        return _read_values(source, path, read, table, keys, notices)
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


def _read_values(
    source: str, path: Path, read: Read, table: LabelTable, keys: Keys, notices: list[str]
) -> ValueLabels:
    values: dict[int, float] = {}
    tally = Tally(path)
    track, column = table.track or "track", table.value or "value"
    for place, (key, value) in read((track, column), ()):
        row = tally.row_of(key, place, keys, track)
        if row is None or tally.is_unknown(value):
            continue
        number = parse_number(value, place, column)
        if number <= 0 and source in constants.VALUE_SOURCES:
            tally.odd["say 0 or less, which is unknown"] += 1  # and left out where targets are made
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
            if number == 0:
                tally.says_nothing("have weight 0, which says nothing")
                continue
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
