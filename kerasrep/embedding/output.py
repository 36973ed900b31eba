"""Embeddings of many files in one file: NPZ or Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".npz", ".parquet")


def write_embeddings(
    path: Path, files: Sequence[Path], embeddings: NDArray[np.float32], columns: Sequence[str]
) -> None:
    """Write embeddings in the form that the suffix of `path` names.

    NPZ: arrays `paths` (str), `embeddings` (float32 [files, dimension]) and `columns` (str). Parquet: a
    column `path` (string) and a column `embedding` (list of `dimension` floats, fixed size); the names of
    the dimensions are JSON under `columns` in the schema's metadata. One list column, because thousands of
    columns make slow tables: `np.stack(frame["embedding"])` is the matrix in pandas,
    `frame["embedding"].to_numpy()` in polars.

    Args:
        path: Written in place: give a temporary name where a half-written file would harm.
        files: The rows; bytes of a name that are not UTF-8 are escaped.
        embeddings: [files, dimension].
        columns: Name of each dimension.
    """
    names = [os.fsencode(file).decode("utf-8", "backslashreplace") for file in files]
    if path.suffix == ".npz":
        np.savez(path, paths=np.array(names), embeddings=embeddings, columns=np.array(columns))
        return
    import pyarrow
    from pyarrow import parquet

    values = pyarrow.array(embeddings.reshape(-1))
    table = pyarrow.table(
        {
            "path": pyarrow.array(names, pyarrow.string()),
            "embedding": pyarrow.FixedSizeListArray.from_arrays(values, embeddings.shape[1]),
        },
        metadata={"columns": json.dumps(list(columns))},
    )
    parquet.write_table(table, path)
