"""This Is My Jam: users who posted a song as their jam of the week, or liked that of somebody else.

Layout: `jams.tsv` and `likes.tsv` of the archive (also in `archive/`), tab-separated without quotes below
a line that names the columns, `user_id` and `jam_id` among them; `jam_to_msd.tsv` of the Million Song
Dataset (jam, track); and, as the archive has no audio, a table of your own: `items.tsv` with the columns
`item` (track of the Million Song Dataset, such as TRVQHZG128F4259B2D), `path` and, for versions of one
piece, `group`. Where `plays.tsv` is there (`user`, `item`, `plays`), it is read instead of the archive's
files.

Split: 5% of the items held out. A jam counts as one play by who posted it, a like as one by who liked it.
The authors of the paper kept users and tracks with at least five plays: list their items in `items.tsv` to
get the same.

Citation: Jansson, Raffel, Weyde: This is my jam - data dump. ISMIR 2015 late-breaking session.

Licence: none is stated with the archive; see its page.

Described at: https://archive.org/details/thisismyjam-datadump
"""

from __future__ import annotations

from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.evaluation.base import PlayData, Task
from kerasrep.evaluation.readers.play_list import ItemTable, PlayCounter, read_play_list
from kerasrep.evaluation.readers.split_list import required
from kerasrep.storage.tables import read_unquoted

DESCRIBED_AT = "https://archive.org/details/thisismyjam-datadump"
MAPPING_AT = "http://millionsongdataset.com/thisismyjam/"
ITEMS = "items.tsv"
PLAYS = "plays.tsv"
MAPPING = ("jam_to_msd.tsv", "archive/jam_to_msd.tsv")
#: Tables of user and jam; each of their rows is one play.
TABLES = (("archive/jams.tsv", "jams.tsv"), ("archive/likes.tsv", "likes.tsv"))
COLUMNS = (b"user_id", b"jam_id")


def read(folder: Path) -> PlayData:
    """Read who played which track.

    Args:
        folder: Holds the archive's files and `items.tsv`.

    Raises:
        DataError: Where a file is missing or malformed, or no track with audio was played.
    """
    items = required(folder, DESCRIBED_AT, ITEMS)
    if (folder / PLAYS).exists():
        return read_play_list(folder / PLAYS, items)
    tables = [required(folder, DESCRIBED_AT, *names) for names in TABLES]
    known = ItemTable.read(items)
    tracks = _tracks(required(folder, MAPPING_AT, *MAPPING), known)
    counter = PlayCounter(known)
    notices = [notice for table in tables for notice in _count(table, tracks, counter)]
    return counter.finish(folder, notices=tuple(notices))


def _tracks(mapping: Path, items: ItemTable) -> dict[bytes, str]:
    """Jam -> track, for tracks that have audio."""
    tracks = {}
    for number, fields in read_unquoted(mapping):
        if len(fields) != 2:
            raise DataError(f"{mapping}, line {number}: has {len(fields)} fields; expected jam and track")
        track = fields[1].decode(errors="replace").strip()
        if track in items.rows:
            tracks[fields[0].strip()] = track
    if not tracks:
        raise DataError(f"{mapping}: maps no jam to a track of {ITEMS}; its column 'item' takes track ids")
    return tracks


def _count(table: Path, tracks: dict[bytes, str], counter: PlayCounter) -> list[str]:
    """Count the plays of one table; notices about what was left out (some titles hold tabs)."""
    rows = read_unquoted(table)
    _, header = next(rows, (1, []))
    missing = [name.decode() for name in COLUMNS if name not in header]
    if missing:
        raise DataError(f"{table}, line 1: lacks the column '{missing[0]}'; see {DESCRIBED_AT}")
    user, jam = (header.index(name) for name in COLUMNS)
    n_malformed = n_without_audio = 0
    for _, fields in rows:
        track = tracks.get(fields[jam]) if len(fields) == len(header) else None
        if track is not None:
            counter.add(fields[user].decode(errors="replace"), track)
        elif len(fields) == len(header):
            n_without_audio += 1
        else:
            n_malformed += 1
    found = ((n_malformed, "malformed lines"), (n_without_audio, "plays of tracks without audio"))
    return [f"{table}: {number} {what} are left out" for number, what in found if number]


TASKS = (
    Task(
        name="jam",
        kind="recommendation",
        folder="jam",
        described_at=DESCRIBED_AT,
        read=read,
        split="5% of the items held out",
        n_items=23_547,
        n_users=11_787,
        citation="Jansson, Raffel, Weyde: This is my jam - data dump. ISMIR 2015 late-breaking session.",
        licence="none is stated with the archive",
    ),
)
