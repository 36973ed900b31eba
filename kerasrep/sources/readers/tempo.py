"""Estimated tempi: a list of tracks and beats a minute.

Form: UTF-8 text, one line a track, `TRACK_ID<TAB>BPM`, plain or zipped; `msd_tempo_est.txt` is the name
that the code of Kim et al. 2018 (arXiv 1802.04051) gives it. A tempo of 0 stands for unknown.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.sources.readers.lines import read_lines
from kerasrep.sources.readers.reading import Reading, Tally, decoded, shown, track_id, value_labels
from kerasrep.sources.readers.years import add_value
from kerasrep.storage.tables import parse_number

FILE = "msd_tempo_est.txt"


def read_tempi(path: Path, known: Container[str] | None = None, progress: bool = False) -> Reading:
    """The tempo of each track, beats a minute; see `reading` for arguments and errors."""
    values: dict[str, float] = {}
    tally = Tally(path)
    for place, line in read_lines(path, FILE, progress):
        fields = line.split(b"\t")
        if len(fields) != 2:
            raise DataError(f"{place}: TRACK_ID<TAB>BPM was expected, not {shown(line)}")
        bpm = parse_number(decoded(fields[1], place), place, "bpm", minimum=0)
        add_value(values, tally, place, track_id(fields[0], place), bpm, known)
    return tally.reading(value_labels(values))
