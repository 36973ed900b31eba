"""FMA: genres of the Free Music Archive, subset `medium`.

Layout: `fma_medium/000/000002.mp3` (track number with six digits, in a folder named by its first three)
beside `fma_metadata/tracks.csv`, whose columns have names of two rows (`set` over `split`) above a row
that only says `track_id`. `medium` holds the tracks whose `set, subset` is `small` or `medium`. The class
is `track, genre_top`.

Split: the data set's own (`set, split`), made so that no artist is on two sides; `artist, id` is the
group.

Citation: Defferrard, Benzi, Vandergheynst, Bresson: FMA: A Dataset for Music Analysis. ISMIR 2017.

Licence: metadata CC BY 4.0; each track under the licence that its artist chose.

Described at: https://github.com/mdeff/fma
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.evaluation.base import LabelledData, Task
from kerasrep.evaluation.readers.items import LabelledItems
from kerasrep.evaluation.readers.split_list import locator, read_split_list, required, split_list_of
from kerasrep.storage.tables import read_fields

DESCRIBED_AT = "https://github.com/mdeff/fma"
AUDIO = "fma_medium"
METADATA = ("fma_metadata/tracks.csv", "tracks.csv")
SUBSETS = frozenset({"small", "medium"})
COLUMNS = (("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id"))


def read(folder: Path, split_list: Path | None = None) -> LabelledData:
    """Read the tracks of `fma_medium`, in the order of their numbers.

    Args:
        folder: Holds `fma_medium` and `fma_metadata`.
        split_list: Read instead of `tracks.csv`.

    Raises:
        DataError: Where the list or the metadata is missing or malformed.
    """
    listed = split_list_of(folder, split_list)
    if listed is not None:
        return read_split_list(listed, folder, "classification", locate=locator(AUDIO), keep_groups=False)
    table = required(folder, DESCRIBED_AT, *METADATA)
    items = LabelledItems("classification", table, keep_groups=False)
    for place, number, (subset, split, genre, artist) in _tracks(table):
        if subset not in SUBSETS:
            continue
        name = f"{number:06d}"
        path = folder / AUDIO / name[:3] / f"{name}.mp3"
        items.add(place, name, path, genre, split, f"artist {artist}" if artist else "")
    return items.finish()


def _tracks(table: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Where each track stands, its number, and its fields in the order of `COLUMNS`."""
    rows = read_fields(table)
    upper, lower = (next(rows, ("", []))[1] for _ in range(2))
    names = list(zip(upper, lower, strict=False))
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DataError(
            f"{table}: the first two lines name no column {missing[0][0]!r} over {missing[0][1]!r}; "
            f"it is not the tracks.csv of {DESCRIBED_AT}"
        )
    positions = [names.index(name) for name in COLUMNS]
    for place, fields in rows:
        if fields[0] == "track_id":
            continue
        if len(fields) != len(names):
            raise DataError(f"{place}: has {len(fields)} fields, the first lines name {len(names)}")
        if not fields[0].isdecimal():
            raise DataError(f"{place}: track_id has {fields[0][:40]!r}, a number was expected")
        yield place, int(fields[0]), [fields[position].strip() for position in positions]


TASKS = (
    Task(
        name="fma",
        kind="classification",
        folder="fma",
        described_at=DESCRIBED_AT,
        read=read,
        split="the data set's own, artist-filtered",
        n_items=25_000,
        n_classes=16,
        citation="Defferrard, Benzi, Vandergheynst, Bresson: FMA: A Dataset for Music Analysis. ISMIR 2017.",
        licence="metadata CC BY 4.0; each track under the licence that its artist chose",
    ),
)
