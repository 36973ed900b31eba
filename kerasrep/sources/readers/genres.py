"""Genres of a public library's catalogue: a list of tracks and genre names.

Form: UTF-8 text, one line a track and genre, `TRACK_ID<TAB>TAG` or `TRACK_ID<SEP>TAG`, plain or zipped;
`CDR_genre.txt` is the name that the code of Kim et al. 2018 (arXiv 1802.04051) gives it. A track may have
several lines.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.sources.readers import reading
from kerasrep.sources.readers.lines import read_lines

FILE = "CDR_genre.txt"


def read_genres(path: Path, known: Container[str] | None = None, progress: bool = False) -> reading.Reading:
    """The genres of each track, each of weight 1; see `reading` for arguments and errors."""
    tracks: dict[str, int] = {}
    terms: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    builder, tally = reading.CountBuilder(), reading.Tally(path)
    for place, line in read_lines(path, FILE, progress):
        fields = line.split(b"\t" if b"\t" in line else b"<SEP>", 1)
        if len(fields) != 2 or not fields[1].strip():
            raise DataError(f"{place}: TRACK_ID<TAB>TAG was expected, not {reading.shown(line)}")
        track, tag = reading.track_id(fields[0], place), reading.decoded(fields[1], place).strip()
        if known is not None and track not in known:
            tally.skip("name an unknown track", place)
            continue
        pair = tracks.setdefault(track, len(tracks)), terms.setdefault(tag, len(terms))
        if pair in pairs:
            tally.skip("repeat a track and genre", place)
            continue
        pairs.add(pair)
        builder.rows.append(pair[0])
        builder.columns.append(pair[1])
        builder.weights.append(1.0)
    counts, _ = builder.finish(len(tracks), len(terms))
    return tally.reading(reading.count_labels(counts, list(terms), list(tracks)))
