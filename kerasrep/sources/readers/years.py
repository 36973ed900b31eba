"""Years of release: `tracks_per_year.txt` of the Million Song Dataset.

Form: UTF-8 text, one line a track, `YEAR<SEP>TRACK_ID<SEP>ARTIST<SEP>TITLE`, as in
`1922<SEP>TRSGHLU128F421DF83<SEP>...`; 515,576 tracks of the years 1922 to 2011. A year of 0 is the
data set's word for unknown.

Described at: http://millionsongdataset.com/pages/getting-dataset/
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.sources.readers.lines import read_lines
from kerasrep.sources.readers.reading import Reading, Tally, shown, track_id, value_labels

FILE = "tracks_per_year.txt"
_SEPARATOR = b"<SEP>"


def read_years(path: Path, known: Container[str] | None = None, progress: bool = False) -> Reading:
    """The year of each track; see `reading` for arguments and errors."""
    values: dict[str, float] = {}
    tally = Tally(path)
    for place, line in read_lines(path, FILE, progress):
        fields = line.split(_SEPARATOR, 3)
        if len(fields) != 4:
            raise DataError(
                f"{place}: YEAR<SEP>TRACK_ID<SEP>ARTIST<SEP>TITLE was expected, not {shown(line)}"
            )
        if not (fields[0].isdigit() and len(fields[0]) <= 4):
            raise DataError(f"{place}: {shown(fields[0])} is not a year")
        track, year = track_id(fields[1], place), float(fields[0])
        add_value(values, tally, place, track, year, known)
    return tally.reading(value_labels(values))


def add_value(
    values: dict[str, float], tally: Tally, place: str, track: str, value: float, known: Container[str] | None
) -> None:
    """Keep the value of a track, or count why not; 0 stands for unknown in the data set's lists."""
    if known is not None and track not in known:
        tally.skip("name an unknown track", place)
    elif value == 0:
        tally.skip("have the value 0, which stands for unknown", place)
    elif track in values:
        tally.skip("repeat a track (the first counts)", place)
    else:
        values[track] = value
