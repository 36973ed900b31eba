"""Miniature data sets in the layouts in which the data sets of the paper are published.

Run as `python tests/evaluation/miniatures.py ROOT` to get a data root on which every task can be evaluated
in seconds. Files have the published names and formats; each class (or taste, or value) has a pitch of its
own, so that anything that hears finds it. Names, titles and plays are made up.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import soundfile

RATE_HZ = 22_050
SECONDS = 0.5

FMA_GENRES = ("Folk", "Hip-Hop", "Jazz", "Rock")
GTZAN_GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
DANCES = (
    *("Chacha", "Foxtrot", "Jive", "Pasodoble", "Quickstep", "Rumba", "Salsa", "Samba", "Slowwaltz"),
    *("Tango", "Viennesewaltz", "Waltz", "Wcswing"),
)
INSTRUMENTS = ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
EVENTS = "userid-timestamp-artid-artname-traid-traname.tsv"


def write_tone(path: Path, height: float) -> None:
    """Half a second of a tone; `height` from 0 to 1 is the pitch, four octaves from 110 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(np.frombuffer(path.name.encode(), np.uint8))  # no two sound alike
    time = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 110 * 16**height * time) + 0.01 * rng.normal(size=len(time))
    soundfile.write(path, tone, RATE_HZ)


def write_table(path: Path, rows: Iterable[Iterable[object]], delimiter: str = "\t") -> None:
    """Write rows as CSV or TSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def write_fma(folder: Path) -> None:
    """28 tracks of 4 genres in `fma_medium`, and rows of tracks that are in `large` only."""
    upper, lower = ["", "album", "artist", "set", "set", "track"], ["", "title", "id", "split", "subset"]
    rows: list[list[object]] = [upper, [*lower, "genre_top"], ["track_id", "", "", "", "", ""]]
    splits = ("training", "training", "training", "training", "validation", "test", "test")
    for kind, genre in enumerate(FMA_GENRES):
        for place, split in enumerate(splits):
            number = 2 + 137 * (7 * kind + place)
            subset = "small" if place % 2 else "medium"
            # Two tracks an artist; no artist in two parts.
            artist = 10 * kind + {"training": place // 2, "validation": 5, "test": 6}[split]
            rows.append([number, "An album,\nwith notes", artist, split, subset, genre])
            name = f"{number:06d}"
            write_tone(folder / "fma_medium" / name[:3] / f"{name}.mp3", kind / len(FMA_GENRES))
    rows.append([99_999, "Whole", 77, "training", "large", ""])
    write_table(folder / "fma_metadata" / "tracks.csv", rows, ",")


def write_gtzan(folder: Path) -> None:
    """60 excerpts of 10 genres; the fault-filtered lists have 50 of them."""
    lists: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for kind, genre in enumerate(GTZAN_GENRES):
        for number in range(6):
            name = f"{genre}/{genre}.{number:05d}.au"
            write_tone(folder / "genres" / name, kind / len(GTZAN_GENRES))
            part = ("train", "train", "train", "valid", "test", None)[number]
            if part:
                lists[part].append(name.replace(".au", ".wav"))
    for part, names in lists.items():
        (folder / f"{part}_filtered.txt").write_text("\n".join(names) + "\n")


def write_ext_ballroom(folder: Path) -> None:
    """78 tracks of 13 dances; the last one of each dance repeats the first."""
    root = ElementTree.Element("extendedballroom")
    for kind, dance in enumerate(DANCES):
        parent = ElementTree.SubElement(root, dance)
        first = 100_000 + 100 * kind
        for number in range(6):
            node = ElementTree.SubElement(parent, "song", id=str(first + number), artist="Band", title="Tune")
            if number == 5:
                node.set("version", str(first))
            write_tone(folder / dance / f"{first + number}.mp3", kind / len(DANCES))
    ElementTree.ElementTree(root).write(folder / "extendedballroom_v1.1.xml", encoding="utf-8")


def write_irmas(folder: Path) -> None:
    """66 excerpts of 11 instruments, of 5 songs each; some names have a number in front."""
    for kind, label in enumerate(INSTRUMENTS):
        for song, excerpt in ((0, 1), (0, 2), (1, 1), (2, 1), (3, 1), (4, 1)):
            number = 5 * kind + song + 1
            front = f"{song:03d}__[{label}][nod][cla]" if song == 4 else f"[{label}][pop_roc]"
            name = f"{front}{number:04d}__{excerpt}.wav"
            write_tone(folder / "IRMAS-TrainingData" / label / name, kind / len(INSTRUMENTS))


def write_emotion(folder: Path) -> None:
    """24 songs, of which 6 are for evaluation; both ratings follow the pitch."""
    songs: list[list[object]] = [
        ["song_id", "file_name", "Artist", "Song title", "Genre", "Mediaeval 2013 set"]
    ]
    ratings: list[list[object]] = [["song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence"]]
    for number in range(24):
        song = 2 + 3 * number
        part = "evaluation" if number % 4 == 3 else "development"
        songs.append([song, f"{song}.mp3", "Somebody\t", "A, song\t", "Rock\t", part])
        ratings.append([song, f"{1 + number / 3:.4f}", 1.1, f"{9 - number / 3:.4f}", 0.9])
        write_tone(folder / "clips_45seconds" / f"{song}.mp3", number / 24)
    write_table(folder / "annotations" / "songs_info.csv", songs, ",")
    write_table(folder / "annotations" / "static_annotations.csv", ratings, ",")


def played() -> list[tuple[int, int]]:
    """User and item of each play: 20 users, 40 items, two tastes; users mostly stay with theirs."""
    rng = np.random.default_rng(5)
    pairs = []
    for user in range(20):
        likely = np.where(np.arange(40) % 2 == user % 2, 0.6, 0.05)
        pairs += [(user, int(item)) for item in np.flatnonzero(rng.random(40) < likely)]
    return pairs


def write_jam(folder: Path) -> None:
    """20 users' jams and likes of 40 tracks, one more track without audio, and one malformed line."""
    tracks = [f"TRAAA{item:02d}128F{item:07d}" for item in range(41)]
    jams: list[list[object]] = [
        ["user_id", "artist", "title", "creation_date", "jam_id", "link", "spotify_uri"],
        ["u0", 'An "artist', "Nowhere", "2012-01-01", "jam-40-0", "", ""],
        ["u0", "A title with", "a", "tab", "2012-01-01", "jam-1-0", "", ""],
    ]
    likes: list[list[object]] = [["user_id", "jam_id"]]
    mapping: list[list[object]] = [["jam_id", "track_id"], ["jam-40-0", tracks[40]]]
    for number, (user, item) in enumerate(played()):
        jam = f"jam-{item}-{number}"
        mapping.append([jam, tracks[item]])
        if number % 3:
            jams.append([f"u{user}", "Artist", "Title", "2012-01-01", jam, "http://", ""])
        else:
            likes.append([f"u{user}", jam])
    for name, rows in (("jams", jams), ("likes", likes)):
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / "archive").mkdir(parents=True, exist_ok=True)
        (folder / "archive" / f"{name}.tsv").write_text(text)
    write_table(folder / "jam_to_msd.tsv", mapping)
    items = [(tracks[item], f"audio/{tracks[item]}.mp3") for item in range(40)]
    write_table(folder / "items.tsv", [("item", "path"), *items])
    for item in range(40):
        write_tone(folder / items[item][1], item % 2 / 2)


def write_lastfm1k(folder: Path) -> None:
    """Plays of 20 users, some of them twice; tracks without audio or id; audio named by track."""
    lines = []
    for number, (user, item) in enumerate(played()):
        line = [
            f"user_{user:06d}",
            "2009-04-08T01:57:47Z",
            "",
            'The "Band',
            f"{item:08d}-0000-4000-8000-abcdef",
        ]
        lines += ["\t".join([*line, "Song\u2028of lines"])] * (1 + number % 2)
    lines += ["user_000000\t2009-04-08T01:57:47Z\t\tBand\t\tNo id", "user_000000\t\t\tBand\tother-track\tx"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for item in range(40):
        write_tone(folder / "audio" / f"{item // 10}" / f"{item:08d}-0000-4000-8000-abcdef.mp3", item % 2 / 2)


def write_demo(folder: Path) -> None:
    """40 tracks of 10 tune groups, labelled for all tasks on the embedded corpus."""
    paths = [f"audio/t{number:02d}.wav" for number in range(40)]
    groups = [f"tune {number // 4}" for number in range(40)]
    for number, path in enumerate(paths):
        write_tone(folder / path, number % 2 / 2 + number / 400)
    for name in ("dance", "metre", "composer", "lead", "tempo"):
        labels = [100 + 40 * (number % 2) if name == "tempo" else "ab"[number % 2] for number in range(40)]
        write_table(
            folder / f"{name}.tsv", [("path", "label", "group"), *zip(paths, labels, groups, strict=True)]
        )
    names = [f"t{number:02d}" for number in range(40)]
    write_table(folder / "items.tsv", [("item", "path", "group"), *zip(names, paths, groups, strict=True)])
    plays = [(f"listener {user}", names[item], 1 + item % 3) for user, item in played()]
    write_table(folder / "plays.tsv", [("user", "item", "plays"), *plays])


#: Folder of a data set -> what writes its miniature.
MINIATURES: dict[str, Callable[[Path], None]] = {
    "fma": write_fma,
    "gtzan": write_gtzan,
    "ext_ballroom": write_ext_ballroom,
    "irmas": write_irmas,
    "emotion": write_emotion,
    "jam": write_jam,
    "lastfm1k": write_lastfm1k,
    "demo": write_demo,
}


def write_all(root: Path) -> None:
    """Write all miniatures below a data root."""
    for folder, write in MINIATURES.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        write(root / folder)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
