"""What a search found, for programs and notebooks."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrep.data.audio import decode_blocks
from kerasrep.embedding.catalogue.layout import Layout
from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.listening import output
from kerasrep.embedding.listening.tracks import Names, Tracks
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.search import Neighbour, Query, averaged, open_model, query_of, search
from kerasrep.errors import KerasrepError, RecipeError
from kerasrep.report.page import render

#: Of each track in a notebook.
EXCERPT_SECONDS, EXCERPT_RATE_HZ = 6.0, 22_050


@dataclass(frozen=True, repr=False)
class Found:
    """What is near some queries. In a notebook it shows itself as a table with players.

    Attributes:
        names: Of the tracks of the table.
        queries: What was asked.
        neighbours: Of each query the nearest tracks, the nearest first.
    """

    names: Names
    queries: tuple[Query, ...]
    neighbours: tuple[tuple[Neighbour, ...], ...]

    def __str__(self) -> str:
        return "\n".join(output.as_text(self.names, self.queries, self.neighbours))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render(
            "neighbours.html",
            queries=[self._shown(*each) for each in zip(self.queries, self.neighbours, strict=True)],
        )

    def _shown(self, query: Query, found: Sequence[Neighbour]) -> dict[str, object]:
        tracks = self.names.tracks
        rows = []
        for rank, one in enumerate(found, 1):
            start = tracks.typical_seconds[tracks.number[one.path]]
            start = float(start) if one.start_seconds is None else one.start_seconds
            name = self.names.label(one.path) or Path(one.path).name
            share = "" if one.percentile is None else f"{one.percentile:.1f}"
            numbers = {"similarity": f"{one.similarity:.4f}", "percentile": share}
            audio = _excerpt(tracks.place(one.path), start)
            rows.append(
                {"rank": rank, "name": name, "path": tracks.shown(one.path), "audio": audio, **numbers}
            )
        return {"name": " + ".join(map(str, query.paths)), "rows": rows}


@functools.lru_cache(256)
def _excerpt(path: Path, start_seconds: float) -> str:
    """A few seconds of a file as the address of an Ogg file in itself; empty where it cannot be read."""
    import soundfile

    first = round(start_seconds * EXCERPT_RATE_HZ)
    wanted = first + round(EXCERPT_SECONDS * EXCERPT_RATE_HZ)
    blocks, n_samples = [], 0
    try:
        for block in decode_blocks(path, EXCERPT_RATE_HZ):
            blocks.append(block[max(0, first - n_samples) : max(0, wanted - n_samples)])
            n_samples += len(block)
            if n_samples >= wanted:
                break
        file = io.BytesIO()
        soundfile.write(file, np.concatenate(blocks), EXCERPT_RATE_HZ, format="OGG")
    except (KerasrepError, OSError, ValueError, soundfile.SoundFileError):
        return ""
    return f"data:audio/ogg;base64,{base64.b64encode(file.getvalue()).decode()}"


def neighbours(
    table: str | Path | Table,
    audio: str | Path | Sequence[str | Path],
    n: int = 10,
    model: str | Path | None = None,
    distinct: str | None = None,
    average: bool = False,
    span_seconds: tuple[float, float] | None = None,
    any_level: bool = False,
) -> Found:
    """The tracks of a table of embeddings that are nearest to audio files.

    Args:
        table: What `kerasrep-embed` wrote.
        audio: A file, or several; in the table or not.
        n: Tracks for each file.
        model: That made the table; by default where the table says.
        distinct: Take at most one track of each `artist`, `album`, `genre`, `year` (tags in the files),
            `folder`, or group of `COLUMN:TABLE.csv`.
        average: Take all files as one query.
        span_seconds: From where to where of the files; by default all of them.
        any_level: Find the files at other levels and with swapped channels, too.

    Raises:
        DataError: Where table or audio cannot be used.
        RecipeError: Where the model is missing or another one, or what was asked for cannot be.
    """
    if not isinstance(n, int) or n < 1:
        raise RecipeError(f"n={n}: give a whole number above 0")
    if span_seconds is not None and not 0 <= span_seconds[0] < span_seconds[1]:
        raise RecipeError(f"span_seconds={span_seconds}: give two times in seconds, the earlier one first")
    tracks = Tracks(table if isinstance(table, Table) else read_embeddings(table))
    names = Names(tracks)
    paths = [Path(path) for path in ([audio] if isinstance(audio, str | Path) else audio)]
    if not paths:
        raise RecipeError("audio: is empty; name a file")

    @functools.cache
    def open_it() -> tuple[SegmentModel, Layout]:
        return open_model(tracks.table, None if model is None else Path(model))

    if model is not None:
        open_it()  # it may be another one than the table was made with
    queries = [query_of(tracks, path, open_it, span_seconds, any_level) for path in paths]
    if average:
        queries = [averaged(queries)]
    group_of: Callable[[str], str | None] | None = None if distinct is None else names.grouping(distinct)
    return Found(names, tuple(queries), tuple(search(tracks, queries, n, group_of)))
