"""IRMAS, training part: the predominant instrument of three-second excerpts.

Layout: `IRMAS-TrainingData/cel/[cel][cla]0058__1.wav`: instrument (folder and first bracket), where it is
known drums (`[dru]`, `[nod]`), genre, number of the song, and after `__` number of the excerpt; some names
have a further number and `__` in front (`008__[flu][nod][cla]0393__1.wav`). The testing part has several
labels an excerpt and is not used, as in the paper.

Split: 5 stratified folds by song: excerpts share a group where their song numbers are equal. A few numbers
were given to two songs; these then share a group, which is stricter and never leaks. A list with a split
(that of the authors of the paper is also by song) is used as it is.

Citation: Bosch, Janer, Fuhrmann, Herrera: A Comparison of Sound Segregation Techniques for Predominant
Instrument Recognition in Musical Audio Signals. ISMIR 2012.

Licence: CC BY-NC-SA 3.0.

Described at: https://www.upf.edu/web/mtg/irmas
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from kerasrep.evaluation.base import LabelledData, Task
from kerasrep.evaluation.readers.items import LabelledItems
from kerasrep.evaluation.readers.split_list import (
    audio_files,
    locator,
    read_split_list,
    required,
    split_list_of,
)

DESCRIBED_AT = "https://www.upf.edu/web/mtg/irmas"
AUDIO = "IRMAS-TrainingData"
#: Folders: cello, clarinet, flute, acoustic and electric guitar, organ, piano, saxophone, trumpet, violin,
#: voice.
CLASSES = ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
NAME = re.compile(r"(?:\d+__)?(?:\[\w+\])+(?P<song>\d+)__\d+")


def read(folder: Path, split_list: Path | None = None) -> LabelledData:
    """Read the excerpts of all instruments, by folder and name.

    Args:
        folder: Holds `IRMAS-TrainingData`.
        split_list: Read instead of the folders.

    Raises:
        DataError: Where the list or a folder is missing, or no task can be made of what is there.
    """
    listed = split_list_of(folder, split_list)
    if listed is not None:
        return read_split_list(
            listed, folder, "classification", locate=locator(AUDIO), group_of=_song, keep_groups=False
        )
    audio = required(folder, DESCRIBED_AT, AUDIO)
    items = LabelledItems("classification", audio)
    unclear = []
    for label in CLASSES:
        for path in audio_files(required(audio, DESCRIBED_AT, label)):
            song = _song(PurePosixPath(path.name))
            if not song:
                unclear.append(f"{label}/{path.name}")
            items.add(str(path), f"{label}/{path.stem}", path, label, group=song)
    if not unclear:
        return items.finish()
    what = f"{len(unclear)} names give no song, such as {unclear[0]!r}; each is taken as a song of its own"
    return items.finish([f"{audio}: {what}"])


def _song(name: PurePosixPath) -> str:
    """Group of an excerpt; empty where its name gives none."""
    found = NAME.fullmatch(name.stem)
    return f"song {found['song']}" if found else ""


TASKS = (
    Task(
        name="irmas",
        kind="classification",
        folder="irmas",
        described_at=DESCRIBED_AT,
        read=read,
        split="5 stratified folds by song",
        n_items=6_705,
        n_classes=len(CLASSES),
        citation="Bosch, Janer, Fuhrmann, Herrera: A Comparison of Sound Segregation Techniques for "
        "Predominant Instrument Recognition in Musical Audio Signals. ISMIR 2012.",
        licence="CC BY-NC-SA 3.0",
    ),
)
