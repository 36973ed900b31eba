"""Tables that `kerasrep-embed` wrote: Parquet, a folder of Parquet shards, or NPZ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.writing import NPZ, PARQUET, is_as_described
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import read_arrays


@dataclass(frozen=True)
class Table:
    """Embeddings of many files.

    Attributes:
        paths: One a row.
        embeddings: float32 [rows, dimension].
        columns: Name of each dimension.
        seconds: float64 [rows], length of the audio.
        start_seconds: float64 [rows], where each segment begins; `None` where segments are pooled.
        about: What made it; `None` where the table does not say.
        typical_seconds: float64 [rows], where the segment nearest to the mean begins; `None` where the table
            does not say, as where rows are segments.
    """

    paths: tuple[str, ...]
    embeddings: NDArray[np.float32]
    columns: tuple[str, ...]
    seconds: NDArray[np.float64]
    start_seconds: NDArray[np.float64] | None
    about: About | None
    typical_seconds: NDArray[np.float64] | None = None


def read_embeddings(path: str | Path) -> Table:
    """Read a table of embeddings; nothing in it is executed.

    Args:
        path: A `.parquet` or `.npz` file, or a folder of shards.

    Raises:
        DataError: Where it cannot be read, is no such table, or holds NaN.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise DataError(f"{path}: does not exist; give a table that kerasrep-embed wrote")
        if path.suffix.lower() == ".csv" and path.is_file():
            raise DataError(f"{path}: CSV is written for other programs; give a {PARQUET} or {NPZ} table")
        table = _read_npz(path) if path.suffix == NPZ and path.is_file() else _read_parquet(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: is not a table of embeddings ({reason}); embed again") from error
    if not np.isfinite(table.embeddings).all():
        raise DataError(f"{path}: holds NaN or infinite values; embed again")
    return table


def _read_npz(path: Path) -> Table:
    arrays = read_arrays(path)
    for name, kind in (("paths", "U"), ("embeddings", "f"), ("columns", "U")):
        if name not in arrays or arrays[name].dtype.kind != kind:
            raise ValueError(f"array '{name}' is missing or of another kind")
    about = str(arrays["about"]) if "about" in arrays else None
    return _table(
        path, arrays["paths"].tolist(), arrays["embeddings"], arrays["columns"].tolist(), about, arrays
    )


def _read_parquet(path: Path) -> Table:
    import pyarrow
    from pyarrow import parquet

    files = sorted(path.glob(f"*{PARQUET}")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: holds no {PARQUET} files; give a table that kerasrep-embed wrote")
    try:
        # Every file by itself: a folder read at once may hide that its files do not belong together.
        tables = [parquet.ParquetFile(file, page_checksum_verification=True).read() for file in files]
        read = pyarrow.concat_tables(tables)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    if not all(is_as_described(table.schema.metadata or {}) for table in tables):
        raise ValueError("what it says of its columns and of what made them is damaged")
    metadata = read.schema.metadata or {}
    kinds = {(table.schema.metadata or {}).get(b"kerasrep") for table in tables}
    if len(kinds) > 1:
        raise DataError(f"{path}: its files were made with different models or settings; embed again")
    embedding = read["embedding"].combine_chunks()
    width = embedding.type.list_size if pyarrow.types.is_fixed_size_list(embedding.type) else 0
    if not width or embedding.null_count:
        raise ValueError("column 'embedding' is not a list of fixed size without gaps")
    paths = read["path"].to_pylist()
    if not all(isinstance(one, str) for one in paths):
        raise ValueError("column 'path' is not text without gaps")
    values = np.asarray(embedding.flatten().to_numpy(zero_copy_only=False), np.float32)
    about = metadata.get(b"kerasrep")
    names = {"seconds", "start_seconds", "typical_seconds"} & set(read.column_names)
    return _table(
        path,
        paths,
        values.reshape(-1, width),
        json.loads(metadata.get(b"columns", b"[]")),
        None if about is None else about.decode("utf-8", "replace"),
        {name: read[name].to_numpy() for name in names},
    )


def _table(
    path: Path,
    paths: Sequence[str],
    embeddings: NDArray[Any],
    columns: Sequence[str],
    about: str | None,
    arrays: Mapping[str, NDArray[Any]],
) -> Table:
    if embeddings.ndim != 2 or len(embeddings) != len(paths) or not embeddings.size:
        raise ValueError(f"{len(paths)} paths and embeddings {list(embeddings.shape)} do not fit")
    names = tuple(map(str, columns)) or tuple(map(str, range(embeddings.shape[1])))
    if len(names) != embeddings.shape[1]:
        raise ValueError(f"{len(names)} names of {embeddings.shape[1]} columns")
    try:
        said = None if about is None else About.from_json(about)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    seconds, starts, typical = (
        np.asarray(arrays[name], np.float64) if name in arrays else None
        for name in ("seconds", "start_seconds", "typical_seconds")
    )
    if seconds is None:
        seconds = np.full(len(paths), np.nan)
    values = np.asarray(embeddings, np.float32)
    return Table(tuple(map(str, paths)), values, names, seconds, starts, said, typical)
