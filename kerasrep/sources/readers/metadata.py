"""Which track is of which song and artist: `track_metadata.db` and `unique_tracks.txt`.

Form of `track_metadata.db`: SQLite, one table `songs(track_id, title, song_id, release, artist_id,
artist_mbid, artist_name, duration, artist_familiarity, artist_hotttnesss, year, ...)`, one row a track, a
million rows. `artist_id` is The Echo Nest's, as in ARMJAGH1187FB546F3.

Form of `unique_tracks.txt`: UTF-8 text, one line a track, `TRACK_ID<SEP>SONG_ID<SEP>ARTIST<SEP>TITLE`, a
million lines. A song may have several tracks.

Described at: http://millionsongdataset.com/pages/getting-dataset/
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.sources.readers.lines import read_lines
from kerasrep.sources.readers.reading import Tally, decoded, shown, song_id, track_id
from kerasrep.sources.readers.sqlite import opened_database

DATABASE = "track_metadata.db"
TEXT_FILE = "unique_tracks.txt"
_COLUMNS = ("track_id", "song_id", "artist_id", "artist_name", "title")


@dataclass
class TrackTable:
    """Tracks of the data set.

    Attributes:
        tally: What was skipped.
        artists: Track -> artist: its id, or its name where the file gives no ids.
        songs: Song id -> its tracks, separated by blanks (a million short lists would take a gigabyte).
        described: Track -> (title, name of the artist), of those asked for.
    """

    tally: Tally
    artists: dict[str, str] = field(default_factory=dict)
    songs: dict[bytes, str] = field(default_factory=dict)
    described: dict[str, tuple[str, str]] = field(default_factory=dict)


def read_track_metadata(path: Path, describe: Container[str] = (), progress: bool = False) -> TrackTable:
    """Read the database.

    Args:
        path: `track_metadata.db`.
        describe: Tracks whose title and artist's name are wanted.
        progress: Show a count of rows.

    Raises:
        DataError: Where the database is damaged or has another schema, or a value is none of its column.
    """
    table = TrackTable(Tally(path, "rows"))
    ids: dict[bytes, str] = {}
    with opened_database(path, {"songs": _COLUMNS}) as database:
        for first, columns in database.blocks("songs", _COLUMNS, progress):
            for name, values in zip(_COLUMNS[:3], columns[:3], strict=True):
                database.check_types("songs", first, name, values, bytes)
            for number, (text, song, artist, name, title) in enumerate(zip(*columns, strict=True), first):
                place = database.place("songs", number)
                track = track_id(text, place)
                if artist not in ids:
                    ids[artist] = decoded(artist, place)
                if _add(table, place, track, song_id(song, place), ids[artist]) and track in describe:
                    table.described[track] = (_text(title, place), _text(name, place))
    return _checked(table)


def read_unique_tracks(path: Path, describe: Container[str] = (), progress: bool = False) -> TrackTable:
    """Read the text file, plain or zipped; artists are told apart by name.

    Args:
        path: `unique_tracks.txt`.
        describe: Tracks whose title and artist's name are wanted.
        progress: Show a bar.

    Raises:
        DataError: Where the file or a line is malformed; names the line.
    """
    table = TrackTable(Tally(path))
    names: dict[bytes, str] = {}
    for place, line in read_lines(path, TEXT_FILE, progress):
        fields = line.split(b"<SEP>", 3)
        if len(fields) != 4:
            raise DataError(
                f"{place}: TRACK_ID<SEP>SONG_ID<SEP>ARTIST<SEP>TITLE was expected, not {shown(line)}"
            )
        track, song = track_id(fields[0], place), song_id(fields[1], place)
        if fields[2] not in names:
            names[fields[2]] = decoded(fields[2], place)
        title = decoded(fields[3], place)
        if _add(table, place, track, song, names[fields[2]]) and track in describe:
            table.described[track] = (title, names[fields[2]])
    return _checked(table)


def _add(table: TrackTable, place: str, track: str, song: bytes, artist: str) -> bool:
    """Take a track, unless it is there already."""
    if track in table.artists:
        table.tally.skip("repeat a track (the first counts)", place)
        return False
    table.artists[track] = artist
    others = table.songs.get(song)
    table.songs[song] = track if others is None else f"{others} {track}"
    return True


def _checked(table: TrackTable) -> TrackTable:
    if not table.artists:
        raise DataError(f"{table.tally.path}: holds no track; is it the right file?")
    return table


def _text(value: object, place: str) -> str:
    """A title or name, which may be missing."""
    return decoded(value, place) if isinstance(value, bytes) else ""
