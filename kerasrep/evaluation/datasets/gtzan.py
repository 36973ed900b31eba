"""GTZAN: ten genres of 100 excerpts each.

Layout: `genres/disco/disco.00038.au`, or `genres_original/disco/disco.00038.wav` as later mirrors have it.

Split: the fault-filtered lists of Kereliuk, Sturm and Larsen (443 training, 197 validation, 290 test),
which leave out repeated, distorted and mislabelled excerpts and keep artists apart. They are read where
the folder has `train_filtered.txt`, `valid_filtered.txt` and `test_filtered.txt`
(https://github.com/coreyker/dnn-mgr), each line either a path (`blues/blues.00029.wav`) or, as first
published, a number from 1 to 1,000 that counts the excerpts class by class in alphabetical order. Without
them all excerpts are cross-validated, and a notice says what that is worth.

Citation: Tzanetakis, Cook: Musical genre classification of audio signals. IEEE Transactions on Speech and
Audio Processing 10(5), 2002. Faults: Sturm: The GTZAN dataset. arXiv 1306.1461. Lists: Kereliuk, Sturm,
Larsen: Deep Learning and Music Adversaries. IEEE Transactions on Multimedia 17(11), 2015.

Licence: none is stated; excerpts of commercial recordings, for research.

Described at: http://marsyas.info/downloads/datasets.html
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kerasrep.errors import DataError
from kerasrep.evaluation.base import TEST, TRAIN, VALIDATION, LabelledData, Task
from kerasrep.evaluation.readers.items import LabelledItems, path_below
from kerasrep.evaluation.readers.split_list import (
    audio_files,
    locator,
    read_split_list,
    required,
    split_list_of,
)
from kerasrep.storage.tables import read_fields

DESCRIBED_AT = "http://marsyas.info/downloads/datasets.html"
AUDIO = ("genres", "genres_original", "Data/genres_original")
CLASSES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
PER_CLASS = 100
N_ITEMS = 1_000
N_FILTERED_ITEMS = 930
FILTERED_LISTS = {TRAIN: "train_filtered.txt", VALIDATION: "valid_filtered.txt", TEST: "test_filtered.txt"}
UNFILTERED_NOTICE = (
    "gtzan: without the fault-filtered lists (train_filtered.txt, valid_filtered.txt, test_filtered.txt) "
    "repeated excerpts and artists stand on both sides: scores are too high, and compare with unfiltered "
    "ones only"
)


def read(folder: Path, split_list: Path | None = None) -> LabelledData:
    """Read the excerpts of the fault-filtered lists where they are there, else all.

    Args:
        folder: Holds the folder of audio.
        split_list: Read instead of either.

    Raises:
        DataError: Where a list is missing or malformed, or there is no audio.
    """
    listed = split_list_of(folder, split_list)
    if listed is not None:
        return read_split_list(listed, folder, "classification", locate=locator(*AUDIO))
    present = [name for name in FILTERED_LISTS.values() if (folder / name).exists()]
    if not present:
        return _read_all(folder)
    if len(present) < len(FILTERED_LISTS):
        missing = ", ".join(name for name in FILTERED_LISTS.values() if name not in present)
        raise DataError(f"{folder}: has {present[0]} but no {missing}; all three lists belong together")
    return _read_filtered(folder)


def _read_filtered(folder: Path) -> LabelledData:
    items = LabelledItems("classification", folder)
    locate = locator(*AUDIO)
    for split, table in FILTERED_LISTS.items():
        for place, fields in read_fields(folder / table):
            written = fields[0].strip() if fields else ""
            path = path_below(folder, _numbered(written) or written, place)
            label = path.parent.name
            if label not in CLASSES:
                raise DataError(f"{place}: {written[:80]!r} is in none of the folders {', '.join(CLASSES)}")
            name = PurePosixPath(path.relative_to(folder).as_posix())
            items.add(place, path.stem, locate(folder, name), label, split)
    return items.finish()


def _numbered(written: str) -> str:
    """Path of an excerpt that is listed by its number; empty for anything else."""
    if not written.isdecimal() or not 1 <= int(written) <= N_ITEMS:
        return ""
    label, number = CLASSES[(int(written) - 1) // PER_CLASS], (int(written) - 1) % PER_CLASS
    return f"{label}/{label}.{number:05d}.au"


def _read_all(folder: Path) -> LabelledData:
    audio = required(folder, DESCRIBED_AT, *AUDIO)
    items = LabelledItems("classification", audio)
    for label in CLASSES:
        if not (audio / label).is_dir():
            raise DataError(f"{audio}: has no folder {label}; the data set is described at {DESCRIBED_AT}")
        for path in audio_files(audio / label):
            items.add(str(path), path.stem, path, label)
    return items.finish([UNFILTERED_NOTICE])


TASKS = (
    Task(
        name="gtzan",
        kind="classification",
        folder="gtzan",
        described_at=DESCRIBED_AT,
        read=read,
        split="fault-filtered lists; 5 stratified folds of all excerpts where they are missing",
        n_items=N_ITEMS,
        n_classes=len(CLASSES),
        citation="Tzanetakis, Cook: Musical genre classification of audio signals. IEEE TSAP 10(5), 2002.",
        licence="none is stated; excerpts of commercial recordings, for research",
    ),
)
