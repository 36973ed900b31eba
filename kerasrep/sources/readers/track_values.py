"""Years of release, and estimated tempi: a number a track, in lists of the Million Song Dataset.

`tracks_per_year.txt`: UTF-8 text, one line a track, `YEAR<SEP>TRACK_ID<SEP>ARTIST<SEP>TITLE`, as in
`1922<SEP>TRSGHLU128F421DF83<SEP>...`; 515,576 tracks of the years 1922 to 2011. A year of 0 is the data set's
word for unknown. Described at: http://millionsongdataset.com/pages/getting-dataset/

`msd_tempo_est.txt`, as the code of Kim et al. 2018 (arXiv 1802.04051) calls it: UTF-8 text, one line a track,
`TRACK_ID<TAB>BPM`. A tempo of 0 stands for unknown. Both are plain or zipped.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.sources.readers.lines import read_lines
from kerasrep.sources.readers.reading import Reading, Tally, decoded, shown, track_id, value_labels
from kerasrep.storage.tables import parse_number

YEARS_FILE = "tracks_per_year.txt"
_YEARS_SEPARATOR = b"<SEP>"
TEMPO_FILE = "msd_tempo_est.txt"


def read_years(path: Path, known: Container[str] | None = None, progress: bool = False) -> Reading:
    """The year of each track; see `reading` for arguments and errors."""
    values: dict[str, float] = {}
    tally = Tally(path)
    for place, line in read_lines(path, YEARS_FILE, progress):
        fields = line.split(_YEARS_SEPARATOR, 3)
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


def read_tempi(path: Path, known: Container[str] | None = None, progress: bool = False) -> Reading:
    """The tempo of each track, beats a minute; see `reading` for arguments and errors."""
    values: dict[str, float] = {}
    tally = Tally(path)
    for place, line in read_lines(path, TEMPO_FILE, progress):
        fields = line.split(b"\t")
        if len(fields) != 2:
            raise DataError(f"{place}: TRACK_ID<TAB>BPM was expected, not {shown(line)}")
        bpm = parse_number(decoded(fields[1], place), place, "bpm", minimum=0)
        add_value(values, tally, place, track_id(fields[0], place), bpm, known)
    return tally.reading(value_labels(values))
