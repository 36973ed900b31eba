"""The tracks of a table of embeddings that are nearest to audio, by cosine of centred vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.audio import decode_blocks
from kerasrep.embedding.catalogue.layout import MEAN, NONE, WHOLE, Layout
from kerasrep.embedding.catalogue.reading import Table
from kerasrep.embedding.listening.nearest import NearestRows
from kerasrep.embedding.listening.space import Space, branch_spaces
from kerasrep.embedding.listening.tracks import Tracks, own_names
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.named import named_model
from kerasrep.embedding.stream import rows_of_files
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.runtime.native_messages import silenced

#: Neighbours of a segment that are asked for, for each track that shall be found: several are of one track.
_SEGMENTS_A_TRACK = 8
#: Of a query that shall be found at any level: 12 and 6 dB quieter, as it is, 6 and 12 dB louder.
_GAINS = tuple(10 ** (gain_db / 20) for gain_db in (0, -12, -6, 6, 12))


@dataclass(frozen=True)
class Neighbour:
    """A track near a query.

    Attributes:
        row: In the table.
        path: The track, as the table names it.
        similarity: Cosine of the centred vectors, from -1 to 1.
        percentile: Percent of the pairs of tracks of the table that are less similar (see
            `Space.percentile`); `None` where they are too few.
        start_seconds: Of its nearest segment; `None` where the table pools segments.
        branches: Of a network with several: branch -> percentile in its values alone.
    """

    row: int
    path: str
    similarity: float
    percentile: float | None
    start_seconds: float | None
    branches: dict[str, float] = field(default_factory=dict)

    @property
    def strongest_branch(self) -> str | None:
        """The branch in which this is the rarest similarity."""
        return max(self.branches, key=lambda name: self.branches[name], default=None)


@dataclass(frozen=True)
class Query:
    """What is asked for.

    Attributes:
        paths: The files: one, or several whose mean is asked for.
        vectors: float32 [forms, dimension]; the nearest form counts.
    """

    paths: tuple[Path, ...]
    vectors: NDArray[np.float32]


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
        RecipeError: Where the model is missing or another one, or the rows are of other layers.
    """
    about = table.about
    if about is not None and layers not in (None, about.layers):
        raise RecipeError(f"--layers {layers}: the index is of {about.layers}; leave it out, or embed again")
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
    pool, hop_seconds, branches = (
        (None, None, None) if about is None else (about.pool, about.hop_seconds, about.branches)
    )
    layers = layers or (None if about is None else about.layers)
    of_segments = pool == NONE or (pool is None and table.start_seconds is not None)
    found, layout = model.arranged(MEAN if of_segments else pool, hop_seconds, branches, layers)
    # Names of columns may be missing, so that the width tells.
    if pool is None and layout.dimension != table.embeddings.shape[1]:
        found, layout = model.arranged(MEAN, hop_seconds, branches, layers)
    if layout.dimension != table.embeddings.shape[1]:
        raise RecipeError(
            f"{name}: gives {layout.dimension} values, the index has {table.embeddings.shape[1]}; give the "
            "model that made it"
        )
    return found, layout


def query_of(
    tracks: Tracks,
    path: Path,
    open_it: Callable[[], tuple[SegmentModel, Layout]],
    span_seconds: tuple[float, float] | None = None,
    any_level: bool = False,
) -> Query:
    """A file as a query: by its vector in the table where it is in it, else the file is embedded.

    Args:
        tracks: Of the table.
        path: Audio file; or the name of a track of the table, see `Tracks.named`.
        open_it: Gives the model, see `open_model`; called where the file has to be embedded.
        span_seconds: From where to where of the file; by default all of it.
        any_level: Embed the file at other levels and with swapped channels, too.

    Raises:
        DataError: Where the file cannot be used, or its name is that of several tracks.
        RecipeError: Where the model cannot be.
    """
    path = tracks.named(path)
    track = None if span_seconds or any_level else tracks.find(path)
    if track is not None:
        return Query((path,), tracks.vectors[track][None])
    model, layout = open_it()
    decoder = "soundfile" if tracks.table.about is None else tracks.table.about.decoder
    if layout.pool == WHOLE:
        if span_seconds or any_level:
            raise RecipeError(
                "the index is of a baseline that takes whole files; leave out --at and --any-level"
            )
        with silenced():
            return Query((path,), np.stack(list(rows_of_files([path], model, layout, decoder))))
    vectors = []
    with silenced():
        for gain, step in itertools.product(_GAINS, (1, -1)) if any_level else [(1.0, 1)]:
            blocks = decode_blocks(path, model.sample_rate_hz, decoder)
            if span_seconds is not None:
                blocks = _between(path, blocks, model.sample_rate_hz, *span_seconds)
            changed = (np.float32(gain) * block[:, ::step] for block in blocks)
            vectors.append(layout.row(changed, model.embed_segments))
    return Query((path,), np.stack(vectors))


def _between(
    path: Path, blocks: Iterable[NDArray[np.float32]], rate_hz: int, start_seconds: float, stop_seconds: float
) -> Iterator[NDArray[np.float32]]:
    """The samples from one time to another."""
    start, stop, place = round(start_seconds * rate_hz), round(stop_seconds * rate_hz), 0
    for block in blocks:
        part = block[max(0, start - place) : max(0, stop - place)]
        place += len(block)
        if len(part):
            yield part
        if place >= stop:
            return
    if place <= start:
        raise DataError(f"{path}: ends before {start_seconds:g} s; give a part that it has")


def averaged(queries: Sequence[Query]) -> Query:
    """Several queries as one: the mean of their directions, with the mean length."""
    vectors = np.stack([query.vectors for query in queries])
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    paths = tuple(path for query in queries for path in query.paths)
    return Query(paths, ((vectors / lengths).mean(axis=0) * lengths.mean(axis=0)).astype(np.float32))


def search(
    tracks: Tracks,
    queries: Sequence[Query],
    n_neighbours: int = 10,
    group_of: Callable[[str], str | None] | None = None,
) -> list[tuple[Neighbour, ...]]:
    """Find the tracks whose embeddings point most nearly where a query's does.

    Args:
        tracks: Of the table. Where its rows are segments, a track is as near as its nearest segment.
        queries: See `query_of`; the files of a query are not its neighbours.
        n_neighbours: Tracks a query; fewer where the table has fewer.
        group_of: The group of a track, of which only the nearest track is taken; `None` groups alone.

    Returns:
        Of each query the nearest tracks, the nearest first.

    Raises:
        DataError: Where an embedding is zero.
    """
    space = Space(tracks)
    units = [space.unit(query.vectors) for query in queries]
    nearest = NearestRows(space.unit(tracks.table.embeddings), len(queries))
    own = [{name for path in query.paths for name in own_names(path)} for query in queries]
    wanted = n_neighbours + max(len(query.paths) for query in queries)
    wanted *= 1 if tracks.table.start_seconds is None else _SEGMENTS_A_TRACK
    while True:
        wanted = min(wanted, len(tracks.table.paths))
        chosen = [
            _distinct(tracks, names, _merged(*nearest.find(unit, wanted)), n_neighbours, group_of)
            for unit, names in zip(units, own, strict=True)
        ]
        if wanted == len(tracks.table.paths) or all(len(one) == n_neighbours for one in chosen):
            break
        wanted *= 4
    branches = branch_spaces(tracks)
    return [
        _described(tracks, space, branches, query.vectors, found)
        for query, found in zip(queries, chosen, strict=True)
    ]


def _merged(rows: NDArray[np.int64], similarities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows near any of several forms, the nearest first."""
    return rows.reshape(-1)[np.argsort(-similarities.reshape(-1), kind="stable")]


def _distinct(
    tracks: Tracks,
    own: set[str],
    rows: NDArray[np.int64],
    most: int,
    group_of: Callable[[str], str | None] | None,
) -> list[int]:
    """Each track once, at its nearest row, and each group; without the query, whatever the table calls it."""
    seen: set[int] = set()
    groups: set[str] = set()
    found: list[int] = []
    for row in rows.tolist():
        track, path = int(tracks.of_row[row]), tracks.table.paths[row]
        if track in seen or tracks.is_file(path, own):
            continue
        seen.add(track)
        group = None if group_of is None else group_of(path)
        if group is not None:
            if group in groups:
                continue
            groups.add(group)
        found.append(row)
        if len(found) == most:
            break
    return found


def _described(
    tracks: Tracks, space: Space, branches: Sequence[Space], vectors: NDArray[np.float32], rows: list[int]
) -> tuple[Neighbour, ...]:
    table, which = tracks.table, np.array(rows, np.int64)
    similarities = space.between(vectors, which)
    percentiles = space.percentile(similarities)
    enough = not np.isnan(percentiles).any()
    by_branch = {one.name: one.percentile(one.between(vectors, which)) for one in branches if enough}
    return tuple(
        Neighbour(
            row,
            table.paths[row],
            float(similarities[place]),
            float(percentiles[place]) if enough else None,
            None if table.start_seconds is None else float(table.start_seconds[row]),
            {name: float(values[place]) for name, values in by_branch.items()},
        )
        for place, row in enumerate(rows)
    )
