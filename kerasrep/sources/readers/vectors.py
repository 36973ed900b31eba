"""Tables of another model's vectors, as `kerasrep-embed` writes them: Parquet or NPZ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.storage.regular_file import opened
from kerasrep.storage.run_directory import read_arrays
from kerasrep.storage.tables import PARQUET_ENDINGS


@dataclass(frozen=True)
class VectorTable:
    """All rows of a table.

    Attributes:
        keys: Names of the tracks.
        vectors: float32 [rows, size].
        times: float64 [2, rows], start and end in seconds; `None` where a row is about a whole track.
    """

    keys: Sequence[str]
    vectors: NDArray[np.float32]
    times: NDArray[np.float64] | None


def read_vectors(
    path: Path, track: str | None, vector: str | None, start: str | None, end: str | None, key: str
) -> VectorTable:
    """Read a table.

    Args:
        path: The Parquet file; or NPZ, whose arrays have the names that `kerasrep-embed` gives them.
        track: Column of the tracks; by default `path`, or else `track`.
        vector: Column of the vectors; by default `embedding`.
        start: Column where rows begin; by default `start_seconds`, where there is one.
        end: Column where they end; by default as long after the start as the table says that a segment is.
        key: Of the table in the recipe, for errors.

    Raises:
        DataError: Where the file is no such table, or vectors differ in length or are not finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".npz":
        for name, column in {"track": track, "value": vector, "start": start, "end": end}.items():
            if column is not None:
                raise DataError(
                    f"{path}: an NPZ file has no columns; remove {key}.{name}, or write Parquet instead"
                )
        return _read_npz(path, key)
    if path.suffix.lower() not in PARQUET_ENDINGS:
        raise DataError(
            f"{path}: vectors are read from Parquet or NPZ; write it with kerasrep-embed, or set {key}.target"
        )
    with opened(path, "a Parquet table"):
        pass
    try:
        with pq.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
            track = track or ("path" if "path" in names else "track")
            vector = vector or "embedding"
            start = start or ("start_seconds" if "start_seconds" in names else None)
            wanted = [name for name in (track, vector, start, end) if name]
            for name in wanted:
                if name not in names:
                    raise DataError(f"{path}: lacks the column '{name}'; it has {', '.join(names)}")
                if (several := names.count(name)) > 1:
                    raise DataError(f"{path}: has {several} columns '{name}'; rename all but one")
            table = file.read(columns=wanted)
            keys = table.column(track).cast(pa.string()).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write it again") from error
    if None in keys:
        raise DataError(f"{path}: row {keys.index(None) + 1}: column '{track}' is empty; name the track")
    vectors = _vectors(path, vector, table.column(vector))
    if start is None:
        if end is not None:
            raise DataError(
                f"{path}: has no column 'start_seconds'; name the one where rows start as {key}.start"
            )
        return VectorTable(keys, vectors, None)
    starts = _seconds(path, start, table)
    ends = starts + _segment_seconds(path, metadata, key) if end is None else _seconds(path, end, table)
    return VectorTable(keys, vectors, _times(path, starts, ends))


def _read_npz(path: Path, key: str) -> VectorTable:
    arrays = read_arrays(path)
    keys, vectors, starts = (arrays.get(name) for name in ("paths", "embeddings", "start_seconds"))
    if keys is None or vectors is None or keys.dtype.kind != "U" or vectors.dtype.kind != "f":
        raise DataError(f"{path}: lacks the arrays 'paths' and 'embeddings'; write it with kerasrep-embed")
    if vectors.ndim != 2 or keys.shape != vectors.shape[:1] or not vectors.size:
        raise DataError(f"{path}: has {keys.shape} paths for embeddings {list(vectors.shape)}; embed again")
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: array 'embeddings' is not finite; embed again")
    times = None
    if starts is not None:
        if starts.dtype.kind != "f" or starts.shape != keys.shape or not np.isfinite(starts).all():
            raise DataError(f"{path}: array 'start_seconds' is not seconds of each path; embed again")
        metadata = {b"kerasrep": str(arrays.get("about", "")).encode()}
        starts = starts.astype(np.float64)
        times = _times(path, starts, starts + _segment_seconds(path, metadata, key))
    return VectorTable(keys.tolist(), vectors.astype(np.float32, copy=False), times)


def _vectors(path: Path, name: str, column: Any) -> NDArray[np.float32]:
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    numeric = lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    if not numeric or column.null_count or not len(column):
        raise DataError(
            f"{path}: column '{name}' has type {kind}; lists of numbers without gaps were expected"
        )
    array = column.combine_chunks()
    lengths = np.asarray(array.value_lengths().to_numpy(zero_copy_only=False))
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise DataError(
            f"{path}, row {odd[0] + 1}: column '{name}' has {lengths[odd[0]]} values, the first row "
            f"{lengths[0]}; vectors of one model are equally long"
        )
    if not lengths[0]:
        raise DataError(f"{path}: column '{name}' has no values in its vectors; embed again")
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False), np.float32)
    vectors = values.reshape(len(array), -1)
    odd = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(odd):
        raise DataError(f"{path}, row {odd[0] + 1}: column '{name}' is not finite; embed again")
    return vectors


def _times(path: Path, starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Start and end of each row, [2, rows]."""
    odd = np.flatnonzero((ends <= starts) | (starts < 0))
    if len(odd):
        row = int(odd[0])
        raise DataError(
            f"{path}, row {row + 1}: lasts from {starts[row]:g} to {ends[row]:g} s; correct its times"
        )
    return np.stack([starts, ends])


def _seconds(path: Path, name: str, table: Any) -> NDArray[np.float64]:
    try:
        values = np.asarray(table.column(name).to_numpy(), np.float64)
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise DataError(f"{path}: column '{name}' is not seconds throughout; write it again")
    return values


def _segment_seconds(path: Path, metadata: dict[bytes, bytes], key: str) -> float:
    """Length of a segment, as `kerasrep-embed` notes it."""
    try:
        return float(json.loads(metadata[b"kerasrep"])["segment_seconds"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: does not say how long its segments are; name the column as {key}.end"
        ) from None
