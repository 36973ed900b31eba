"""The tracks of a table of embeddings: which rows are whose, where their audio lies, how they are called."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.reading import Table
from kerasrep.embedding.catalogue.writing import path_text

_ROWS_AT_ONCE = 1 << 16


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
