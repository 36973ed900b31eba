"""The tracks of a table of embeddings: which rows are whose, and where their audio lies.

What they are called and grouped by: tags in their files, their folders, and tables of labels.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.reading import Table
from kerasrep.embedding.catalogue.writing import path_text
from kerasrep.errors import DataError, RecipeError
from kerasrep.sources.readers.tags import shown_tags
from kerasrep.storage.tables import read_fields, read_rows
from kerasrep.storage.track_names import EXAMPLES, Keys

_ROWS_AT_ONCE = 1 << 16
#: What `--color` and `--distinct` take without a table.
TAG_FIELDS = ("artist", "album", "genre", "year")
FOLDER = "folder"
#: Values of a legend; what is rarer is one more.
MOST_VALUES = 23
#: Columns of numbers with more values than this are shown in ranges, each with as many tracks.
MOST_NUMBERS, RANGES = 12, 8
#: Names of the column that says which track a row is of.
_TRACK_COLUMNS = ("track", "path", "file")


@dataclass(frozen=True)
class Tracks:
    """Tracks of a table, in the order in which they first come.

    Attributes:
        table: Whose they are.
        audio_root: Folder that relative paths begin at; by default where the table says that it was made.
    """

    table: Table
    audio_root: Path | None = None

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        """Each track once, as the table names it."""
        return tuple(dict.fromkeys(self.table.paths))

    @functools.cached_property
    def number(self) -> dict[str, int]:
        """Path -> which track it is."""
        return {path: number for number, path in enumerate(self.paths)}

    @functools.cached_property
    def of_row(self) -> NDArray[np.int64]:
        """Which track each row of the table belongs to."""
        return np.fromiter((self.number[path] for path in self.table.paths), np.int64, len(self.table.paths))

    @functools.cached_property
    def vectors(self) -> NDArray[np.float32]:
        """float32 [tracks, dimension]: the rows, or their means where rows are segments."""
        if len(self.paths) == len(self.table.paths):
            return self.table.embeddings
        sums = np.zeros((len(self.paths), self.table.embeddings.shape[1]))
        np.add.at(sums, self.of_row, self.table.embeddings)
        return (sums / np.bincount(self.of_row)[:, None]).astype(np.float32)

    @functools.cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each track; NaN where the table does not say."""
        seconds = np.full(len(self.paths), np.nan)
        seconds[self.of_row] = self.table.seconds
        return seconds

    @functools.cached_property
    def typical_seconds(self) -> NDArray[np.float64]:
        """Where each track is most like itself: where its segment nearest to its mean begins.

        A table of pooled rows says so itself; one that does not gives the middle of each track.
        """
        table = self.table
        typical = np.zeros(len(self.paths))
        if table.typical_seconds is not None:
            typical[self.of_row] = table.typical_seconds
        elif table.start_seconds is None:
            return np.nan_to_num(self.seconds / 2)
        else:
            distances = np.empty(len(table.paths), np.float32)
            for start in range(0, len(distances), _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                away = table.embeddings[rows] - self.vectors[self.of_row[rows]]
                distances[rows] = np.square(away).sum(axis=1)
            farthest_first = np.argsort(-distances, kind="stable")  # the last one written stays
            typical[self.of_row[farthest_first]] = table.start_seconds[farthest_first]
        return typical

    def place(self, path: str) -> Path:
        """Where the audio of a track lies, as far as is known."""
        folder = "" if self.table.about is None else self.table.about.folder
        return Path(self.audio_root if self.audio_root is not None else folder, path)

    def shown(self, path: str) -> str:
        """A path for people: relative to the current folder where it lies below, else absolute."""
        place = self.place(path)
        here = Path.cwd()
        return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)

    def find(self, query: Path) -> int | None:
        """The track that a file is, by its name; `None` where it is none."""
        names = {path_text(query), path_text(Path(os.path.abspath(query)))}  # noqa: PTH100 (links stay)
        real = os.path.realpath(query)
        names.add(path_text(Path(real)))
        root = os.path.realpath(self.place(""))
        if self.place("").parts:
            names.add(path_text(Path(os.path.relpath(real, root))))
        return next((self.number[name] for name in names if name in self.number), None)

    @functools.cached_property
    def _keys(self) -> Keys:
        return Keys(self.paths, self.place(""))

    def named(self, query: Path) -> Path:
        """The path of a query: a name without folder that is no file is that of a track, its ending or not.

        Raises:
            DataError: Where several tracks have the name, or none.
        """
        if query.name != str(query) or os.path.lexists(query):
            return query
        keys, name = self._keys, path_text(query)
        if keys.is_ambiguous(name):
            folded = name.casefold()
            same = [
                path
                for path in self.paths
                if folded in (Path(path).name.casefold(), Path(path).stem.casefold())
            ]
            some = ", ".join(self.shown(path) for path in same[:EXAMPLES])
            raise DataError(f"{query}: is the name of {len(same)} tracks of the index ({some}); give a path")
        row = keys.row(name)
        if row is None:
            raise DataError(f"{query}: is no file here, and the name of no track of the index; give a path")
        return Path(self.shown(self.paths[row]))

    def is_file(self, path: str, names: Iterable[str]) -> bool:
        """Whether a track is a file of one of these names, the last of them a real path.

        A path of the table is escaped already.
        """
        return path in names or _real(str(self.place(path))) in names


def own_names(query: Path) -> tuple[str, str]:
    """Names of a file for `Tracks.is_file`: tables hold paths as text, bytes that are not UTF-8 escaped."""
    return path_text(query), path_text(Path(os.path.realpath(query)))


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL in it
        return path


@dataclass(frozen=True)
class Labels:
    """One label a track.

    Attributes:
        name: Of the column.
        values: One a track, empty where there is none.
        notes: What was left out, each a sentence.
    """

    name: str
    values: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def legend(self) -> tuple[list[str], NDArray[np.int16], bool]:
        """Values for a legend, the code of each track (-1: none), and whether the values have an order."""
        present = [value for value in self.values if value]
        numbers = _numbers(present)
        if numbers is not None and len(set(numbers.tolist())) > MOST_NUMBERS:
            return self._ranges(numbers)
        counts = Counter(present)
        kept = [value for value, _ in counts.most_common(MOST_VALUES)]
        code = {value: number for number, value in enumerate(kept)}
        if len(counts) > len(kept):
            kept.append(f"other ({len(counts) - len(kept)})")
        codes = [code.get(value, len(kept) - 1) if value else -1 for value in self.values]
        return kept, np.array(codes, np.int16), False

    def _ranges(self, numbers: NDArray[np.float64]) -> tuple[list[str], NDArray[np.int16], bool]:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, RANGES + 1)))
        of_numbers = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
        codes = np.full(len(self.values), -1, np.int16)
        codes[[bool(value) for value in self.values]] = of_numbers
        names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
        return names, codes, True


def _numbers(texts: list[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if len(numbers) and np.isfinite(numbers).all() else None


class Names:
    """Tags of the tracks' files, each read when it is first asked for.

    Attributes:
        tracks: Whose names these are.
        tags: A function of a track's path: field -> text.
    """

    def __init__(self, tracks: Tracks) -> None:
        self.tracks = tracks
        self.tags = functools.cache(lambda path: shown_tags(tracks.place(path)))

    def label(self, path: str) -> str:
        """`Artist – Title`, as far as the file says; else empty."""
        tags = self.tags(path)
        return " – ".join(tags[name] for name in ("artist", "title") if name in tags)

    def group(self, by: str, path: str) -> str | None:
        """A tag, or the folder that a track lies in; `None` where it has none."""
        if by == FOLDER:
            return os.path.dirname(path) or None  # noqa: PTH120 (text, a million times)
        return self.tags(path).get(by)

    def grouping(self, wanted: str) -> Callable[[str], str | None]:
        """A function that gives the group of a track; for arguments and errors see `labels`."""
        if wanted == FOLDER or wanted in TAG_FIELDS:
            return functools.partial(self.group, wanted)
        labels = self.labels(wanted)
        return lambda path: labels.values[self.tracks.number[path]] or None

    def labels(self, wanted: str) -> Labels:
        """What `--color` or `--distinct` names: a tag, `folder`, or `COLUMN:TABLE.csv`.

        Raises:
            RecipeError: Where there is no such thing.
            DataError: Where the table cannot be read, or names no track of the index.
        """
        name, colon, table = wanted.partition(":")
        if colon and not Path(table).is_file():
            turned = f"; did you mean '{table}:{name}'?" if Path(name).is_file() else ""
            raise DataError(f"{table}: cannot be read, there is no such file; give COLUMN:TABLE.csv{turned}")
        if colon:
            return _of_table(self.tracks, name, Path(table))
        if wanted != FOLDER and wanted not in TAG_FIELDS:
            known = ", ".join((*TAG_FIELDS, FOLDER))
            raise RecipeError(f"'{wanted}': give {known}, or COLUMN:TABLE.csv")
        return Labels(wanted, tuple(self.group(wanted, path) or "" for path in self.tracks.paths))


def _of_table(tracks: Tracks, column: str, table: Path) -> Labels:
    """A column of a table, whose rows name tracks as the index does, or relative to where the table lies."""
    key = _track_column(table)
    at_place = {os.path.abspath(tracks.place(path)): number for path, number in tracks.number.items()}  # noqa: PTH100
    values = [""] * len(tracks.paths)
    unknown = repeated = 0
    for _, (name, value) in read_rows(table, [key, column]):
        number = tracks.number.get(name)
        if number is None:
            number = at_place.get(os.path.abspath(table.parent / name))  # noqa: PTH100
        if number is None:
            unknown += 1
        elif values[number]:
            repeated += values[number] != value
        else:
            values[number] = value
    if not any(values):
        raise DataError(
            f"{table}: names no track of the index in its column '{key}'; give paths as the index has them, "
            "or relative to the table's folder"
        )
    notes = []
    if unknown:
        notes.append(f"{table.name}: {unknown} rows name no track of the index")
    if repeated:
        notes.append(f"{table.name}: of tracks with several values of {column} the first is shown")
    return Labels(column, tuple(values), tuple(notes))


def _track_column(table: Path) -> str:
    header = [name.strip() for name in next(read_fields(table), ("", []))[1]]
    return next((name for name in _TRACK_COLUMNS if name in header), _TRACK_COLUMNS[0])
