"""What all readers of labelled tasks share: items are added one by one, and checked as a whole."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError, prints
from kerasrep.evaluation.base import TEST, TRAIN, VALIDATION, Kind, LabelledData
from kerasrep.storage.tables import is_unknown, parse_number
from kerasrep.storage.track_names import Keys, Unnamed, files_below

#: Of files that a table may name without their ending.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".flac", ".ogg"}
    | {".oga", ".opus", ".mp3", ".mp2", ".m4a", ".mp4", ".aac", ".webm", ".wma", ".wv", ".ape", ".ac3"}
)
#: Words for the parts of a split that are understood. `dev` is not: it is training to some and validation
#: to others.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}


class LabelledItems:
    """Items of a classification or regression task, on their way into `LabelledData`.

    Args:
        kind: `classification`, `regression` or `neighbours`.
        source: File or folder that errors about the whole name.
        keep_groups: Refuse a split with one group on both sides. Otherwise, which is for published splits,
            the groups are dropped and a notice says so.
    """

    def __init__(self, kind: Kind, source: Path, keep_groups: bool = True) -> None:
        if kind == "recommendation":
            raise ValueError("a recommendation task has plays, not labels")
        self._kind = kind
        self._source = source
        self._keep_groups = keep_groups
        self._places: dict[str, str] = {}
        self._paths: dict[Path, str] = {}
        self._labels: list[str | float] = []
        self._splits: list[str] = []
        self._groups: list[str] = []
        self._unlabelled = 0

    def add(self, place: str, item_id: str, path: Path, label: str, split: str = "", group: str = "") -> None:
        """Add an item.

        Args:
            place: `FILE, line N`, or whatever errors about this item name.
            item_id: Unique.
            path: Of its audio.
            label: Name of a class, or a number; an item whose label is unknown is counted and left out.
            split: One of `SPLIT_WORDS`, in any case; empty for all items, or for none.
            group: What must not stand on both sides; empty for an item that is a group of its own.

        Raises:
            DataError: Where the item is there already, its label is missing or no number, or its split is
                no known word.
        """
        for found in (self._places.get(item_id), self._paths.get(path)):
            if found is not None:
                raise DataError(
                    f"{place}: item {item_id[:80]!r} is there already ({found}); keep one of them"
                )
        if not prints(f"{item_id}{label}{group}"):
            raise DataError(
                f"{place}: item {item_id[:80]!r} has characters that cannot be printed; remove them"
            )
        if is_unknown(label):
            self._unlabelled += 1
            return
        word = "" if is_unknown(split) else split.lower()
        if word and word not in SPLIT_WORDS:
            known = ", ".join(SPLIT_WORDS)
            raise DataError(
                f"{place}: column 'split' has {split[:40]!r}; it takes {known}, or nothing at all"
            )
        if self._places and bool(word) != bool(self._splits[0]):
            raise DataError(f"{place}: some items have a split and others have none; give all of them one")
        self._labels.append(parse_number(label, place, "label") if self._kind == "regression" else label)
        self._places[item_id] = self._paths[path] = place
        self._splits.append(SPLIT_WORDS[word] if word else "")
        self._groups.append("" if is_unknown(group) else group)

    def finish(self, notices: Sequence[str] = ()) -> LabelledData:
        """Check the items as a whole.

        Args:
            notices: Lines the user must read, of the reader.

        Raises:
            DataError: Where nothing can be evaluated on them: fewer than two items, one class or value
                only, no item for training or for test, a class that is only in test, a group on both
                sides, or a class of a single group (it could only be tested, or only be learnt).
        """
        without = f" ({self._unlabelled} have no label)" if self._unlabelled else ""
        if len(self._places) < 2:
            raise DataError(
                f"{self._source}: has {len(self._places)} items{without}; a task needs at least 2"
            )
        labels = np.array(self._labels)
        if len(set(self._labels)) < 2:
            what = "value" if self._kind == "regression" else "class"
            raise DataError(
                f"{self._source}: all items have the {what} {self._labels[0]!r}; nothing to learn"
            )
        splits = np.array(self._splits) if self._splits[0] else None
        groups = None
        if any(self._groups):
            alone = (f"item {item_id}" for item_id in self._places)
            groups = np.array([group or own for group, own in zip(self._groups, alone, strict=True)])
        found = [*notices]
        if without:
            found.append(f"{self._source}: {self._unlabelled} items have no label and are left out")
        if splits is not None and self._kind != "neighbours":
            self._check_splits(labels, splits)
            problem = "" if groups is None else self._group_on_both_sides(splits == TEST, groups)
            if problem and self._keep_groups:
                raise DataError(f"{problem}; keep a group on one side")
            if problem:
                groups = None
                found.append(f"{problem}; the published split is used as it is")
        elif groups is not None and self._kind != "neighbours":
            self._check_groups(labels, groups)
        return LabelledData(tuple(self._places), tuple(self._paths), labels, splits, groups, tuple(found))

    def _check_splits(self, labels: NDArray[Any], splits: NDArray[np.str_]) -> None:
        """Refuse splits that leave nothing to learn or to test."""
        is_test = splits == TEST
        for part, rows in (("training", ~is_test), ("test", is_test)):
            if not rows.any():
                raise DataError(f"{self._source}: no item is for {part}; set column 'split' or leave it out")
        learnt = set(labels[~is_test].tolist())
        if len(learnt) < 2:
            only = learnt.pop()
            raise DataError(
                f"{self._source}: all items for training have the label {only!r}; nothing to learn"
            )
        unseen = set(labels[is_test].tolist()) - learnt
        if unseen and self._kind == "classification":
            raise DataError(
                f"{self._source}: no item for training has what the test asks for, the classes "
                f"{', '.join(map(repr, sorted(unseen)))}; add some or leave them out"
            )

    def _group_on_both_sides(self, is_test: NDArray[np.bool_], groups: NDArray[np.str_]) -> str:
        both = set(groups[is_test].tolist()) & set(groups[~is_test].tolist())
        if not both:
            return ""
        return f"{self._source}: {len(both)} groups are in training and in test, such as {min(both)[:80]!r}"

    def _check_groups(self, labels: NDArray[Any], groups: NDArray[np.str_]) -> None:
        """Refuse groups of which none can be held out with everything else still learnt."""
        pairs = set(zip(labels.tolist(), groups.tolist(), strict=True))
        if len({group for _, group in pairs}) < 2:
            only = str(groups[0])[:80]
            raise DataError(f"{self._source}: all items are in the group {only!r}; none could be held out")
        if self._kind != "classification":
            return
        n_groups = Counter(label for label, _ in pairs)
        single = sorted(label for label, number in n_groups.items() if number == 1)
        if len(single) == len(n_groups):
            raise DataError(
                f"{self._source}: each class is in one group only (column 'group' says the same as 'label'), "
                "so that no class could be learnt without its test items; choose other groups"
            )
        if single:
            raise DataError(
                f"{self._source}: of {len(n_groups)} classes {len(single)} are in one group only, so that "
                f"they could not be learnt without their test items: {', '.join(map(repr, single))}; give "
                "them other groups or leave them out"
            )


class AudioFolder:
    """The folder that paths of a table are relative to.

    Args:
        folder: The folder.
        allow_absolute: For tables that the program has written itself.
    """

    def __init__(self, folder: Path, allow_absolute: bool = False) -> None:
        self._folder, self._allow_absolute = folder, allow_absolute
        self._unnamed = Unnamed()
        self._missing = 0

    def find(self, written: str, place: str) -> Path:
        """The file that a table means (see `Keys`); where there is none, the path as it is written.

        Raises:
            DataError: As `path_below`.
        """
        problem = None
        try:
            path = path_below(self._folder, written, place, self._allow_absolute)
        except DataError as error:
            if not prints(written) or not written:
                raise
            problem = error
        else:
            if self._allow_absolute or is_file(path):
                return path
        row = self._unnamed.look(self._keys, written)
        if row is not None:
            return self._folder / self._keys.tracks[row]
        if problem is not None:
            raise problem
        self._missing += 1
        return path

    def notices(self, table: Path) -> list[str]:
        """Lines the user must read of the paths in a table."""
        found = [
            f"{table}: {count} paths name a file only without {overlooked}"
            for overlooked, count in self._unnamed.guessed.items()
        ]
        if self._missing and self._keys.tracks:
            found.append(
                f"{table}: {self._missing} paths name no file ({self._unnamed.compared(self._keys)})"
            )
        return found

    @functools.cached_property
    def _keys(self) -> Keys:
        return Keys(files_below(self._folder, AUDIO_SUFFIXES), self._folder)


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that cannot be, such as one that is too long, has none."""
    try:
        return path.is_file()
    except OSError:
        return False


def path_below(folder: Path, written: str, place: str, allow_absolute: bool = False) -> Path:
    """The path that a table writes, in a folder that it must not leave.

    Only the spelling is judged: links that the user has put into the folder are followed.

    Args:
        folder: What relative paths are relative to.
        written: Path with `/` between its parts.
        place: `FILE, line N`.
        allow_absolute: For tables that the program has written itself.

    Raises:
        DataError: Where the path is empty, absolute, cannot be printed, or leads out of the folder.
    """
    if not written or written == ".":
        raise DataError(f"{place}: column 'path' is empty")
    if not prints(written):
        raise DataError(f"{place}: path {written[:80]!r} has characters that cannot be printed; remove them")
    if allow_absolute and written.startswith("/"):
        return Path(written)
    normal = os.path.normpath(written)
    if normal.startswith(("/", "../")) or normal in {"..", "."}:
        raise DataError(
            f"{place}: path {written[:80]!r} leads out of {folder}; paths there are relative to it"
        )
    return folder / normal
