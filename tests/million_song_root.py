"""A small Million Song root in the public forms, with planted groups; a script, and what the tests use.

    python tests/million_song_root.py FOLDER [TRACKS [TRACKS_WITH_AUDIO]]

Every count source has a partition of the tracks of its own (`tag` and `artist` one of the artists), so that
what one source shows cannot come from another. A track draws its terms from those of its group, commonest
first as by Zipf's law; one draw in five is from all groups. Tracks differ much in how many terms they have.
"""

from __future__ import annotations

import sqlite3
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

N_GROUPS = 6
NOISE = 0.2
RATE_HZ = 22_050
TERMS = {"tag": 300, "lyrics": 400, "taste": 600, "cdr_tag": 120}  # of all groups together
MEAN_DRAWS = {"tag": 30, "lyrics": 40, "taste": 40, "cdr_tag": 24}


@dataclass(frozen=True)
class PlantedRoot:
    """What was written.

    Attributes:
        root: The folder.
        track_ids: All tracks; those with audio come first.
        artists: int [tracks].
        groups: Count source -> int [tracks], the planted group of each track.
        draws: Count source -> of each track, term -> count.
        years: int [tracks].
        bpm: float [tracks].
        with_audio: How many tracks have audio.
    """

    root: Path
    track_ids: Sequence[str]
    artists: np.ndarray
    groups: dict[str, np.ndarray]
    draws: dict[str, list[Counter]]
    years: np.ndarray
    bpm: np.ndarray
    with_audio: int
    n_groups: int = N_GROUPS

    @staticmethod
    def song_of(track: str) -> str:
        """The song of a track; here each song has one."""
        return song_of(track)


def term_name(source: str, term: int) -> str:
    return f"{term:040x}" if source == "taste" else f"{source} {term}".replace("lyrics ", "w")


def song_of(track: str) -> str:
    return "SO" + track[2:]


def write_root(
    root: Path, n_tracks: int = 5000, with_audio: int = 0, seed: int = 0, planted: bool = True
) -> PlantedRoot:
    """Write audio and all label files; without `planted` all draws are from all groups."""
    rng = np.random.default_rng(seed)
    letters = rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), (n_tracks, 5))
    track_ids = [f"TR{''.join(row)}128F{number:07X}" for number, row in enumerate(letters)]
    artists = np.sort(rng.integers(0, max(2, n_tracks // 5), n_tracks))
    rng.shuffle(artists)
    by_artist = rng.integers(0, N_GROUPS, artists.max() + 1)[artists]
    groups = {source: rng.integers(0, N_GROUPS, n_tracks) for source in TERMS}
    groups["tag"] = groups["artist"] = by_artist
    draws = {source: _draws(rng, source, groups[source], 1.0 if not planted else NOISE) for source in TERMS}
    planted_root = PlantedRoot(
        root,
        track_ids,
        artists,
        groups,
        draws,
        rng.choice(np.arange(1960, 2011, 10), n_tracks) + rng.integers(0, 3, n_tracks),
        np.round(rng.choice([70.0, 95, 120, 150, 175], n_tracks) + rng.normal(0, 2, n_tracks), 3),
        with_audio,
    )
    root.mkdir(parents=True, exist_ok=True)
    write_tables(planted_root)
    write_tags(planted_root)
    write_lyrics(planted_root)
    write_plays(planted_root)
    write_lists(planted_root)
    write_audio(planted_root, rng)
    return planted_root


def _draws(rng: np.random.Generator, source: str, groups: np.ndarray, noise: float) -> list[Counter]:
    """Of each track, how often each term was drawn."""
    n_terms = TERMS[source]
    size = n_terms // N_GROUPS
    popularity = 1 / np.arange(1, size + 1)
    popularity /= popularity.sum()
    # The most active of the tracks has about thirty times the terms of the least.
    lengths = np.maximum(8, rng.lognormal(np.log(MEAN_DRAWS[source]), 0.5, len(groups))).astype(int)
    owners = np.repeat(np.arange(len(groups)), lengths)
    group = np.where(rng.random(len(owners)) < noise, rng.integers(0, N_GROUPS, len(owners)), groups[owners])
    terms = group * size + rng.choice(size, len(owners), p=popularity)
    drawn: list[Counter] = [Counter() for _ in groups]
    for owner, term in zip(owners.tolist(), terms.tolist(), strict=True):
        drawn[owner][term] += 1
    return drawn


def write_tables(planted: PlantedRoot) -> None:
    """`track_metadata.db` and `unique_tracks.txt`."""
    rows = [
        (track, f"Title {n}", song_of(track), "Release", f"AR{artist:04X}", "", f"Artist {artist}", 30.0)
        for n, (track, artist) in enumerate(zip(planted.track_ids, planted.artists.tolist(), strict=True))
    ]
    with sqlite3.connect(planted.root / "track_metadata.db") as database:
        database.execute(
            "CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text, "
            "artist_id text, artist_mbid text, artist_name text, duration real)"
        )
        database.executemany(f"INSERT INTO songs VALUES ({','.join('?' * 8)})", rows)
    database.close()
    lines = (f"{row[0]}<SEP>{row[2]}<SEP>{row[6]}<SEP>{row[1]}\n" for row in rows)
    (planted.root / "unique_tracks.txt").write_text("".join(lines), encoding="utf-8")


def write_tags(planted: PlantedRoot) -> None:
    """`lastfm_tags.db`: weights of a track's tags relative to its commonest, which has 100."""
    with sqlite3.connect(planted.root / "lastfm_tags.db") as database:
        database.execute("CREATE TABLE tids (tid TEXT PRIMARY KEY)")
        database.execute("CREATE TABLE tags (tag TEXT PRIMARY KEY)")
        database.execute("CREATE TABLE tid_tag (tid INT, tag INT, val FLOAT)")
        database.executemany("INSERT INTO tids VALUES (?)", [(track,) for track in planted.track_ids])
        names = [(term_name("tag", term),) for term in range(TERMS["tag"])]
        database.executemany("INSERT INTO tags VALUES (?)", names)
        database.executemany(
            "INSERT INTO tid_tag VALUES (?, ?, ?)",
            (
                (number + 1, term + 1, float(100 * count // max(counts.values())))
                for number, counts in enumerate(planted.draws["tag"])
                for term, count in counts.items()
            ),
        )
    database.close()


def write_lyrics(planted: PlantedRoot) -> None:
    """`mxm_dataset.db`, and the same as text below `text`."""
    words = [term_name("lyrics", term) for term in range(TERMS["lyrics"])]
    tracks = list(zip(planted.track_ids, planted.draws["lyrics"], strict=True))
    with sqlite3.connect(planted.root / "mxm_dataset.db") as database:
        database.execute("CREATE TABLE words (word TEXT PRIMARY KEY)")
        database.execute(
            "CREATE TABLE lyrics (track_id, mxm_tid INT, word TEXT, count INT, is_test INT, "
            "FOREIGN KEY(word) REFERENCES words(word))"
        )
        database.executemany("INSERT INTO words VALUES (?)", [(word,) for word in words])
        database.executemany(
            "INSERT INTO lyrics VALUES (?, ?, ?, ?, ?)",
            (
                (track, number, words[term], count, number % 10 == 0)
                for number, (track, counts) in enumerate(tracks)
                for term, count in counts.items()
            ),
        )
    database.close()
    lines = ["# made for tests", "%" + ",".join(words)]
    for number, (track, counts) in enumerate(tracks):
        pairs = ",".join(f"{term + 1}:{count}" for term, count in sorted(counts.items()))
        lines.append(f"{track},{number},{pairs}")
    (planted.root / "text").mkdir()
    (planted.root / "text" / "mxm_dataset_train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_plays(planted: PlantedRoot) -> None:
    """`train_triplets.txt.zip`, by user as published, and `sid_mismatches.txt` with one odd pair."""
    rows = sorted(
        (term, song_of(track), count)
        for track, counts in zip(planted.track_ids, planted.draws["taste"], strict=True)
        for term, count in counts.items()
    )
    lines = (f"{term_name('taste', user)}\t{song}\t{count}\n" for user, song, count in rows)
    with zipfile.ZipFile(planted.root / "train_triplets.txt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_triplets.txt", "".join(lines))
    mismatch = "ERROR: <SOUNKNOWN12AB0000000 TRUNKNO128F0000000> A  -  B  !=  C  -  D\n"
    (planted.root / "sid_mismatches.txt").write_text(mismatch, encoding="utf-8")


def write_lists(planted: PlantedRoot) -> None:
    """Years as text, tempi and genres zipped."""
    tracks = planted.track_ids
    years = (
        f"{year}<SEP>{track}<SEP>Artist<SEP>Title\n"
        for year, track in zip(planted.years.tolist(), tracks, strict=True)
    )
    (planted.root / "tracks_per_year.txt").write_text("".join(years), encoding="utf-8")
    tempi = (f"{track}\t{bpm}\n" for track, bpm in zip(tracks, planted.bpm.tolist(), strict=True))
    genres = (
        f"{track}\t{term_name('cdr_tag', term)}\n"
        for track, counts in zip(tracks, planted.draws["cdr_tag"], strict=True)
        for term in counts
    )
    for member, lines in (("msd_tempo_est.txt", tempi), ("CDR_genre.txt", genres)):
        path = (planted.root / member).with_suffix(".zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, "".join(lines))


def write_audio(planted: PlantedRoot, rng: np.random.Generator) -> None:
    """Three seconds of a tone as MP3, in folders by letters of the id."""
    import soundfile

    time = np.arange(3 * RATE_HZ) / RATE_HZ
    for number in range(planted.with_audio):
        track = planted.track_ids[number]
        path = planted.root / "audio" / track[2] / track[3] / f"{track}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        pitch_hz = 110.0 * 2 ** (planted.groups["tag"][number] / 2)
        tone = 0.3 * np.sin(2 * np.pi * pitch_hz * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(path, tone, RATE_HZ, format="MP3")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[2:]]
    made = write_root(Path(sys.argv[1]), *numbers)
    print(f"{made.root}: {len(made.track_ids)} tracks, {made.with_audio} with audio")
