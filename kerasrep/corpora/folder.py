"""Any folder of audio, with labels in CSV, TSV or Parquet tables keyed by path or file stem.

A track's id is its path relative to the folder, with `/` between the parts. Tables are described in
`recipe.corpora.FolderCorpus`; each count source's document is a track (give each track of an artist the
artist's tags to learn from artists). Hidden files and folders are not searched.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrep.corpora.base import Corpus, Track
from kerasrep.corpora.copies import copies_of, known_copies, with_copies_together
from kerasrep.corpora.folder_labels import TagTables, read_labels
from kerasrep.corpora.stored_labels import file_state
from kerasrep.corpora.track_keys import Tally
from kerasrep.data.decoders.suffixes import (
    LINKS,
    known_suffixes,
    looked_for,
    passed_over,
    read_suffixes,
)
from kerasrep.errors import DataError
from kerasrep.recipe.base import in_order
from kerasrep.recipe.corpora import FolderCorpus, TagGroups
from kerasrep.recipe.schema import fingerprint
from kerasrep.report.wording import counted
from kerasrep.sources.labels import RawLabels
from kerasrep.sources.readers.jams import jams_path
from kerasrep.sources.readers.mirdata_labels import annotation_files
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import user_path
from kerasrep.storage.tables import read_table
from kerasrep.storage.track_names import Keys

FORMAT_VERSION = 3
#: Groups that a line names.
SHOWN_GROUPS = 5
#: Crops of one track are told from those of another.
LEAST_VALIDATION_TRACKS = 2


def open_folder(settings: FolderCorpus, progress: bool = False) -> Corpus:
    """Find the audio, read the tables, and split by groups.

    Args:
        settings: The folder and its tables.
        progress: Show a bar where many files' tags are read.

    Raises:
        DataError: Where the folder or a table cannot be read, a table is malformed or names no track of
            the folder, or there are too few groups for training and validation. (Where groups come from tags,
            single tracks are held out then.)
    """
    root = user_path(settings.root)
    passed: Counter[str] = Counter()
    paths, skipped = _find_audio(root, passed)
    keys = Keys(list(paths), root)
    notices = [f"{root}: {line}"] if (line := passed_over(passed)) else []
    tags = functools.cache(lambda: _read_tags(root, paths, notices, progress))
    fractions = settings.validation_fraction, settings.evaluation_fraction
    groups = _read_groups(settings, root, keys, notices, tags)
    audio_fingerprint = _audio_fingerprint(root, paths)
    known, copies = known_copies(audio_fingerprint), copies_of(paths)
    groups_of_all = with_copies_together(_or_itself(paths, groups), known, copies, notices)
    if groups and isinstance(settings.groups, TagGroups) and not _divide(groups_of_all, *fractions)[2]:
        notices.append(_held_out_singly(root, groups))
        groups, groups_of_all = {}, with_copies_together(_or_itself(paths, {}), known, copies, [])
    splits = split_groups(groups_of_all, *fractions, root)
    notices += _kept_apart(root, groups_of_all, splits)
    pools = _read_pools(settings, root, keys, splits, notices)
    training = frozenset(track for track, split in splits.items() if split == "train")
    labels: dict[str, RawLabels] = {}
    missing: dict[str, str] = {}
    for source in in_order(settings.tables):
        table = settings.table(source)
        try:
            labels[source] = read_labels(source, root, table, keys, training, notices, tags)
        except DataError as error:
            if not table.optional:
                raise
            missing[source] = str(error).removeprefix(f"{root}: ").partition(";")[0]
    tracks = [
        Track(
            track_id=track,
            path=path,
            split=splits[track],
            title=path.stem,
            label=groups.get(track, ""),
            pool=pools.get(track, ""),
        )
        for track, path in paths.items()
    ]
    return Corpus(
        name="folder",
        fingerprint=fingerprint([audio_fingerprint, splits, *_table_states(settings, root, keys.tracks)]),
        tracks=tracks,
        labels=labels,
        notices=notices,
        skipped=skipped,
        audio_fingerprint=audio_fingerprint,
        missing=missing,
        copies_known=known is not None,
    )


def split_groups(
    groups: Mapping[str, str], validation_fraction: float, evaluation_fraction: float, where: Path
) -> dict[str, str]:
    """Split of each track, the same in every run and on every machine.

    Groups stand in the order of their SHA-256, one that has most of the tracks behind the others; the first
    are kept for evaluation, the next for validation, the rest for training. At least one group is in
    evaluation where any part of the groups is asked for, and in validation as many as have two tracks.

    Args:
        groups: Track id -> group.
        validation_fraction: Part of the groups.
        evaluation_fraction: Part of the groups.
        where: Named in the error.

    Raises:
        DataError: Where no group is left for training.
    """
    evaluation, validation, training = _divide(groups, validation_fraction, evaluation_fraction)
    if not training:
        lower = "set corpus.evaluation_fraction=0, or lower" if evaluation else "or lower"
        raise DataError(
            f"{where}: {counted(len(evaluation) + len(validation), 'group')} of tracks (copies are in one) "
            f"leave none for training after {len(validation)} for validation and {len(evaluation)} for "
            f"evaluation; add tracks, {lower} corpus.validation_fraction"
        )
    split = dict.fromkeys(training, "train")
    split.update(dict.fromkeys(evaluation, "evaluation"))
    split.update(dict.fromkeys(validation, "validation"))
    return {track: split[group] for track, group in groups.items()}


def _divide(
    groups: Mapping[str, str], validation_fraction: float, evaluation_fraction: float
) -> tuple[list[str], list[str], list[str]]:
    """Groups for evaluation, for validation, and for training; see `split_groups`."""
    sizes = Counter(groups.values())
    ordered = sorted(
        sizes, key=lambda group: (2 * sizes[group] > len(groups), hashlib.sha256(group.encode()).digest())
    )
    first = max(1, round(evaluation_fraction * len(ordered))) if evaluation_fraction else 0
    last = first + max(1, round(validation_fraction * len(ordered)))
    while sum(sizes[group] for group in ordered[first:last]) < LEAST_VALIDATION_TRACKS and last < len(
        ordered
    ):
        last += 1
    return ordered[:first], ordered[first:last], ordered[last:]


def _kept_apart(root: Path, groups: Mapping[str, str], splits: Mapping[str, str]) -> list[str]:
    """Which tracks nothing trains on, in a line for people, where there are any."""
    kept = [track for track, split in splits.items() if split == "evaluation"]
    if not kept:
        return []
    names = sorted({groups[track] for track in kept})
    named = ", ".join(names[:SHOWN_GROUPS])
    more = f" and {len(names) - SHOWN_GROUPS} more" if len(names) > SHOWN_GROUPS else ""
    return [
        f"{root}: {counted(len(kept), 'track')} of {counted(len(names), 'group')} kept apart for evaluation "
        f"({named}{more}); tracks.tsv of the prepared folder lists them"
    ]


def _find_audio(root: Path, passed: Counter[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Track id -> file, by id; and the files whose names cannot be used. Counts what is passed over."""
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; set corpus.root to the folder of audio")
    found: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        passed[LINKS] += sum(Path(folder, name).is_symlink() for name in subfolders)
        for name in names:
            path = Path(folder, name)
            suffix = path.suffix.lower()
            if name.startswith(".") or suffix not in read_suffixes():
                passed[suffix] += not name.startswith(".") and suffix in known_suffixes()
                continue
            track = path.relative_to(root).as_posix()
            if track.isprintable():
                found[track] = path
            else:  # lone surrogates (names that are not UTF-8), tabs, line ends
                skipped[track] = "name is not printable UTF-8; rename the file"
    if not found:
        raise DataError(f"{root}: holds no audio files ({looked_for()})")
    return dict(sorted(found.items())), skipped


def _read_tags(root: Path, paths: Mapping[str, Path], notices: list[str], progress: bool) -> TagTables:
    tables = TagTables.of(root, paths, progress)
    notices.append(f"{root}: {tables.tags.describe()}")
    return tables


def _read_groups(
    settings: FolderCorpus, root: Path, keys: Keys, notices: list[str], tags: Callable[[], TagTables]
) -> dict[str, str]:
    """Track id -> group, for the tracks that have one."""
    if settings.groups is None:
        return {}
    if isinstance(settings.groups, TagGroups):
        where, groups = root, tags().groups(settings.groups.fields, keys.tracks)
    else:
        where = root / settings.groups
        groups = _read_words(where, "track", "group", keys, notices)
    alone = len(keys.tracks) - len(groups)
    if alone:
        notices.append(
            f"{where}: {alone} of {len(keys.tracks)} tracks have no group: each is split by itself"
        )
    return groups


def _or_itself(tracks: Iterable[str], groups: Mapping[str, str]) -> dict[str, str]:
    """Track -> group, for all tracks: one without a group is a group of its own."""
    return {track: groups.get(track, f"track {track}") for track in tracks}


def _held_out_singly(root: Path, groups: Mapping[str, str]) -> str:
    names = sorted(set(groups.values()))
    few = f"of one group ({names[0]})" if len(names) == 1 else f"of {len(names)} groups ({', '.join(names)})"
    return (
        f"{root}: all files are {few}, so that single tracks are held out; those of one album on both sides "
        "make validation look better than it is"
    )


def _read_words(path: Path, column: str, word: str, keys: Keys, notices: list[str]) -> dict[str, str]:
    """Track id -> the one word that a table says of it."""
    words: dict[str, str] = {}
    tally = Tally(path)
    for place, (key, text) in read_table(path, (column, word)):
        row = tally.row_of(key, place, keys, column)
        if row is None or tally.is_unknown(text):
            continue
        track = keys.tracks[row]
        if words.setdefault(track, text) != text:
            raise DataError(
                f"{place}: '{track}' is in {word} '{words[track]}' already; a track has one {word}"
            )
    tally.close(keys, notices)
    return words


def _read_pools(
    settings: FolderCorpus, root: Path, keys: Keys, splits: Mapping[str, str], notices: list[str]
) -> dict[str, str]:
    """Track id -> pool."""
    if settings.pools is None:
        return {}
    path, shares = root / settings.pools.path, settings.pools.shares
    pools = _read_words(path, settings.pools.track, settings.pools.column, keys, notices)
    training = [track for track, split in splits.items() if split == "train"]
    for track in training:
        if pools.get(track) not in shares:
            found = f"in pool '{pools[track]}'" if track in pools else "in no pool"
            raise DataError(
                f"{path}: '{track}' is {found}, corpus.pools.shares has {', '.join(shares)}; correct either"
            )
    empty = sorted(set(shares) - {pools[track] for track in training})
    if empty:
        raise DataError(
            f"{path}: no training track is in pool '{empty[0]}'; remove it from corpus.pools.shares"
        )
    return pools


def _audio_fingerprint(root: Path, paths: Mapping[str, Path]) -> str:
    """Changes with a file's name, size or time of change."""
    audio = []
    for track, path in paths.items():
        try:
            status = path.stat()
            state = [status.st_size, status.st_mtime_ns]
        except OSError:  # a dangling link; decoding will say so
            state = []
        audio.append([track, *state])
    return fingerprint([FORMAT_VERSION, str(root.resolve()), audio])


def _table_states(settings: FolderCorpus, root: Path, tracks: Sequence[str]) -> list[Any]:
    """Change with a table's bytes and the names of its columns."""
    tables = {}
    for source in sorted(settings.tables):
        table = settings.table(source)
        content: Any = sha256_of(root / table.path) if table.path else "tags"  # which change with their files
        if table.from_ == "jams":
            content = [file_state(jams_path(root, track)) for track in tracks]
        elif table.from_ == "mirdata":
            files = annotation_files(table.dataset or "", root, f"corpus.tables.{source}")
            content = [file_state(path) for path in files]
        tables[str(source)] = [content, table.model_dump(exclude={"path", "optional"})]
    states = [tables, sha256_of(root / settings.groups) if isinstance(settings.groups, str) else None]
    pools = settings.pools  # whose shares change nothing that is prepared
    return [*states, [sha256_of(root / pools.path), pools.track, pools.column]] if pools else states
