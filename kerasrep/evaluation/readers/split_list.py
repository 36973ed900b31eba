"""Labelled items from a table: a user's own, or a split list as the authors of the paper publish.

A user's table names its columns in the first line, in any order: `path` and `label`, and where they are
known `split` (train, validation or test), `group` (what must not stand on both sides, such as the artist)
and `item_id` or `index` (the path where it is missing). Other columns are ignored. Fields are separated by
tabs in `.tsv`, `.txt` and `.info`, by commas otherwise.

The lists beside the paper's code (https://github.com/eldrin/MTLMusicRepresentation-PyTorch, `eval/data`)
have no such line but four columns separated by tabs: index, path, split (train, valid, test, or nothing at
all where the task is cross-validated), label. Their paths begin where the authors' own folder did, some
with `/`: they are taken as relative to the folder of audio, and `locate` finds what has moved since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasrep.errors import DataError
from kerasrep.evaluation.base import Kind, LabelledData
from kerasrep.evaluation.readers.items import SPLIT_WORDS, LabelledItems, path_below
from kerasrep.storage.tables import read_fields

PLAIN_COLUMNS = ("index", "path", "split", "label")
REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("split", "group", "item_id", "index")

#: Where the audio of a list lies: folder and the path that the list writes -> file.
Locate = Callable[[Path, PurePosixPath], Path]


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
        table: CSV or TSV file.
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
    for row in _rows(table):
        path = path_below(audio, row.path, row.place, allow_absolute)
        inside = not path.is_absolute() or path.is_relative_to(audio)
        name = PurePosixPath(path.relative_to(audio).as_posix() if inside else path.as_posix())
        if locate is not None:
            path = locate(audio, name)
        group = row.group or (group_of(name) if group_of is not None else "")
        items.add(row.place, row.item_id or name.as_posix(), path, row.label, row.split, group)
    return items.finish()


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
    rows = read_fields(table)
    place, fields = next(rows, (f"{table}, line 1", []))
    if is_plain(fields):
        yield _plain_row(place, fields)
        for place, fields in rows:
            yield _plain_row(place, fields)
        return
    header = [field.strip().lower() for field in fields]
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{place}: lacks the column '{missing[0]}'; expected a line that names path, label "
            "[, split, group, item_id], or rows of index, path, split, label separated by tabs"
        )
    columns = {name: header.index(name) for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name in header}
    for place, fields in rows:
        if len(fields) != len(header):
            raise DataError(f"{place}: has {len(fields)} fields, the first line names {len(header)}")
        known = {name: fields[position].strip() for name, position in columns.items()}
        item_id = known.get("item_id") or known.get("index", "")
        split, group = known.get("split", ""), known.get("group", "")
        yield _Row(place, known["path"], known["label"], split, group, item_id)


def _plain_row(place: str, fields: list[str]) -> _Row:
    if len(fields) != len(PLAIN_COLUMNS):
        raise DataError(f"{place}: has {len(fields)} fields; expected {', '.join(PLAIN_COLUMNS)}")
    _, path, split, label = (field.strip() for field in fields)
    return _Row(place, path.lstrip("/"), label, split, "", "")
