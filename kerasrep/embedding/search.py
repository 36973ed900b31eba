"""The nearest tracks of a table of embeddings, by cosine."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.native_messages import silenced
from kerasrep.embedding.catalogue.layout import MEAN, NONE, Layout, make_layout
from kerasrep.embedding.catalogue.reading import Table
from kerasrep.embedding.catalogue.rows import rows_of_files
from kerasrep.embedding.catalogue.writing import path_text
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.named import named_model
from kerasrep.errors import DataError, ExportError, RecipeError

#: Neighbours of a segment that are asked for, for each track that shall be found: several are of one track.
_SEGMENTS_A_TRACK = 8


@dataclass(frozen=True)
class Neighbour:
    """A track near a query.

    Attributes:
        row: In the table.
        path: The track.
        similarity: Cosine, at most 1.
        start_seconds: Of its nearest segment; `None` where the table pools segments.
    """

    row: int
    path: str
    similarity: float
    start_seconds: float | None


@dataclass(frozen=True)
class Query:
    """What was asked, and what is near it.

    Attributes:
        path: The file.
        vector: float32 [dimension].
        neighbours: The nearest first; without the file itself where the table has it.
    """

    path: Path
    vector: NDArray[np.float32]
    neighbours: tuple[Neighbour, ...]


def open_model(
    table: Table, model_name: str | Path | None, layers: str | None = None
) -> tuple[SegmentModel, Layout]:
    """Load the model that made a table.

    Args:
        table: See `read_embeddings`.
        model_name: Where it is, or which baseline; by default what the table says.
        layers: That the rows were made of; by default what the table says, or the model's own.

    Returns:
        The model, and how a query becomes a row: as the rows of the table, or their mean where these are
        segments.

    Raises:
        RecipeError: Where the model is missing or another one.
    """
    about = table.about
    if about is None and model_name is None:
        raise RecipeError("the index does not say what made it; name the model with --model")
    name = about.model if about is not None and model_name is None else str(model_name)
    try:
        named = named_model(name)
    except ExportError as error:
        where = "the index was made with a model that is gone: " if model_name is None else "--model "
        hint = "; give --model" if model_name is None else ""
        raise RecipeError(f"{where}{error}{hint}") from error
    if about is not None and named.fingerprint != about.model_fingerprint:
        raise RecipeError(
            f"{name}: is not the model that made the index (fingerprint {named.fingerprint}, the index has "
            f"{about.model_fingerprint}); give that one, or embed the index again"
        )
    model = named.load()
    settings = (None, None, None) if about is None else (about.pool, about.hop_seconds, about.branches)
    pool, hop_seconds, branches = settings
    make = functools.partial(
        make_layout,
        model.branches,
        model.sample_rate_hz,
        model.segment_samples,
        hop_seconds=hop_seconds,
        sources=branches,
        layers=layers or (model.default_layers if about is None else about.layers),
        pooled=model.layers,
        baseline_width=model.baseline_width,
    )
    of_segments = pool == NONE or (pool is None and table.start_seconds is not None)
    layout = make(pool=MEAN if of_segments else pool)
    # Names of columns may be missing, so that the width tells.
    if pool is None and layout.dimension != table.embeddings.shape[1]:
        layout = make(pool=MEAN)
    if layout.dimension != table.embeddings.shape[1]:
        raise RecipeError(
            f"{name}: gives {layout.dimension} values, the index has {table.embeddings.shape[1]}; give the "
            "model that made it"
        )
    return model.only(layout.pieces), layout


def search(
    table: Table, paths: Sequence[Path], model: SegmentModel, layout: Layout, n_neighbours: int = 10
) -> list[Query]:
    """Find the tracks whose embeddings point most nearly where a query's does.

    Args:
        table: The index. Where its rows are segments, a track is as near as its nearest segment.
        paths: Queries.
        model: See `open_model`.
        layout: See `open_model`.
        n_neighbours: Tracks a query; fewer where the table has fewer.

    Raises:
        DataError: Where a query cannot be used.
    """
    from sklearn.neighbors import NearestNeighbors

    decoder = "soundfile" if table.about is None else table.about.decoder
    with silenced():
        vectors = np.stack(list(rows_of_files(paths, model, layout, decoder)))
    if not np.linalg.norm(table.embeddings, axis=1).all() or not np.linalg.norm(vectors, axis=1).all():
        raise DataError("an embedding is zero and points nowhere; embed the index with another model")
    neighbours = NearestNeighbors(metric="cosine", algorithm="brute").fit(table.embeddings)
    n_rows = len(table.paths)
    # One more, as the query itself may be in the table.
    wanted = n_neighbours + 1 if table.start_seconds is None else _SEGMENTS_A_TRACK * (n_neighbours + 1)
    while True:
        wanted = min(wanted, n_rows)
        distances, rows = neighbours.kneighbors(vectors, n_neighbors=wanted)
        found = [
            _distinct(table, path, row, distance, n_neighbours)
            for path, row, distance in zip(paths, rows, distances, strict=True)
        ]
        if wanted == n_rows or all(len(one) == n_neighbours for one in found):
            return [Query(*each) for each in zip(paths, vectors, found, strict=True)]
        wanted *= 4


def _distinct(
    table: Table, query: Path, rows: NDArray[np.intp], distances: NDArray[np.float64], most: int
) -> tuple[Neighbour, ...]:
    """Each track once, at its nearest row; without the query, under whatever name the table has it."""
    # Tables hold paths as text, in which bytes that are not UTF-8 are escaped.
    own = {path_text(query), path_text(Path(os.path.realpath(query)))}
    seen: set[str] = set()
    found: list[Neighbour] = []
    for row, distance in zip(rows.tolist(), distances.tolist(), strict=True):
        path = table.paths[row]
        if path in seen or path in own or _real(path) in own:
            continue
        seen.add(path)
        start = None if table.start_seconds is None else float(table.start_seconds[row])
        found.append(Neighbour(row, path, 1.0 - distance, start))
        if len(found) == most:
            break
    return tuple(found)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL in it
        return path
