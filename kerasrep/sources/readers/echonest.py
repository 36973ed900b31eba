"""Who played what how often: `train_triplets.txt`, the Echo Nest Taste Profile subset.

Form: UTF-8 text, plain or zipped, one line a user and song, `USER<TAB>SONG_ID<TAB>PLAYS`; the user is 40
hexadecimal digits. As published 48,373,586 lines, 1,019,318 users, 384,546 songs.

Plays are of songs, and a song may have several tracks: it is one document, which all its tracks share
(`metadata` says which they are). Some songs were matched to the wrong track; the publisher lists these in
`sid_mismatches.txt`, one line each, `ERROR: <SONG_ID TRACK_ID> what it is != what it should be`. Such pairs
are skipped, and so are the plays of songs that have no other track. Users are the terms; all are kept, as
in the paper (arXiv 1802.04051), those of few plays too.

Described at: http://millionsongdataset.com/tasteprofile/
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.sources.labels import CountLabels
from kerasrep.sources.readers.lines import read_blocks, read_lines
from kerasrep.sources.readers.reading import CountBuilder, Reading, Tally, decoded, shown, song_id, track_id

FILE = "train_triplets.txt"
MISMATCHES_FILE = "sid_mismatches.txt"
_MAX_USER_BYTES = 200
_MAX_PLAYS_DIGITS = 9
_MISMATCH = re.compile(rb"ERROR: <([^ >]*) ([^ >]*)>.*")


def read_mismatches(path: Path, progress: bool = False) -> frozenset[tuple[bytes, str]]:
    """Pairs of song and track that do not belong together.

    Raises:
        DataError: Where the file or a line is malformed; names the line.
    """
    pairs = set()
    for place, line in read_lines(path, MISMATCHES_FILE, progress):
        found = _MISMATCH.fullmatch(line)
        if found is None:
            raise DataError(f"{place}: ERROR: <SONG_ID TRACK_ID> ... was expected, not {shown(line)}")
        pairs.add((song_id(found[1], place), track_id(found[2], place)))
    return frozenset(pairs)


def read_plays(
    path: Path,
    songs: Mapping[bytes, str],
    mismatches: frozenset[tuple[bytes, str]] = frozenset(),
    progress: bool = False,
) -> Reading:
    """The plays of each song by each user; documents are songs, terms are users.

    Memory: 12 bytes a line and 180 a user while reading, and then as much again for the matrix.

    Args:
        path: The file, plain or zipped.
        songs: Song id -> its tracks, separated by blanks.
        mismatches: Pairs of song and track to be left out.
        progress: Show a bar.

    Raises:
        DataError: Where the file or a line is malformed; names the line.
    """
    tally, builder = Tally(path), CountBuilder()
    corrected = _corrected(songs, mismatches)
    documents: dict[bytes, int] = {}
    users: dict[bytes, int] = {}
    for first, lines in read_blocks(path, FILE, progress):
        for number, line in enumerate(lines, first):
            if not line:
                continue
            fields = line.split(b"\t")
            if (
                len(fields) != 3
                or not fields[2].isdigit()
                or len(fields[2]) > _MAX_PLAYS_DIGITS
                or not fields[0]
            ):
                raise _malformed(path, number, line)
            user, song, plays = fields
            document = documents.get(song)
            if document is None:
                if not corrected.get(song, songs.get(song, "")):
                    _skip(tally, path, number, song, song in songs)
                    continue
                document = documents[song] = len(documents)
            column = users.get(user)
            if column is None:
                if len(user) > _MAX_USER_BYTES:
                    raise _malformed(path, number, line)
                column = users[user] = len(users)
            builder.rows.append(document)
            builder.columns.append(column)
            builder.weights.append(float(plays))
    counts, n_repeated = builder.finish(len(documents), len(users))
    tally.skip("repeat a user and song (plays are added)", count=n_repeated)
    return tally.reading(_labels(path, counts, documents, users, corrected, songs))


def _corrected(songs: Mapping[bytes, str], mismatches: frozenset[tuple[bytes, str]]) -> dict[bytes, str]:
    """The remaining tracks of each song that has a wrong one; empty where none remains."""
    corrected: dict[bytes, str] = {}
    for song, track in mismatches:
        if song in songs:
            tracks = corrected.get(song, songs[song]).split(" ")
            corrected[song] = " ".join(other for other in tracks if other != track)
    return corrected


def _skip(tally: Tally, path: Path, number: int, song: bytes, is_known: bool) -> None:
    song_id(song, f"{path}, line {number}")
    reason = "play a song matched to a wrong track" if is_known else "play a song of no known track"
    tally.skip(reason, f"line {number}")


def _malformed(path: Path, number: int, line: bytes) -> DataError:
    return DataError(
        f"{path}, line {number}: USER<TAB>SONG_ID<TAB>PLAYS was expected, plays a whole number, "
        f"not {shown(line)}"
    )


def _labels(
    path: Path,
    counts: sparse.csr_matrix,
    documents: Mapping[bytes, int],
    users: Mapping[bytes, int],
    corrected: Mapping[bytes, str],
    songs: Mapping[bytes, str],
) -> CountLabels:
    track_ids: list[str] = []
    rows = array("q")
    taken: set[str] = set()
    for song, row in documents.items():
        for track in corrected.get(song, songs[song]).split(" "):
            if track not in taken:
                taken.add(track)
                track_ids.append(track)
                rows.append(row)
    terms = [decoded(user, f"{path}: user") for user in users]
    return CountLabels(counts, terms, track_ids, np.array(rows, np.int64))
