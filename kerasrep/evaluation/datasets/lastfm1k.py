"""Last.fm 1K: everything that nearly a thousand users listened to until May 2009.

Layout: `userid-timestamp-artid-artname-traid-traname.tsv` (also in `lastfm-dataset-1K/`): 19,150,868 lines
of user, time, artist's MusicBrainz id, artist, track's MusicBrainz id, track, tab-separated without
quotes. Audio is not part of it: either `audio/` holds files that are named by the track's MusicBrainz id,
at any depth, or `items.tsv` says where they are (columns `item`, `path` and, for versions of one piece,
`group`). Where `plays.tsv` is there (`user`, `item`, `plays`), it is read instead of the large file.

Split: 5% of the items held out. The authors of the paper kept users and tracks with at least five plays:
list their items in `items.tsv` to get the same.

Citation: Celma: Music Recommendation and Discovery. Springer 2010.

Licence: distributed with permission of Last.fm, for non-commercial use.

Described at: http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html
"""

from __future__ import annotations

from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.evaluation.base import PlayData, Task
from kerasrep.evaluation.readers.play_list import ItemTable, PlayCounter, read_play_list
from kerasrep.evaluation.readers.split_list import AUDIO_ENDINGS, first_there, required
from kerasrep.storage.tables import read_unquoted

DESCRIBED_AT = "http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html"
EVENTS_NAME = "userid-timestamp-artid-artname-traid-traname.tsv"
EVENTS = (EVENTS_NAME, f"lastfm-dataset-1K/{EVENTS_NAME}")
ITEMS = "items.tsv"
PLAYS = "plays.tsv"
AUDIO = "audio"
N_FIELDS, USER, TRACK = 6, 0, 4
#: Of the lines; a file with more malformed ones is another file.
MOST_MALFORMED = 0.01


def read(folder: Path) -> PlayData:
    """Read how often each user played each track that has audio.

    Args:
        folder: Holds the events and `items.tsv` or `audio`.

    Raises:
        DataError: Where a file is missing or malformed, or no track with audio was played.
    """
    items = first_there(folder, ITEMS)
    if items is not None and (folder / PLAYS).exists():
        return read_play_list(folder / PLAYS, items)
    events = required(folder, DESCRIBED_AT, *EVENTS)
    if items is not None:
        return _count(events, ItemTable.read(items))
    return _count(events, _items_of(required(folder, DESCRIBED_AT, ITEMS, AUDIO)))


def _items_of(audio: Path) -> ItemTable:
    """Tracks that have a file, by name."""
    paths: dict[str, Path] = {}
    for path in sorted(audio.rglob("*")):
        if path.suffix.lower() not in AUDIO_ENDINGS or path.name.startswith("."):
            continue
        if path.stem in paths:
            raise DataError(f"{path}: track {path.stem!r} is there already ({paths[path.stem]}); keep one")
        paths[path.stem] = path
    return ItemTable(paths)


def _count(events: Path, items: ItemTable) -> PlayData:
    """Add up the events line by line."""
    counter = PlayCounter(items)
    number = n_malformed = n_unnamed = first_malformed = 0
    for number, fields in read_unquoted(events):
        if len(fields) != N_FIELDS or not fields[USER]:
            n_malformed += 1
            first_malformed = first_malformed or number
        elif not fields[TRACK]:
            n_unnamed += 1
        else:
            counter.add(fields[USER].decode(errors="replace"), fields[TRACK].decode(errors="replace"))
    if n_malformed > MOST_MALFORMED * number:
        raise DataError(
            f"{events}, line {first_malformed}: {n_malformed} of {number} lines have not {N_FIELDS} fields "
            f"separated by tabs; the file is described at {DESCRIBED_AT}"
        )
    notices = []
    if n_malformed:
        notices.append(f"{events}: {n_malformed} malformed lines are left out, line {first_malformed} first")
    if n_unnamed:
        notices.append(f"{events}: {n_unnamed} plays of tracks without a MusicBrainz id are left out")
    return counter.finish(events, notices=tuple(notices))


TASKS = (
    Task(
        name="lastfm1k",
        kind="recommendation",
        folder="lastfm1k",
        described_at=DESCRIBED_AT,
        read=read,
        split="5% of the items held out",
        n_items=27_093,
        n_users=985,
        citation="Celma: Music Recommendation and Discovery. Springer 2010.",
        licence="distributed with permission of Last.fm, for non-commercial use",
    ),
)
