"""Labelled items from a table: a user's own, or a split list as the authors of the paper publish.

A user's table names its columns in the first line, in any order: `path` and `label`, and where they are
known `split` (train, validation or test), `group` (what must not stand on both sides, such as the artist)
and `item_id` or `index` (the path where it is missing). Other columns are ignored; see `tables`.

The lists beside the paper's code (https://github.com/eldrin/MTLMusicRepresentation-PyTorch, `eval/data`)
have no such line but four columns separated by tabs: index, path, split (train, valid, test, or nothing at
all where the task is cross-validated), label. Their paths begin where the authors' own folder did, some
with `/`: they are taken as relative to the folder of audio, and `locate` finds what has moved since.

Mirrors move folders and change formats, lists keep the old names: `locate` and its like say where files of
a data set may lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasrep.errors import DataError
from kerasrep.evaluation.base import Kind, LabelledData
from kerasrep.evaluation.readers.items import SPLIT_WORDS, AudioFolder, LabelledItems, path_below
from kerasrep.storage.tables import PARQUET_ENDINGS, is_unknown, read_fields, read_table

PLAIN_COLUMNS = ("index", "path", "split", "label")
REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("split", "group", "item_id", "index")

#: Where the audio of a list lies: folder and the path that the list writes -> file.
Locate = Callable[[Path, PurePosixPath], Path]
#: In a data set's folder, read instead of the published split where it is there.
SPLIT_LIST = "split.tsv"
#: Formats in which mirrors keep audio, the most likely first.
AUDIO_ENDINGS = (".wav", ".mp3", ".au", ".flac", ".ogg", ".opus", ".m4a")


@dataclass(frozen=True)
class _Row:
    """One row of a list; what is not known is empty."""

    place: str
    path: str
    label: str
    split: str
    group: str
    item_id: str


def read_split_list(
    table: Path,
    audio: Path,
    kind: Kind,
    *,
    allow_absolute: bool = False,
    locate: Locate | None = None,
    group_of: Callable[[PurePosixPath], str] | None = None,
    keep_groups: bool = True,
) -> LabelledData:
    """Read a table of labelled items, of either form.

    Args:
        table: CSV, TSV or Parquet file.
        audio: Folder that its paths are relative to.
        kind: `classification` or `regression`.
        allow_absolute: Take absolute paths as they are; for tables that the program has written itself.
        locate: Finds the file of a path, for data sets whose layout differs from the list's.
        group_of: Gives the group of a path where the table names none.
        keep_groups: Refuse a split with one group on both sides (see `LabelledItems`).

    Returns:
        The items in the order of the table.

    Raises:
        DataError: Where the table cannot be read, has neither form, or no task can be made of it; also
            where a path leads out of `audio`.
    """
    items = LabelledItems(kind, table, keep_groups)
    folder = AudioFolder(audio, allow_absolute)
    alone = n_rows = 0
    for row in _rows(table):
        if locate is None:
            path = folder.find(row.path, row.place)
        else:
            path = path_below(audio, row.path, row.place, allow_absolute)
        inside = not path.is_absolute() or path.is_relative_to(audio)
        name = PurePosixPath(path.relative_to(audio).as_posix() if inside else path.as_posix())
        if locate is not None:
            path = locate(audio, name)
        group = row.group or (group_of(name) if group_of is not None else "")
        n_rows, alone = n_rows + 1, alone + is_unknown(group)
        items.add(row.place, row.item_id or name.as_posix(), path, row.label, row.split, group)
    notices = folder.notices(table)
    if 0 < alone < n_rows:
        notices.append(f"{table}: {alone} of {n_rows} items have no group: each is one by itself")
    return items.finish(notices)


def is_plain(first: list[str]) -> bool:
    """Whether a table whose first line has these fields is a published list without a line of names.

    Such a list begins with a number, which is no name of a column; all four fields are checked, so that a
    table of another kind is not taken for one.
    """
    if len(first) != len(PLAIN_COLUMNS):
        return False
    index, path, split, label = (field.strip() for field in first)
    return index.isdecimal() and bool(path and label) and (not split or split.lower() in SPLIT_WORDS)


def _rows(table: Path) -> Iterator[_Row]:
    """Rows of either form."""
    text = table.suffix.lower() not in PARQUET_ENDINGS
    rows = read_fields(table) if text else iter(())
    place, fields = next(rows, ("", []))
    if is_plain(fields):
        yield _plain_row(place, fields)
        for place, fields in rows:
            yield _plain_row(place, fields)
        return
    for place, (path, label, split, group, item_id, index) in read_table(
        table, REQUIRED_COLUMNS, OPTIONAL_COLUMNS
    ):
        yield _Row(place, path, label, split, group, item_id or index)


def _plain_row(place: str, fields: list[str]) -> _Row:
    if len(fields) != len(PLAIN_COLUMNS):
        raise DataError(f"{place}: has {len(fields)} fields; expected {', '.join(PLAIN_COLUMNS)}")
    _, path, split, label = (field.strip() for field in fields)
    return _Row(place, path.lstrip("/"), label, split, "", "")


def split_list_of(folder: Path, named: Path | None) -> Path | None:
    """The list that the user has named, else the one in the folder, if any."""
    return named or first_there(folder, SPLIT_LIST)


def first_there(folder: Path, *names: str) -> Path | None:
    """The first of some files or folders that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def required(folder: Path, described_at: str, *names: str) -> Path:
    """The first of some files or folders that is there.

    Raises:
        DataError: Where none is; names all of them and the page of the data set.
    """
    found = first_there(folder, *names)
    if found is None:
        wanted = " or ".join(names)
        raise DataError(f"{folder}: has no {wanted}; the data set is described at {described_at}")
    return found


def audio_files(folder: Path) -> list[Path]:
    """Files with an ending of `AUDIO_ENDINGS` right in a folder, by name; hidden ones excepted."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in AUDIO_ENDINGS)
    return sorted(path for path in files if not path.name.startswith("."))


def locator(*folders: str) -> Locate:
    """A function that finds the audio of a listed path: as it is written, else moved, else in another format.

    Where a list and the published archive differ, they do so in leading folders and in the format. So the
    last two parts of the path (`000/000002.mp3`, `disco/disco.00038.au`) are looked for in `folders`, and
    then all places again with each of `AUDIO_ENDINGS`. Where nothing is found, the path in the first of
    `folders` is given, which is the published one.

    Args:
        folders: Folders of audio, relative to that of the data set; "" for itself.
    """

    def locate(audio: Path, name: PurePosixPath) -> Path:
        tail = PurePosixPath(*name.parts[-2:])
        places = [audio / name, *(audio / folder / tail for folder in folders)]
        others = (place.with_suffix(ending) for place in places for ending in AUDIO_ENDINGS)
        return next((place for place in (*places, *others) if place.is_file()), places[1])

    return locate
