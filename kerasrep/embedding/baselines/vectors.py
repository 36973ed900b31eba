"""Vectors that something else computed before: a table with one row a recording."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.errors import DataError, RecipeError
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.tables import TAB_ENDINGS, parse_number, read_fields

#: Raised whenever the same table and path give another vector.
VERSION = 1
CSV_ENDINGS = (".csv", *TAB_ENDINGS)


class Vectors:
    """A table of vectors as a representation.

    A row belongs to a file where the row's path is the file's, or the end of it (`a/b.ogg` for
    `music/a/b.ogg`); the longest such path counts.

    Args:
        table: `.parquet` or `.npz` as `kerasrep-embed` writes them, one row a file, or `.csv` or `.tsv` with
            a column `path`; all other columns are the vector.

    Raises:
        DataError: When made, where there is no such file.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self.name = f"vectors:{table.stem}"
        try:
            content = hashlib.sha256(table.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"vectors:{table}: cannot be read ({error.strerror})") from error
        self.fingerprint = fingerprint(["vectors", VERSION, content])

    @property
    def dimension(self) -> int:
        """Values of a vector; reads the table."""
        return int(self._read[1].shape[1])

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """Refused: there is a table alone."""
        raise RecipeError(f"vectors:{self._table}: has vectors of files, and cannot embed another recording")

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """Look files up; one without a row is bad."""
        rows, vectors = self._read
        for path in paths:
            parts = path.absolute().parts
            row = next((rows[parts[n:]] for n in range(len(parts)) if parts[n:] in rows), None)
            if row is None:
                yield BadFile(path, f"{path}: has no row in {self._table}")
            else:
                yield FileEmbedding(path, vectors[row], 0.0)

    @cached_property
    def _read(self) -> tuple[dict[tuple[str, ...], int], NDArray[np.float32]]:
        """Parts of each path -> row, and float32 [rows, dimension]."""
        if self._table.suffix.lower() in CSV_ENDINGS:
            paths, vectors = _read_csv(self._table)
        else:
            table = read_embeddings(self._table)
            paths, vectors = table.paths, table.embeddings
        rows: dict[tuple[str, ...], int] = {}
        for row, path in enumerate(paths):
            if rows.setdefault(Path(path).parts, row) != row:
                raise DataError(
                    f"{self._table}: '{path}' stands twice; give one row per file, such as the mean "
                    "of its segments"
                )
        return rows, vectors


def _read_csv(path: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    fields = read_fields(path)
    header = [name.strip() for name in next(fields, ("", []))[1]]
    if "path" not in header or len(header) < 2:
        raise DataError(f"{path}: the first line must name a column 'path' and those of the vector")
    place_of_path = header.index("path")
    paths, rows = [], []
    for place, row in fields:
        if len(row) != len(header):
            raise DataError(f"{place}: has {len(row)} fields, the first line names {len(header)}")
        paths.append(row[place_of_path])
        rows.append(
            [parse_number(v, place, name) for name, v in zip(header, row, strict=True) if name != "path"]
        )
    if not rows:
        raise DataError(f"{path}: has no row")
    return tuple(paths), np.asarray(rows, np.float32)
