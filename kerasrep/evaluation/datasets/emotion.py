"""Emotion in Music, MediaEval 2013 (also called 1000 songs): arousal and valence of 744 songs.

Layout: `annotations/static_annotations.csv` (`song_id, mean_arousal, std_arousal, mean_valence,
std_valence`; mean ratings from 1 to 9 of a whole excerpt), `annotations/songs_info.csv` (`song_id, ...,
Mediaeval 2013 set`) and `clips_45seconds/2.mp3`. The two archives of audio and annotations may also be
unpacked into one folder.

Split: the data set's own: 619 songs for development, 125 for evaluation. A split list holds the values of
one of the two tasks, so it is `split_arousal.tsv` or `split_valence.tsv` here, not `split.tsv`.

Citation: Soleymani, Caro, Schmidt, Sha, Yang: 1000 songs for emotional analysis of music. CrowdMM 2013.

Licence: songs of the Free Music Archive under Creative Commons licences; annotations for research.

Described at: https://cvml.unige.ch/databases/emoMusic/
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from kerasrep.errors import DataError
from kerasrep.evaluation.base import TEST, TRAIN, LabelledData, Task
from kerasrep.evaluation.readers.items import LabelledItems
from kerasrep.evaluation.readers.split_list import first_there, locator, read_split_list, required
from kerasrep.storage.tables import read_table

Dimension = Literal["arousal", "valence"]

DESCRIBED_AT = "https://cvml.unige.ch/databases/emoMusic/"
AUDIO = ("clips_45seconds", "audio/clips_45seconds")
ANNOTATIONS = ("annotations/static_annotations.csv", "static_annotations.csv")
SONGS = ("annotations/songs_info.csv", "songs_info.csv")
SET_COLUMN = "Mediaeval 2013 set"
SPLITS = {"development": TRAIN, "evaluation": TEST}


def read(folder: Path, split_list: Path | None = None, *, dimension: Dimension) -> LabelledData:
    """Read the songs that were annotated, in the order of the annotations.

    Args:
        folder: Holds annotations and clips.
        split_list: Read instead of the annotations.
        dimension: Which rating is the label.

    Raises:
        DataError: Where a list or table is missing or malformed, or a song's set is not known.
    """
    listed = split_list or first_there(folder, f"split_{dimension}.tsv")
    if listed is not None:
        # Lists have clips_45seconds/2.mp3, so the folder above the clips is what may have moved.
        return read_split_list(listed, folder, "regression", locate=locator("", "audio"))
    annotations = required(folder, DESCRIBED_AT, *ANNOTATIONS)
    splits = _splits(required(folder, DESCRIBED_AT, *SONGS))
    audio = first_there(folder, *AUDIO) or folder / AUDIO[0]
    items = LabelledItems("regression", annotations)
    for place, (song, value) in read_table(annotations, ("song_id", f"mean_{dimension}")):
        if song not in splits:
            raise DataError(f"{place}: song {song[:40]!r} is not in {SONGS[0]}; get both files again")
        if not song.isdecimal():
            raise DataError(f"{place}: column 'song_id' has {song[:40]!r}, a number was expected")
        items.add(place, song, audio / f"{song}.mp3", value, splits[song])
    return items.finish()


def _splits(table: Path) -> dict[str, str]:
    """Song -> part of the split."""
    splits = {}
    for place, (song, part) in read_table(table, ("song_id", SET_COLUMN)):
        if part not in SPLITS:
            raise DataError(f"{place}: column '{SET_COLUMN}' has {part[:40]!r}; it takes {', '.join(SPLITS)}")
        splits[song] = SPLITS[part]
    return splits


def _task(dimension: Dimension) -> Task:
    return Task(
        name=f"emotion_{dimension}",
        kind="regression",
        folder="emotion",
        described_at=DESCRIBED_AT,
        read=partial(read, dimension=dimension),
        split="the data set's own: development and evaluation",
        n_items=744,
        citation="Soleymani, Caro, Schmidt, Sha, Yang: 1000 songs for emotional analysis of music. "
        "CrowdMM 2013.",
        licence="songs under Creative Commons licences of the Free Music Archive; annotations for research",
    )


TASKS = (_task("arousal"), _task("valence"))
